"""Delayed synapses that are local along the channels and shared by all places there: a convolution whose taps move.

Neighbouring channels of a cochlea are neighbouring frequencies. A voice that is a little higher shifts its pattern
along them, and a layer that has the same synapses at every place sees the shifted pattern as the same one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from snnkit.nn._delay_checks import require_sizes
from snnkit.nn.delay import DelayLinear
from snnkit.nn.time import require_tensor
from snnkit.ops.delayed_sum import delayed_sum


class LocalDelayLinear(DelayLinear):
    """``y[t, b, p, o] = bias[o] + sum_{i, m} w[o, i, m] x[t - d[o, i, m], b, p stride + i - left]`` at places p.

    Args:
        channels: C, channels of the input ``[T, B, C]``; silence lies beyond them.
        out_features: outputs at each place.
        window: neighbouring channels that a place hears.
        stride: channels from place to place; there are ceil(C / stride) places, and the windows lie in the middle.
        max_delay: K, number of taps in time.
        keywords: ``kernel_count``, ``bias``, ``profile``, ... of ``DelayLinear(window, out_features, max_delay)``; its
            parameters are these.

    Raises:
        ValueError: a size below 1, a stride above the window (channels that nobody hears); an input of another shape.

    >>> LocalDelayLinear(channels=20, out_features=3, window=5, stride=4, max_delay=2)(torch.zeros(7, 2, 20)).shape
    torch.Size([7, 2, 5, 3])
    """

    def __init__(
        self, channels: int, out_features: int, window: int, stride: int, max_delay: int, **keywords: Any
    ) -> None:
        require_sizes(max_delay, channels=channels, window=window, stride=stride)
        if stride > window:
            raise ValueError(f"stride must be <= window, else channels go unheard, got {stride} > {window}.")
        super().__init__(window, out_features, max_delay, **keywords)
        self.channels, self.stride = channels, stride
        self.places = -(-channels // stride)

    def windows(self, x: Tensor) -> Tensor:
        """What each place hears: ``[T, B, C]`` -> ``[T, B places, window]``."""
        missing = max((self.places - 1) * self.stride + self.in_features - self.channels, 0)
        padded = F.pad(x, (missing // 2, missing - missing // 2))
        return padded.unfold(2, self.in_features, self.stride)[:, :, : self.places].flatten(1, 2)

    def forward(self, x: Tensor, tail: int = 0) -> Tensor:
        """Map ``[T, B, channels]`` to ``[T + tail, B, places, out_features]``; inside ``carry`` without a tail."""
        require_tensor(self, x)
        if x.ndim != 3 or x.shape[2] != self.channels:
            raise ValueError(f"LocalDelayLinear expects [T, B, {self.channels}], got {tuple(x.shape)}.")
        past = None
        if self.in_carry:
            if tail:
                raise ValueError(f"LocalDelayLinear: tail must be 0 inside snnkit.carry, got {tail}.")
            before, line = self.carried(x.shape[1], x.shape[2:]), self.max_delay - 1
            old = x.new_zeros(line, *x.shape[1:]) if before is None else before["past"].transpose(0, 1).to(x.dtype)
            heard = torch.cat([old, x])
            self.keep({"past": heard[len(heard) - line :].transpose(0, 1)}, {"past": 0.0})
            past = self.windows(old)
        y = delayed_sum(self.windows(x), self.kernel(), tail=tail, past=past)
        y = y if self.bias is None else y + self.bias.to(y.dtype)
        return y.view(len(y), x.shape[1], self.places, self.out_features)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return f"{self.channels} channels, {self.places} places, stride={self.stride}, {super().extra_repr()}"
