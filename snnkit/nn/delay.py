"""Layers whose synapses have delays: a weight and a position on the time axis each, both learnt.

Parameters carry DCLS's names and layout, so that its checkpoints fit: ``weight [out, in / groups, M]``, ``P`` and
``SIG`` ``[1, out, in / groups, M]``, ``bias [out]``. Sources: Khalfaoui-Hassani et al. 2023 (DCLS), Hammouamri et al.
2024 (ICLR, arXiv 2306.17670: delays in spiking networks).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.nn._delay_checks import require_sizes
from snnkit.nn._delay_stream import Streamed, next_step, stream
from snnkit.nn.time import require_tensor
from snnkit.ops.delay import Gauss, Profile, delay_kernel
from snnkit.ops.delayed_sum import delayed_sum


class _Delayed(Streamed):
    """Parameters of a layer of delayed synapses, and its sum over them in time-first layout."""

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
        sizes = {"in_features": in_features, "out_features": out_features, "kernel_count": kernel_count}
        require_sizes(max_delay, groups, **sizes)
        self.in_features, self.out_features = in_features, out_features
        self.groups, self.kernel_count = groups, kernel_count
        shape = (out_features, in_features // groups, kernel_count)
        place = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(shape, **place))
        self._make_positions(shape, max_delay, profile, learn_width, learn_delay, width, place)
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
        self._draw_positions()
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def kernel(self) -> Tensor:
        """Dense kernel ``[out, in / groups, K]``; tap k is a delay of K - 1 - k steps."""
        shape = self.weight.shape
        width = None if self.SIG is None else self.SIG.view(shape)
        return delay_kernel(self.weight, self.P.view(shape), width, size=self.max_delay, profile=self.profile)

    def _sum(self, x: Tensor, tail: int) -> Tensor:
        """``[T, B, in]`` -> ``[T + tail, B, out]``."""
        if not x.is_floating_point():
            raise TypeError(f"{type(self).__name__} expects a floating x, got {x.dtype}. Convert it: x.float().")
        inside = self.in_carry
        if inside and tail:
            raise ValueError(
                f"{type(self).__name__}: tail must be 0 inside snnkit.carry, got {tail}. Feed steps of zeros instead."
            )
        if inside:
            y = stream(self, x, self.carried(x.shape[1]) or {})
        else:
            y = delayed_sum(x, self.kernel(), tail=tail)
        y = self._with_bias(y)
        half = x.dtype in (torch.float16, torch.bfloat16) and not torch.is_autocast_enabled(x.device.type)
        return y.to(x.dtype) if half else y

    def _with_bias(self, y: Tensor) -> Tensor:
        bias = self._parameters["bias"] if "bias" in self._parameters else self.bias  # by name: 0.7 us
        return y if bias is None else y + bias.to(y.dtype)

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
    Inside ``snnkit.carry`` the delay line is the state. Short or sparse chunks go event by event there, on a CPU under
    ``torch.no_grad()``: the work grows with the inputs that are not 0 (``path`` says which way a call takes). An
    optimiser may push positions out of the taps: call ``clamp_()`` after each step.

    >>> from snnkit.ops.delay import Triangle
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
        y = None if tail else next_step(self, x)
        if y is not None:
            return self._with_bias(y)
        require_tensor(self, x)
        if x.ndim != 3 or x.shape[2] != self.in_features:
            remedy = " For a single step: x[None]." if x.ndim == 2 else ""
            raise ValueError(f"DelayLinear expects [T, B, {self.in_features}], got {tuple(x.shape)}.{remedy}")
        return self._sum(x, tail)


class DelayConv1d(_Delayed):
    """``DelayLinear`` in DCLS's layout, ``[B, C, T]`` to ``[B, out, T + tail]``: same arguments and parameters.

    Raises:
        ValueError, TypeError, RuntimeError: as ``DelayLinear``; in the call, an x that is not ``[B, in_features, T]``.
    """

    def forward(self, x: Tensor, tail: int = 0) -> Tensor:
        """Map ``[B, in, T]`` to ``[B, out, T + tail]``."""
        require_tensor(self, x)
        if x.ndim != 3 or x.shape[1] != self.in_features:
            raise ValueError(
                f"DelayConv1d expects [B, {self.in_features}, T], got {tuple(x.shape)}. For [T, B, C]: DelayLinear."
            )
        return self._sum(x.permute(2, 0, 1), tail).permute(1, 2, 0)

