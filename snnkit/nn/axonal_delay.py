"""A delay per channel (axonal): all that a channel says is heard some steps later, by whatever layer stands behind.

A convolution over space has no room for a delay per weight, as ``DelayLinear`` has; a delay of its input channels fits
before any of them. Sources: as of ``DelayLinear`` for how a delay is learnt.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from snnkit.nn._delay_checks import require_sizes
from snnkit.nn._delay_positions import Positioned
from snnkit.nn.time import require_time_first
from snnkit.ops.delay import Bilinear, Gauss, Profile, delay_kernel


class AxonalDelay(Positioned):
    """Learnt delay per channel: ``y[t, b, c, ...] = x[t - d[c], b, c, ...]``, spread over the taps of a profile.

        y[t] = sum_k phi[c, k] x[t - (K - 1 - k)],   sum_k phi = 1

    Args:
        channels: C of ``[T, B, C, ...]``: features ``[T, B, C]``, or maps ``[T, B, C, H, W]`` before a 2-d convolution.
        max_delay: K, number of taps: delays from 0 to K - 1 steps.
        profile: ``Gauss()``, ``Triangle()`` or ``Bilinear()``, as in ``DelayLinear``.
        learn_width: learn the width of the profile (``SIG``); else it is fixed, or set by a ``SigmaSchedule``.
        learn_delay: learn the delays. False: random delays, fixed.
        width: start of SIG in steps. Default 0.23 for the gauss, none for the others.

    Raises:
        ValueError: a size below 1, a width of no use; in the call, an input that is not ``[T, B, channels, ...]``, or a
            tail inside ``carry``.
        TypeError: a size that is no whole number, a profile that is no object; an unknown keyword, with the nearest
            one; in the call, an input that is no tensor, or not floating.

    Parameters: ``P`` and ``SIG``, ``[1, C]``. ``discretize()`` gives whole delays: one tap, of 1, so that spikes stay
    spikes. Call it as ``layer(x, tail=0)``; the output has ``T + tail`` steps. Inside ``snnkit.carry`` the last
    K - 1 steps of the input are the state; each step is a sum over all K taps, also where few inputs are not 0. Call
    ``clamp_()`` after each step of the optimiser.

    >>> layer = AxonalDelay(2, max_delay=4, profile=Bilinear())
    >>> layer.delay = torch.tensor([0.0, 2.0])
    >>> x = torch.zeros(4, 1, 2, 8, 8)
    >>> x[1] = 1.0
    >>> layer(x)[:, 0, :, 0, 0].tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """

    whole: ClassVar[Profile] = Bilinear()

    def __init__(
        self,
        channels: int,
        max_delay: int,
        profile: Profile = Gauss(),  # noqa: B008  (frozen)
        learn_width: bool = False,
        learn_delay: bool = True,
        width: float | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_sizes(max_delay=max_delay, channels=channels)
        self.channels = channels
        place = {"device": device, "dtype": dtype}
        self._make_positions((channels,), max_delay, profile, learn_width, learn_delay, width, place)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw delays, uniform over the taps (see ``DelayLinear``)."""
        self._draw_positions()

    def kernel(self) -> Tensor:
        """phi ``[C, K]``; tap k is a delay of K - 1 - k steps."""
        width = None if self.SIG is None else self.SIG.mT
        ones = torch.ones_like(self.P.mT)
        return delay_kernel(ones, self.P.mT, width, size=self.max_delay, profile=self.profile)

    def forward(self, x: Tensor, tail: int = 0) -> Tensor:
        """Map ``[T, B, C, ...]`` to ``[T + tail, B, C, ...]``."""
        require_time_first(self, x)
        if x.shape[2] != self.channels:
            raise ValueError(f"AxonalDelay expects [T, B, {self.channels}, ...], got {tuple(x.shape)}.")
        if not x.is_floating_point():
            raise TypeError(f"AxonalDelay expects a floating x, got {x.dtype}. Convert it: x.float().")
        inside, later = self.in_carry, self.max_delay - 1
        if tail < 0 or (inside and tail):
            raise ValueError(f"AxonalDelay: tail must be >= 0, and 0 inside snnkit.carry, got {tail}.")
        state = self.carried(x.shape[1], x.shape[2:])
        past = x.new_zeros(later, *x.shape[1:]) if state is None else state["past"].transpose(0, 1).to(x.dtype)
        heard = torch.cat([past, x, x.new_zeros(tail, *x.shape[1:])])
        if inside:
            self.keep({"past": heard[len(x) :].transpose(0, 1)}, {"past": 0.0})
        return _delayed(heard, self.kernel(), self.max_delay)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        text = f"{self.channels}, max_delay={self.max_delay}, profile={self.profile}"
        text += "" if self.learn_delay else ", learn_delay=False"
        return text + (", learn_width=True" if self.learn_width else "")


def _delayed(heard: Tensor, kernel: Tensor, K: int) -> Tensor:
    """The sum over taps for ``heard [K - 1 + L, B, C, ...]``: ``[L, B, C, ...]``, in heard's dtype.

    A convolution of ``[B, C, time, space]`` with taps ``[C, 1, K, 1]``: on the CPU twice to five times as fast as
    ``conv1d`` over rows, which needs the channels last.
    """
    length = len(heard) - K + 1
    if length == 0 or heard.numel() == 0:  # torch's convolution refuses these
        return heard[:length] + 0 * kernel.sum().to(heard.dtype)
    wider = torch.promote_types(heard.dtype, kernel.dtype)
    maps = heard.to(wider).flatten(2).unflatten(2, (heard.shape[2], -1)).permute(1, 2, 0, 3)
    y = F.conv2d(maps, kernel[:, None, :, None].to(wider), groups=len(kernel)).permute(2, 0, 1, 3)
    y = y.reshape(length, *heard.shape[1:])
    return y if torch.is_autocast_enabled(heard.device.type) else y.to(heard.dtype)
