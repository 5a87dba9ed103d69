"""The adaptive neuron layer of Bittar and Garner 2022 ("sparch"): parameters drawn at random, and a random start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnkit import equations
from snnkit.nn.neuron_layer import Neuron
from snnkit.ops.scan_call import compute_dtype


class AdLIF(Neuron):
    """w = beta w + a u + b s;  u = alpha reset(u, s) + (1 - alpha) (x - w);  s = [u >= v_threshold].

    Bittar and Garner 2022; the equation is ``snnkit.equations.AdLIF``. Layer on ``[T, B, ...]``.

    Args:
        values: parameters of the equation, as for every layer of neurons (see ``Neuron``).
        learn: names of parameters to learn. Default: alpha, beta, a and b.
        shape: shape of the learnt parameters: ``(C,)`` as in sparch. Those that are learnt and not given are drawn
            uniformly from the equation's ranges.
        random_start: draw the first u, w and s from [0, 1) at each forward pass, in evaluation, too, as sparch does:
            its accuracies are random numbers. Default: start at zero. A sample that ``carry`` resets starts at zero.
            With ``a=0, b=0`` this is sparch's LIF, which has no w: w stays 0 then.
        keywords: also ``surrogate``, ``v_reset``, ``detach_reset``, ``reset`` (see ``snnkit.equations.Equation``).

    sparch stores the same names: ``alpha``, ``beta``, ``a``, ``b``, one value a neuron.
    """

    equation = equations.AdLIF

    def __init__(
        self, *values: Any, learn: Sequence[str] | None = None, shape: Sequence[int] = (), random_start: bool = False,
        **keywords: Any,
    ) -> None:  # fmt: skip
        super().__init__(*values, learn=learn, shape=shape, **keywords)
        self.random_start = random_start
        given = self.equation.named(values, keywords)
        for name, (low, high) in equations.AdLIF.ranges.items():
            if isinstance(getattr(self, name, None), nn.Parameter) and name not in given:
                nn.init.uniform_(getattr(self, name), low, high)

    @property
    def adapts(self) -> bool:
        """Whether the current w can be anything but 0: not with a and b fixed at 0, as in sparch's LIF."""
        values = self._neuron.parameters()
        return any(name in self._tensor_names or values[name] != 0 for name in ("a", "b"))

    def _first_state(self, x: Tensor) -> dict[str, Tensor] | None:
        if not self.random_start:
            return None
        dtype = compute_dtype(x)
        draws = {name: torch.rand if name != "w" or self.adapts else torch.zeros for name in self.equation.states}
        return {name: draw(x.shape[1:], dtype=dtype, device=x.device) for name, draw in draws.items()}

    def extra_repr(self) -> str:
        """The parameters, and whether the start is random."""
        return ", ".join(filter(None, [super().extra_repr(), "random_start=True" if self.random_start else ""]))
