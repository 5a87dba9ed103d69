"""Augmentations along time: shift, stretch, and a silent interval.

Each works on events and on frames ``[T, C]``. Amounts are in steps; for events a step is ``step_us`` microseconds,
and the same draws give the same result as on the frames (with time counted from zero).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.event import field, is_events, microseconds, replaced
from snnkit.data.frame import checked_amount, checked_frames, checked_probability, happens


@dataclass(frozen=True)
class TimeShift(NamedArguments):
    """Move the whole sample by k steps, k uniform in -max_steps .. max_steps; what falls before zero is lost.

    On frames, a later sample gets k silent frames in front, an earlier one loses its first k. For events, bin with
    ``from_first_spike=False`` afterwards, which otherwise takes the shift away.
    """

    max_steps: int = 5
    step_us: int = 10_000
    draws = True

    def __post_init__(self) -> None:
        checked_amount(self.max_steps, "TimeShift")

    def __call__(self, sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The shifted sample."""
        shift = int(rng.integers(-self.max_steps, self.max_steps, endpoint=True))
        if is_events(sample):
            times = field(sample, "t", "TimeShift")
            seconds = times.dtype.kind == "f"
            amount = shift * (self.step_us / 1e6 if seconds else self.step_us)
            moved = np.add(times, amount, dtype=np.float64 if seconds else np.int64)
            return replaced(sample, t=moved)[moved >= 0]
        frames = checked_frames(sample, "TimeShift")
        if shift < 0:
            return frames[-shift:] if len(frames) > -shift else np.zeros_like(frames[:1])
        return np.concatenate([np.zeros((shift, *frames.shape[1:]), frames.dtype), frames])


@dataclass(frozen=True)
class TimeStretch(NamedArguments):
    """Multiply all times by a factor, uniform in low .. high; no spike is lost.

    On frames, frame f goes to frame floor((f + 1/2) factor), and frames that meet are added.

    Raises:
        ValueError: not 0 < low <= high.
    """

    low: float = 0.9
    high: float = 1.1
    draws = True

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < float("inf"):
            raise ValueError(f"TimeStretch needs 0 < low <= high, got low={self.low}, high={self.high}.")

    def __call__(self, sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The stretched sample."""
        factor = rng.uniform(self.low, self.high)
        if is_events(sample):
            times = field(sample, "t", "TimeStretch")
            stretched = times.astype(np.float64) * factor
            return replaced(sample, t=stretched if times.dtype.kind == "f" else np.rint(stretched).astype(np.int64))
        frames = checked_frames(sample, "TimeStretch")
        target = np.floor((np.arange(len(frames)) + 0.5) * factor).astype(np.int64)
        # 300 counts do not fit the uint8 of a cached frame.
        wide = np.int32 if frames.dtype.kind in "iub" else frames.dtype
        stretched = np.zeros((target[-1] + 1 if len(target) else 0, *frames.shape[1:]), wide)
        np.add.at(stretched, target, frames)
        return stretched


@dataclass(frozen=True)
class TimeMask(NamedArguments):
    """With a probability, silence all channels for n steps, n uniform in 0 .. max_steps, at a uniform place.

    SNN-delays' code has p = 0.65 and 7 steps (its kernel of 25 steps // 3, minus 1), and leaves it off.
    """

    max_steps: int = 7
    probability: float = 0.65
    step_us: int = 10_000
    draws = True

    def __post_init__(self) -> None:
        checked_amount(self.max_steps, "TimeMask")
        checked_probability(self.probability, "TimeMask")

    def __call__(self, sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The sample with a silent interval."""
        if is_events(sample):
            step = (microseconds(field(sample, "t", "TimeMask")) // self.step_us).astype(np.int64)
            steps = int(step.max()) + 1 if len(step) else 0
        else:
            steps = len(checked_frames(sample, "TimeMask"))
        if not happens(self.probability, rng):
            return sample
        length = min(int(rng.integers(0, self.max_steps, endpoint=True)), steps)
        start = int(rng.integers(0, steps - length, endpoint=True))
        if is_events(sample):
            return sample[(step < start) | (step >= start + length)]
        masked = sample.copy()
        masked[start : start + length] = 0
        return masked
