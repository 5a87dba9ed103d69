"""What layers with learnt delays share: positions on the time axis, their widths, and how both are rounded and loaded.

Positions are centred, as DCLS stores them: ``P`` and ``SIG`` are ``[1, ...]``, and a delay is K - 1 - K // 2 - P steps.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from snnkit.nn._delay_checks import other_taps, require_profile, require_width
from snnkit.nn.carry import Stateful
from snnkit.ops.delay import Profile, Triangle

Layer = TypeVar("Layer", bound="Positioned")


class Positioned(Stateful):
    """Base of layers with delays: the parameters ``P`` and ``SIG``.

    Attributes:
        learn_delay: whether the delays are there to be learnt. Freezing a model (``requires_grad_(False)``) does not
            change it.
    """

    whole: ClassVar[Profile] = Triangle()
    """The profile of whole delays."""

    P: nn.Parameter
    SIG: nn.Parameter | None

    def _make_positions(
        self, shape: tuple[int, ...], max_delay: int, profile: Profile, learn_width: bool, learn_delay: bool,
        width: float | None, place: dict[str, Any],
    ) -> None:  # fmt: skip
        require_profile(profile)
        if width is None and profile.needs_width:
            width = 0.23
        require_width(profile, width, learn_width)
        self.max_delay, self.profile = max_delay, profile
        self.learn_delay, self.learn_width = learn_delay, learn_width
        self.P = nn.Parameter(torch.empty(1, *shape, **place), requires_grad=learn_delay)
        if width is None:
            self.register_parameter("SIG", None)
        else:
            self.SIG = nn.Parameter(torch.full((1, *shape), float(width), **place), requires_grad=learn_width)

    def _draw_positions(self) -> None:
        """Uniform over one step more than there are, then clamped; whole steps if they are not to be learnt."""
        half = self.max_delay // 2
        nn.init.uniform_(self.P, -self.max_delay // 2, half)  # -K // 2 is the floor of -K / 2
        self.clamp_()
        if not self.learn_delay:
            with torch.no_grad():
                self.P.round_()

    @property
    def delay(self) -> Tensor:
        """Delays in steps, ``P.shape[1:]``: K - 1 - K // 2 - P, a new tensor: to write its elements changes nothing.

        Set them as a whole, ``layer.delay = steps``, by a number or a tensor of all axes.
        """
        return self.max_delay - 1 - self.max_delay // 2 - self.P[0]

    @delay.setter
    def delay(self, steps: Tensor | float) -> None:
        self._refuse_computed_positions("layer.delay = ...")
        last = self.max_delay - 1
        value = torch.as_tensor(steps, dtype=self.P.dtype, device=self.P.device)
        wanted = self.P.shape[1:]
        fits = value.ndim == len(wanted) and all(n in (1, w) for n, w in zip(value.shape, wanted, strict=True))
        if value.ndim and not fits:  # torch would take the axes from the right: one an output for one an input
            raise ValueError(
                f"delay must be a number or have the axes {tuple(wanted)} (1 for the same along one), got "
                f"{tuple(value.shape)}."
            )
        if not bool(((value >= 0) & (value <= last)).all()):
            raise ValueError(
                f"delay must be from 0 to {last} steps (max_delay={self.max_delay} taps), got "
                f"{value.min().item():g} to {value.max().item():g}."
            )
        with torch.no_grad():
            self.P[0] = last - self.max_delay // 2 - value

    @property
    def discrete(self) -> bool:
        """Whether each delay is one whole tap, as after ``discretize``."""
        return self.SIG is None and isinstance(self.profile, type(self.whole)) and not self.learn_delay

    @torch.no_grad()
    def clamp_(self) -> None:
        """Clamp positions in place to [-(K // 2), K - 1 - K // 2], where every synapse has a tap. Once a step."""
        half = self.max_delay // 2
        self.P.clamp_(-half, self.max_delay - 1 - half)

    def check_parameters(self, name: str = "") -> None:
        """Raise ValueError if positions stand beyond the taps, where a synapse is lost. It looks at values."""
        lost = self._lost_synapses()
        if lost:
            raise ValueError(f"{f'{name}.' if name else ''}{lost}")

    def _lost_synapses(self) -> str:
        """What to say if positions stand beyond the taps; else an empty text."""
        delay, last = self.delay.detach(), self.max_delay - 1
        if bool(((delay > -1) & (delay < last + 1)).all()):  # not NaN
            return ""
        return (
            f"delay left its taps in training: {delay.min().item():g} to {delay.max().item():g} steps, "
            f"max_delay={self.max_delay} has 0 to {last}. Call clamp_() after each step of the optimiser."
        )

    def _refuse_computed_positions(self, who: str) -> None:
        if "P" not in self._parameters:
            raise ValueError(
                f"{who}: the positions P are computed, by a parametrization or by pruning, so that a change would be "
                'lost. Remove it first: torch.nn.utils.parametrize.remove_parametrizations(layer, "P"), or '
                'torch.nn.utils.prune.remove(layer, "P").'
            )

    @torch.no_grad()
    def discretize(self: Layer) -> Layer:
        """A copy of the layer as the papers evaluate it: whole delays (rounded half to even), one tap an element.

        The tap's height is w / (1 + 1e-7), the unit triangle's (of an ``AxonalDelay`` 1). The copy has no width, its
        positions are frozen, and it is in eval mode.
        """
        self._refuse_computed_positions("discretize")
        lost = self._lost_synapses()
        if lost:
            warnings.warn(f"discretize gives lost synapses their nearest tap: {lost}", stacklevel=3)  # behind no_grad
        layer = copy.deepcopy(self)
        layer.profile = self.whole
        layer.register_parameter("SIG", None)
        layer.learn_delay = layer.learn_width = False
        layer.P.round_()
        layer.clamp_()
        layer.P.requires_grad_(False)
        return layer.eval()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Not a key: positions count from the middle of the taps, and another number of taps gives them other delays.
        getattr(destination, "_metadata", {}).setdefault(prefix[:-1], {})["max_delay"] = self.max_delay

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        here = {name: state_dict[prefix + name] for name in ("P", "SIG") if prefix + name in state_dict}
        problems = [
            f"{prefix}{name} must be finite, got {value[~value.isfinite()][0].item()}."
            for name, value in here.items() if not value.isfinite().all()
        ]  # fmt: skip
        if "P" in here and not problems:
            problem = other_taps(here["P"], self.max_delay, local_metadata.get("max_delay"))
            problems += [f"{prefix}P {problem}"] if problem else []
        error_msgs += problems
        if not problems:
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )
