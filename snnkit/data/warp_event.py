"""Warps of raw events: flip, rotate, translate, shear, scale about the middle of the recording.

The middle ``(mx, my)`` and the half extents ``(hx, hy)`` are those of the box round the recording's events. New
places are rounded to whole pixels; events that leave the sensor are lost; time and polarity stay. One draw for the
whole recording. Definitions and magnitudes of EventRPG (Sun et al. 2024, ICLR). A sensor is ``(H, W)`` or
``(P, H, W)``. A warp that would leave no event is not done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.address import Sensor, sensor_shape
from snnkit.data.event import field
from snnkit.data.frame import checked_probability, happens


@dataclass(frozen=True)
class EventFlip(NamedArguments):
    """``x' = W - 1 - x`` with a probability. Not where a mirrored sample is of another class (gestures, digits)."""

    sensor: Sensor
    probability: float = 1.0
    draws = True

    def __post_init__(self) -> None:
        height_width(self.sensor, "EventFlip")
        checked_probability(self.probability, "EventFlip")

    def __call__(self, events: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The mirrored events."""
        x, y = _places(events, "EventFlip")
        if not happens(self.probability, rng):
            return events
        return _moved(events, self.sensor, height_width(self.sensor, "EventFlip")[1] - 1 - x, y)


@dataclass(frozen=True)
class EventRotate(NamedArguments):
    """``x' = mx + (x - mx) cos a + (y - my) sin a``, ``y' = my - (x - mx) sin a + (y - my) cos a``, |a| <= largest."""

    sensor: Sensor
    largest: float = math.pi / 3
    draws = True

    def __post_init__(self) -> None:
        height_width(self.sensor, "EventRotate")
        _checked_largest(self.largest, "EventRotate")

    def __call__(self, events: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rotated events."""
        angle = rng.uniform(-self.largest, self.largest)
        x, y = _places(events, "EventRotate")
        (mx, _), (my, _) = _box(x), _box(y)
        cos, sin = math.cos(angle), math.sin(angle)
        return _moved(
            events, self.sensor, mx + (x - mx) * cos + (y - my) * sin, my - (x - mx) * sin + (y - my) * cos
        )


@dataclass(frozen=True)
class EventTranslate(NamedArguments):
    """``x' = x + trunc(a d)``, d the distance from the middle to the border ahead, |a| <= largest (the paper's linear).

    ``vertical``: the same along y.
    """

    sensor: Sensor
    largest: float = 0.3
    vertical: bool = False
    draws = True

    def __post_init__(self) -> None:
        height_width(self.sensor, "EventTranslate")
        _checked_largest(self.largest, "EventTranslate")

    def __call__(self, events: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The moved events."""
        amount = rng.uniform(-self.largest, self.largest)
        x, y = _places(events, "EventTranslate")
        height, width = height_width(self.sensor, "EventTranslate")
        along, size = (y, height) if self.vertical else (x, width)
        middle, _ = _box(along)
        shift = int(amount * (size - middle if amount > 0 else middle))
        return _moved(events, self.sensor, *((x, y + shift) if self.vertical else (x + shift, y)))


@dataclass(frozen=True)
class EventShear(NamedArguments):
    """``x' = x + a hx (y - my) / hy``, |a| <= largest; ``vertical``: ``y' = y + a hy (x - mx) / hx``."""

    sensor: Sensor
    largest: float = 0.3
    vertical: bool = False
    draws = True

    def __post_init__(self) -> None:
        height_width(self.sensor, "EventShear")
        _checked_largest(self.largest, "EventShear")

    def __call__(self, events: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The sheared events."""
        amount = rng.uniform(-self.largest, self.largest)
        x, y = _places(events, "EventShear")
        (mx, hx), (my, hy) = _box(x), _box(y)
        if self.vertical:
            return _moved(events, self.sensor, x, y + amount * hy * (x - mx) / max(hx, 1))
        return _moved(events, self.sensor, x + amount * hx * (y - my) / max(hy, 1), y)


@dataclass(frozen=True)
class EventScale(NamedArguments):
    """``x' = mx + f (x - mx)``, ``y' = my + f (y - my)``, f uniform in smallest .. largest.

    Raises:
        ValueError: not 0 < smallest <= largest.
    """

    sensor: Sensor
    smallest: float = 0.5
    largest: float = 1.5
    draws = True

    def __post_init__(self) -> None:
        height_width(self.sensor, "EventScale")
        if not 0 < self.smallest <= self.largest < float("inf"):
            raise ValueError(f"EventScale needs 0 < smallest <= largest, got {self.smallest}, {self.largest}.")

    def __call__(self, events: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The scaled events."""
        factor = rng.uniform(self.smallest, self.largest)
        x, y = _places(events, "EventScale")
        (mx, _), (my, _) = _box(x), _box(y)
        return _moved(events, self.sensor, mx + factor * (x - mx), my + factor * (y - my))


def height_width(sensor: Sensor, wanted_by: str) -> tuple[int, int]:
    """Height and width of a sensor ``(H, W)`` or ``(P, H, W)``."""
    shape = sensor_shape(sensor)
    if len(shape) < 2:
        raise ValueError(f"{wanted_by} needs a sensor (H, W) or (P, H, W), got {sensor!r}.")
    return shape[-2], shape[-1]


def unless_empty(events: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The events that are kept, or all of them where none would be: a sample without events has nothing to learn."""
    return events[kept] if kept.any() else events


def _checked_largest(largest: float, wanted_by: str) -> None:
    if not 0 <= largest < float("inf"):
        raise ValueError(f"{wanted_by}: the largest magnitude must be >= 0 and finite, got {largest}.")


def _places(events: np.ndarray, wanted_by: str) -> tuple[np.ndarray, np.ndarray]:
    return field(events, "x", wanted_by).astype(np.float64), field(events, "y", wanted_by).astype(np.float64)


def _box(values: np.ndarray) -> tuple[float, float]:
    """Middle and half extent."""
    if not len(values):
        return 0.0, 0.0
    low, high = float(values.min()), float(values.max())
    return (low + high) / 2, (high - low) / 2


def _moved(events: np.ndarray, sensor: Sensor, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The events at new places, without those that left the sensor."""
    height, width = height_width(sensor, "A warp")
    x, y = np.rint(x), np.rint(y)
    kept = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if not kept.any():
        return events
    moved = events[kept]  # a copy
    moved["x"], moved["y"] = x[kept], y[kept]
    return moved
