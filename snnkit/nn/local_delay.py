"""Delayed synapses that are local along the channels and shared by all places there: a convolution whose taps move.

Neighbouring channels of a cochlea are neighbouring frequencies. A voice that is a little higher shifts its pattern
along them, and a layer that has the same synapses at every place sees the shifted pattern as the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from snnkit.nn._delay_checks import require_sizes
from snnkit.nn.delay import DelayLinear
from snnkit.nn.time import require_tensor


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

    Inside ``snnkit.carry`` it streams as ``DelayLinear`` does: where few inputs are not 0, each is scattered to the
    places that hear it.

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
        y = self._sum(self.windows(x), tail)
        return y.view(len(y), x.shape[1], self.places, self.out_features)

    def path(self, x: Tensor) -> str:
        """Say in one line which way a call with ``x [T, B, channels]`` takes, here and now (see ``DelayLinear``)."""
        return super().path(self.windows(x))

    # The sum over a window takes the places for samples; to a carry block a sample has all its places.

    def carried(self, batch: int, features: Sequence[int] | None = None) -> dict[str, Tensor] | None:
        """The state of each place of each sample, ``[B places, ...]``."""
        state = super().carried(batch // self.places, (self.channels,))
        return None if state is None else {name: value.flatten(0, 1) for name, value in state.items()}

    def keep(self, state: Mapping[str, Tensor], initial: Mapping[str, Tensor | float]) -> None:
        """Hand the state ``[B places, ...]`` on."""
        rows = {name: value.unflatten(0, (len(value) // self.places, self.places)) for name, value in state.items()}
        super().keep(rows, initial)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return f"{self.channels} channels, {self.places} places, stride={self.stride}, {super().extra_repr()}"
