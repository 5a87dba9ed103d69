"""Voxel grid: each event is shared between the two nearest of B moments (Zhu et al. 2019).

With t*_e = (B - 1) (t_e - t_0) / (t_{N-1} - t_0) and p_e = +1 or -1,

    V[b, y, x] = sum_e p_e max(0, 1 - |b - t*_e|)     over the events at (x, y)

The weights of an event add up to one, the last event's, too. tonic's ``ToVoxelGrid(n_time_bins=n)`` takes n for B - 1
and leaves out the moment n: it is this grid for B = n + 1 without its last moment, in which the last event and the
second halves of the late ones are lost; and it divides by zero where all events share a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.address import address
from snnkit.data.event import field, microseconds


@dataclass(frozen=True)
class VoxelGrid(NamedArguments):
    """Events to ``[steps, 1, H, W]`` float32, positive where brightness rose, negative where it fell.

    Args:
        size: the sensor's (H, W).
        steps: number of moments B, at least 2.

    Events that share one time all count at the first moment; no events give zeros.

    Raises:
        ValueError: fewer than two steps, a size with polarities; in the call, events outside of the sensor.
    """

    size: tuple[int, int] = (128, 128)
    steps: int = 10

    def __post_init__(self) -> None:
        if self.steps < 2 or len(self.size) != 2:
            raise ValueError(
                "VoxelGrid needs steps >= 2 and size (H, W), without polarities, which share a map; got "
                f"steps={self.steps}, size={self.size}."
            )

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """The grid of one recording."""
        H, W = self.size
        where = address(events, (2, H, W), "VoxelGrid")
        times = microseconds(field(events, "t", "VoxelGrid"))
        if (times[1:] < times[:-1]).any():
            order = np.argsort(times, kind="stable")
            where, times = where[order], times[order]
        grid = np.zeros((self.steps, H * W))
        if not len(times):
            return grid.astype(np.float32).reshape(self.steps, 1, H, W)
        moments_per_us = (self.steps - 1) / max(times[-1] - times[0], 1)
        starts = times[0] + np.arange(1, self.steps - 1) / moments_per_us
        edges = [0, *np.searchsorted(times, starts), len(times)]
        for b, (begin, end) in enumerate(zip(edges, edges[1:], strict=False)):  # one interval stays in the cache
            share = (times[begin:end] - times[0]) * moments_per_us - b
            for moment, weight in ((b, 1.0 - share), (b + 1, share)):
                falls, rises = np.bincount(where[begin:end], weight, 2 * H * W).reshape(2, H * W)
                grid[moment] += rises
                grid[moment] -= falls
        return grid.astype(np.float32).reshape(self.steps, 1, H, W)
