"""Layers whose synapses have delays: a weight and a position on the time axis each, both learnt.

Parameters carry DCLS's names and layout, so that its checkpoints fit: ``weight [out, in / groups, M]``, ``P`` and
``SIG`` ``[1, out, in / groups, M]``, ``bias [out]``. Sources: Khalfaoui-Hassani et al. 2023 (DCLS), Hammouamri et al.
2024 (ICLR, arXiv 2306.17670: delays in spiking networks).
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.nn._delay_checks import other_taps, require_profile, require_sizes, require_width
from snnkit.nn.time import Stateful, require_tensor
from snnkit.ops.delay import Gauss, Profile, Triangle, delay_kernel
from snnkit.ops.delayed_sum import delayed_sum


class _Delayed(Stateful):
    """Parameters of a layer of delayed synapses, and its sum over them in time-first layout.

    Attributes:
        learn_delay: whether the delays are there to be learnt. Freezing a model (``requires_grad_(False)``) does not
            change it.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_delay: int,
        groups: int = 1,
        kernel_count: int = 1,
        bias: bool = False,
        profile: Profile = Gauss(),  # noqa: B008  (frozen)
        learn_width: bool = False,
        learn_delay: bool = True,
        width: float | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_sizes(in_features, out_features, max_delay, groups, kernel_count)
        require_profile(profile)
        if width is None and profile.needs_width:
            width = 0.23
        require_width(profile, width, learn_width)
        self.in_features, self.out_features, self.max_delay = in_features, out_features, max_delay
        self.groups, self.kernel_count, self.profile = groups, kernel_count, profile
        self.learn_delay, self.learn_width = learn_delay, learn_width
        shape = (out_features, in_features // groups, kernel_count)
        place = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(shape, **place))
        self.P = nn.Parameter(torch.empty(1, *shape, **place), requires_grad=learn_delay)
        self.SIG: nn.Parameter | None
        if width is None:
            self.register_parameter("SIG", None)
        else:
            self.SIG = nn.Parameter(torch.full((1, *shape), float(width), **place), requires_grad=learn_width)
        self.bias: nn.Parameter | None
        if bias:
            self.bias = nn.Parameter(torch.empty(out_features, **place))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and positions as the SNN-delays network does.

        Weights: kaiming uniform for relu, U(+-sqrt(6 / (in M))); bias U(+-1 / sqrt(in M)). Positions: uniform over one
        step more than there are, then clamped, so that 1/K of the synapses start at the longest delay. Fixed positions
        (``learn_delay=False``) are rounded to whole steps.
        """
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        half = self.max_delay // 2
        nn.init.uniform_(self.P, -self.max_delay // 2, half)  # -K // 2 is the floor of -K / 2
        self.clamp_()
        if not self.learn_delay:
            with torch.no_grad():
                self.P.round_()
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    @property
    def delay(self) -> Tensor:
        """Delays in steps, ``[out, in / groups, M]``: K - 1 - K // 2 - P. Assign a number or a tensor to set them."""
        return self.max_delay - 1 - self.max_delay // 2 - self.P[0]

    @delay.setter
    def delay(self, steps: Tensor | float) -> None:
        last = self.max_delay - 1
        value = torch.as_tensor(steps, dtype=self.P.dtype, device=self.P.device)
        if not bool(((value >= 0) & (value <= last)).all()):
            raise ValueError(
                f"delay must be from 0 to {last} steps (max_delay={self.max_delay} taps), got "
                f"{value.min().item():g} to {value.max().item():g}."
            )
        with torch.no_grad():
            self.P[0] = last - self.max_delay // 2 - value

    @property
    def discrete(self) -> bool:
        """Whether each weight sits on one whole tap, as after ``discretize``."""
        return self.SIG is None and isinstance(self.profile, Triangle) and not self.learn_delay

    def kernel(self) -> Tensor:
        """Dense kernel ``[out, in / groups, K]``; tap k is a delay of K - 1 - k steps."""
        shape = self.weight.shape
        width = None if self.SIG is None else self.SIG.view(shape)
        return delay_kernel(self.weight, self.P.view(shape), width, size=self.max_delay, profile=self.profile)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Clamp positions in place to [-(K // 2), K - 1 - K // 2], where every synapse has a tap. Once a step."""
        half = self.max_delay // 2
        self.P.clamp_(-half, self.max_delay - 1 - half)

    @torch.no_grad()
    def discretize(self) -> _Delayed:
        """A copy of the layer as the papers evaluate it: whole delays (rounded half to even), one tap an element.

        The tap's height is w / (1 + 1e-7), the unit triangle's. The copy has no width, its positions are frozen, and it
        is in eval mode.
        """
        layer = copy.deepcopy(self)
        layer.profile = Triangle()
        layer.register_parameter("SIG", None)
        layer.learn_delay = layer.learn_width = False
        layer.P.round_()
        layer.clamp_()
        layer.P.requires_grad_(False)
        return layer.eval()

    def _sum(self, x: Tensor, tail: int) -> Tensor:
        """``[T, B, in]`` -> ``[T + tail, B, out]``."""
        if not x.is_floating_point():
            raise TypeError(f"{type(self).__name__} expects a floating x, got {x.dtype}. Convert it: x.float().")
        if self.in_carry and tail:
            raise ValueError(
                f"{type(self).__name__}: tail must be 0 inside snnkit.carry, got {tail}. Feed steps of zeros instead."
            )
        state = self.carried(x.shape[1])
        past = None if state is None else state["past"].transpose(0, 1)
        y = delayed_sum(x, self.kernel(), tail=tail, past=past)
        if self.in_carry:
            self.keep({"past": _last(x, past, self.max_delay - 1).transpose(0, 1)}, {"past": 0.0})
        y = y if self.bias is None else y + self.bias.to(y.dtype)
        half = x.dtype in (torch.float16, torch.bfloat16) and not torch.is_autocast_enabled(x.device.type)
        return y.to(x.dtype) if half else y

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

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        parts = [f"{self.in_features}, {self.out_features}, max_delay={self.max_delay}, profile={self.profile}"]
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.kernel_count != 1:
            parts.append(f"kernel_count={self.kernel_count}")
        if self.bias is not None:
            parts.append("bias=True")
        if not self.learn_delay:
            parts.append("learn_delay=False")
        if self.learn_width:
            parts.append("learn_width=True")
        return ", ".join(parts)


class DelayLinear(_Delayed):
    """Linear layer with a delay per synapse: ``y[t, b, o] = bias[o] + sum_{i, m} w[o, i, m] x[t - d[o, i, m], b, i]``.

    Args:
        in_features: C, channels of the input ``[T, B, C]``.
        out_features: channels of the output.
        max_delay: K, number of taps: delays from 0 to K - 1 steps. Any size; the papers take odd ones.
        groups: blocks of channels that do not see each other, as in a convolution.
        kernel_count: M, weights with a delay of their own per synapse.
        bias: add a learnable bias.
        profile: how a weight is spread over the taps around its delay: ``Gauss()``, ``Triangle()``, ``Bilinear()``.
        learn_width: learn the width of the profile (``SIG``); else it is fixed, or set by a ``SigmaSchedule``.
        learn_delay: learn the delays. False: random whole delays, fixed.
        width: start of SIG in steps. Default 0.23 for the gauss (sigma 0.5), none for the others (unit triangle).

    Raises:
        ValueError: a size below 1, groups that do not divide the features, a width of no use; in the call, an input
            that is not ``[T, B, in_features]``, or a tail inside ``carry``.
        TypeError: a size that is no whole number, a profile that is no object; an unknown keyword, with the nearest
            one; in the call, an input that is no tensor, or not floating.
        RuntimeError: on loading, positions of another max_delay: a file that torch saved tells its own; in one that
            does not, a position beyond K // 2 by more than half a step.

    Call it as ``layer(x, tail=0)``; the output has ``T + tail`` steps, of which the last ones hear only delayed input.
    Half precision comes out as it goes in, computed in the wider dtype of input and weights.
    Inside ``snnkit.carry`` the last K - 1 steps of the input are the state. An optimiser may push positions out of the
    taps: call ``clamp_()`` after each step.

    >>> layer = DelayLinear(1, 1, max_delay=5, profile=Triangle())
    >>> _ = nn.init.ones_(layer.weight)
    >>> layer.delay = 3
    >>> x = torch.zeros(6, 1, 1)
    >>> x[1] = 1.0
    >>> [round(v, 3) for v in layer(x).flatten().tolist()]
    [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    """

    def forward(self, x: Tensor, tail: int = 0) -> Tensor:
        """Map ``[T, B, in]`` to ``[T + tail, B, out]``."""
        require_tensor(self, x)
        if x.ndim != 3 or x.shape[2] != self.in_features:
            remedy = " For a single step: x[None]." if x.ndim == 2 else ""
            raise ValueError(f"DelayLinear expects [T, B, {self.in_features}], got {tuple(x.shape)}.{remedy}")
        return self._sum(x, tail)


class DelayConv1d(_Delayed):
    """``DelayLinear`` in DCLS's layout, ``[B, C, T]`` to ``[B, out, T + tail]``: same arguments and parameters."""

    def forward(self, x: Tensor, tail: int = 0) -> Tensor:
        """Map ``[B, in, T]`` to ``[B, out, T + tail]``."""
        require_tensor(self, x)
        if x.ndim != 3 or x.shape[1] != self.in_features:
            raise ValueError(
                f"DelayConv1d expects [B, {self.in_features}, T], got {tuple(x.shape)}. For [T, B, C]: DelayLinear."
            )
        return self._sum(x.permute(2, 0, 1), tail).permute(1, 2, 0)


def _last(x: Tensor, past: Tensor | None, steps: int) -> Tensor:
    """The last steps of past and x together, zeros before them: ``[steps, B, C]``."""
    if past is None:
        past = x.new_zeros(steps, *x.shape[1:])
    kept = x[len(x) - min(len(x), steps) :]
    return torch.cat([past[len(kept) :].to(x.dtype), kept])
