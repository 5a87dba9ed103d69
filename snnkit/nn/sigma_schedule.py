"""The shrinking width of delay kernels: wide at first, so that distant taps give a gradient, one or two in the end."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from snnkit.nn._delay_positions import Positioned
from snnkit.ops.delay import Triangle


class SigmaSchedule:
    """Multiply SIG of all delay layers by (target / start)^(1 / final_epoch) after each epoch, in place, in float32.

    Args:
        model: every delay layer in it that has a width takes part.
        final_epoch: number of epochs until the target is reached; the paper takes a quarter of all. 0: SIG is the
            target from the start.
        start: SIG in the first epoch; default K // 2 of each layer. Written into the layers here.
        target: SIG in the end. Default: 1 in a layer with a triangle (half its base is SIG + 1 = 2), else 0.23 (of the
            gauss, sigma = SIG + 0.27 = 0.5).

    Raises:
        ValueError: the model has no delay layer with a width, or a number is out of range.

    As in the authors' code a layer whose SIG is not above 0.23 stays as it is. On resume load the model's state, then
    this one's (``state_dict``). Source: Hammouamri et al. 2024 (arXiv 2306.17670) and its code.

    >>> from snnkit.nn.delay import DelayLinear
    >>> layer = DelayLinear(2, 2, max_delay=25)
    >>> schedule = SigmaSchedule(layer, final_epoch=37)
    >>> schedule.step()
    >>> round(layer.SIG[0, 0, 0, 0].item(), 4)
    10.7836
    """

    def __init__(
        self, model: nn.Module, final_epoch: int, start: float | None = None, target: float | None = None
    ) -> None:
        whole = isinstance(final_epoch, int) and final_epoch >= 0
        if not whole or not all(w is None or 0 < w < math.inf for w in (start, target)):
            raise ValueError(
                f"SigmaSchedule expects a whole final_epoch >= 0 and finite start > 0, target > 0, got {final_epoch}, "
                f"{start}, {target}."
            )
        self.epoch, self.final_epoch = 0, final_epoch
        self._layers: list[tuple[nn.Parameter, float]] = []
        for layer in model.modules():
            if isinstance(layer, Positioned) and layer.SIG is not None:
                last = target or (1.0 if isinstance(layer.profile, Triangle) else 0.23)
                first = (start or max(layer.max_delay // 2, last)) if final_epoch else last
                self._layers.append((layer.SIG, (last / first) ** (1 / max(final_epoch, 1))))
                nn.init.constant_(layer.SIG, first)
        if not self._layers:
            raise ValueError("SigmaSchedule: the model has no delay layer with a width (profile Gauss, or width=...).")

    @torch.no_grad()
    def step(self) -> None:
        """End an epoch."""
        if self.epoch < self.final_epoch:
            for width, factor in self._layers:
                if width.max().item() > 0.23:
                    width.mul_(factor)
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Number of epochs that have ended; the widths are in the model's state."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken."""
        self.epoch = int(state["epoch"])
