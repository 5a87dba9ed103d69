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
from snnkit.data.address import address, polarity
from snnkit.data.event import field, microseconds


@dataclass(frozen=True)
class VoxelGrid(NamedArguments):
    """Events to ``[steps, 1, H, W]`` float32, positive where brightness rose, negative where it fell.

    Args:
        size: the sensor's (H, W).
        steps: number of moments B, at least 2.

    Events that share one time all count at the first moment; no events give zeros.
    """

    size: tuple[int, int] = (128, 128)
    steps: int = 10

    def __post_init__(self) -> None:
        if self.steps < 2 or len(self.size) != 2:
            raise ValueError(f"VoxelGrid needs steps >= 2 and size (H, W), got steps={self.steps}, size={self.size}.")

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """The grid of one recording."""
        H, W = self.size
        signed = 2.0 * polarity(field(events, "p", "VoxelGrid"), "VoxelGrid") - 1.0
        where = address(events, (2, H, W), "VoxelGrid") % (H * W)
        times = microseconds(field(events, "t", "VoxelGrid"))
        if not len(times):
            return np.zeros((self.steps, 1, H, W), np.float32)
        elapsed = (times - times.min()).astype(np.float64)
        moment = elapsed * ((self.steps - 1) / max(elapsed.max(), 1.0))
        before = np.minimum(moment.astype(np.int64), self.steps - 2)
        share = moment - before
        flat = before * (H * W) + where
        cells = self.steps * H * W
        grid = np.bincount(flat, signed * (1.0 - share), cells) + np.bincount(flat + H * W, signed * share, cells)
        return grid.astype(np.float32).reshape(self.steps, 1, H, W)
