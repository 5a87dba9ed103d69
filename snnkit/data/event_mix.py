"""EventMix (Shen, Zhao, Zeng 2023, Information Sciences): a region of space and time is taken from another recording.

The region is where a sum of 2 to 4 Gaussians over (t, y, x) is large::

    g(z) = sum_k w_k exp(-|(z - m_k) / s_k|^2 / 2);    region = {z: g(z) > threshold}

in the unit cube, weights w uniform in 0 .. 1, middles m uniform, widths s half of a uniform number in 0 .. 1 but at
least 0.05. The threshold gives it the volume v ~ Beta(a, a). With r_1 the share of the first's events in the region,
which go, and r_2 that of the second's, which come::

    y = (1 - q) y_1 + q y_2,    q = r_2 / (1 - r_1 + r_2)

so that labels are weighed by events, each recording's total counting as one. The published code does this on frames;
here it is on events, with the same formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.address import Sensor
from snnkit.data.event import field, microseconds
from snnkit.data.warp_event import height_width

_GRID = 16  # points along each axis on which the volume of the region is measured
_GAUSSIANS = (2, 4)


@dataclass(frozen=True)
class EventMix(NamedArguments):
    """``mix(first, second, rng) -> (events, q)``: the mixed recording, and the weight of the second's label.

    Args:
        sensor: ``(H, W)`` or ``(P, H, W)``.
        beta: a of the Beta(a, a) of the region's volume; 1 is uniform.

    The second recording is moved in time to begin when the first does. ``EventMixed`` is a data set of such pairs.

    Raises:
        ValueError: beta <= 0; in the call, recordings of two dtypes.
    """

    sensor: Sensor
    beta: float = 1.0

    def __post_init__(self) -> None:
        height_width(self.sensor, "EventMix")
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"EventMix: beta must be > 0, got {self.beta}.")

    def __call__(
        self, first: np.ndarray, second: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """Events of the first outside the region and of the second inside, by time, and q."""
        if first.dtype != second.dtype:
            raise ValueError(f"EventMix takes recordings of one dtype, got {first.dtype} and {second.dtype}.")
        count = int(rng.integers(*_GAUSSIANS, endpoint=True))
        weight, middle = rng.random(count), rng.random((count, 3))
        width = np.maximum(rng.random((count, 3)), 0.1) / 2
        volume = float(rng.beta(self.beta, self.beta))
        line = (np.arange(_GRID) + 0.5) / _GRID
        grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
        threshold = np.quantile(_field(grid, weight, middle, width), 1 - volume)
        starts, lengths = zip(*map(_span, (first, second)), strict=True)
        height, width_ = height_width(self.sensor, "EventMix")
        inside = []
        for events, start in ((first, starts[0]), (second, starts[1])):
            t = (microseconds(field(events, "t", "EventMix")) - start) / max(*lengths, 1)
            y, x = ((field(events, name, "EventMix") + 0.5) / size for name, size in (("y", height), ("x", width_)))
            inside.append(_field(np.stack([t, y, x], axis=-1), weight, middle, width) > threshold)
        gone, come = (float(each.mean()) if len(each) else 0.0 for each in inside)
        if 1 - gone + come == 0:  # the region holds all of the first and nothing of the second
            return first, 0.0
        brought = second[inside[1]]  # a copy
        brought["t"] += (starts[0] - starts[1]) * (1 if first["t"].dtype.kind in "iu" else 1e-6)
        mixed = np.concatenate([first[~inside[0]], brought])
        return mixed[np.argsort(mixed["t"], kind="stable")], come / (1 - gone + come)


def _field(places: np.ndarray, weight: np.ndarray, middle: np.ndarray, width: np.ndarray) -> np.ndarray:
    """g at places ``[n, 3]``."""
    total = np.zeros(len(places))
    for w, m, s in zip(weight, middle, width, strict=True):
        total += w * np.exp(-0.5 * (((places - m) / s) ** 2).sum(-1))
    return total


def _span(events: np.ndarray) -> tuple[float, float]:
    """First time and duration in microseconds."""
    times = microseconds(field(events, "t", "EventMix"))
    return (times.min(), times.max() - times.min()) if len(times) else (0, 0)
