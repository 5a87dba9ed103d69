"""Drops of raw events: in an interval of time, in a box, or at random (Gu, Sng, Hu, Yu 2021, IJCAI: EventDrop).

Where a drop would leave nothing, all events are kept. Differs from the published code: shares are drawn from a range
and not from a grid in it, and the box is a box, whereas copies of that code drop the rows and columns that it spans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.address import Sensor
from snnkit.data.event import field, microseconds
from snnkit.data.warp_event import height_width, unless_empty


@dataclass(frozen=True)
class DropTime(NamedArguments):
    """Leave out an interval of a share of the recording, uniform in smallest .. largest, at a uniform place."""

    smallest: float = 0.1
    largest: float = 0.9
    draws = True

    def __post_init__(self) -> None:
        _checked_shares(self.smallest, self.largest, "DropTime")

    def __call__(self, events: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The events outside the interval."""
        share, place = rng.uniform(self.smallest, self.largest), rng.random()
        times = microseconds(field(events, "t", "DropTime"))
        if not len(times):
            return events
        first, length = times.min(), times.max() - times.min()
        start = first + place * (1 - share) * length
        return unless_empty(events, (times < start) | (times > start + share * length))


@dataclass(frozen=True)
class DropArea(NamedArguments):
    """Leave out a box whose sides are a share of the sensor's, uniform in smallest .. largest, at a uniform place."""

    sensor: Sensor
    smallest: float = 0.05
    largest: float = 0.25
    draws = True

    def __post_init__(self) -> None:
        height_width(self.sensor, "DropArea")
        _checked_shares(self.smallest, self.largest, "DropArea")

    def __call__(self, events: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The events outside the box."""
        share, *places = rng.uniform(self.smallest, self.largest), rng.random(), rng.random()
        inside = np.ones(len(events), bool)
        for name, size, place in zip("yx", height_width(self.sensor, "DropArea"), places, strict=True):
            side = round(share * size)
            start = int(place * (size - side + 1))
            values = field(events, name, "DropArea")
            inside &= (values >= start) & (values < start + side)
        return unless_empty(events, ~inside)


@dataclass(frozen=True)
class DropEvents(NamedArguments):
    """Leave out floor(share n) of n events at random, share uniform in smallest .. largest."""

    smallest: float = 0.1
    largest: float = 0.9
    draws = True

    def __post_init__(self) -> None:
        _checked_shares(self.smallest, self.largest, "DropEvents")

    def __call__(self, events: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The other events, in their order."""
        field(events, "t", "DropEvents")
        share = rng.uniform(self.smallest, self.largest)
        kept = np.ones(len(events), bool)
        kept[rng.permutation(len(events))[: int(share * len(events))]] = False
        return unless_empty(events, kept)


def _checked_shares(smallest: float, largest: float, wanted_by: str) -> None:
    if not 0 <= smallest <= largest <= 1:
        raise ValueError(f"{wanted_by} needs 0 <= smallest <= largest <= 1, got {smallest}, {largest}.")
