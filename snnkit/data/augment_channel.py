"""Augmentations along the channels: jitter of single spikes, shift of all, and a silent band.

Each works on events (field ``x``, on a sensor of ``channels`` units) and on frames ``[T, C]`` (C from the array).
Spikes that leave the sensor are lost; nothing wraps round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.event import field, is_events, replaced
from snnkit.data.frame import checked_amount, checked_frames, checked_probability, happens


@dataclass(frozen=True)
class ChannelJitter(NamedArguments):
    """Move each spike on its own by round(N(0, sigma)) channels.

    Raises:
        ValueError: a negative sigma; in the call, frames that are no counts.
    """

    sigma: float = 20.0
    channels: int = 700
    draws = True

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise ValueError(f"ChannelJitter: sigma must be at least 0, got {self.sigma}.")

    def __call__(self, sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The sample with jittered spikes."""
        if is_events(sample):
            x = field(sample, "x", "ChannelJitter").astype(np.int64)
            return _inside(sample, x + self._jitter(len(x), rng), self.channels)
        frames = checked_frames(sample, "ChannelJitter", axes=2)
        if frames.dtype.kind not in "iu" or (frames.size and frames.min() < 0):
            raise ValueError(f"ChannelJitter moves single spikes and needs counts, got {frames.dtype} frames.")
        counts = frames[frames > 0].astype(np.int64)
        step, channel = (np.repeat(index, counts) for index in np.nonzero(frames))
        channel = channel + self._jitter(len(channel), rng)
        kept = (channel >= 0) & (channel < frames.shape[1])
        jittered = np.zeros(frames.shape, np.int32)
        np.add.at(jittered, (step[kept], channel[kept]), 1)
        return jittered

    def _jitter(self, spikes: int, rng: np.random.Generator) -> np.ndarray:
        return np.rint(rng.normal(0.0, self.sigma, spikes)).astype(np.int64)


@dataclass(frozen=True)
class ChannelShift(NamedArguments):
    """Move all spikes by k channels, k uniform in -max_channels .. max_channels (a higher or lower voice)."""

    max_channels: int = 40
    channels: int = 700
    draws = True

    def __post_init__(self) -> None:
        checked_amount(self.max_channels, "ChannelShift")

    def __call__(self, sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The shifted sample."""
        shift = int(rng.integers(-self.max_channels, self.max_channels, endpoint=True))
        if is_events(sample):
            return _inside(sample, field(sample, "x", "ChannelShift").astype(np.int64) + shift, self.channels)
        frames = checked_frames(sample, "ChannelShift", axes=2)
        shifted = np.zeros_like(frames)
        kept = max(frames.shape[1] - abs(shift), 0)
        source, target = max(-shift, 0), max(shift, 0)
        shifted[:, target : target + kept] = frames[:, source : source + kept]
        return shifted


@dataclass(frozen=True)
class NeuronMask(NamedArguments):
    """With a probability, silence n neighbouring channels, n uniform in 0 .. max_channels, at a uniform place.

    SNN-delays' code has p = 0.65 and 27 of 140 channels, and leaves it off.
    """

    max_channels: int = 27
    probability: float = 0.65
    channels: int = 700
    draws = True

    def __post_init__(self) -> None:
        checked_amount(self.max_channels, "NeuronMask")
        checked_probability(self.probability, "NeuronMask")

    def __call__(self, sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The sample with a silent band."""
        if is_events(sample):
            x, channels = field(sample, "x", "NeuronMask"), self.channels
        else:
            channels = checked_frames(sample, "NeuronMask", axes=2).shape[1]
        if not happens(self.probability, rng):
            return sample
        width = min(int(rng.integers(0, self.max_channels, endpoint=True)), channels)
        start = int(rng.integers(0, channels - width, endpoint=True))
        if is_events(sample):
            return sample[(x < start) | (x >= start + width)]
        masked = sample.copy()
        masked[:, start : start + width] = 0
        return masked


def _inside(events: np.ndarray, x: np.ndarray, channels: int) -> np.ndarray:
    """The events with new channels, without those that left the sensor."""
    kept = (x >= 0) & (x < channels)
    return replaced(events[kept], x=x[kept])
