"""tonic's transforms in a data set of ours: random ones drawn from (seed, epoch, sample), no input ever changed.

tonic draws from numpy's global generator, so that a run that goes on would draw other numbers; here the global state is
set from the sample's generator for the time of the call, and put back. What to know of tonic 1.7:

* ``TimeJitter`` leaves the events out of order unless ``sort_timestamps=True``; our frames do not mind.
* ``Denoise`` keeps every event of the first ``filter_time`` microseconds after time zero that has a neighbouring pixel
  at all, since its memory starts there; it loops over events in Python (about 10^5 a second) and wants at least one.
* ``ToFrame`` loses the last events and counts in int16, see :class:`snnkit.data.FramesByTime` and ``Bin`` instead.
* ``ToVoxelGrid`` and ``ToTimesurface``: see :class:`snnkit.data.VoxelGrid`, :class:`snnkit.data.TimeSurface`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.compose import Transform


@dataclass(frozen=True)
class Tonic(NamedArguments):
    """A transform of tonic, on a copy of the events.

    Args:
        transform: e.g. ``tonic.transforms.DropEvent(p=0.2)``.
        draws: whether it is random. ``False`` for ``Denoise``: a cache takes fixed transforms only.

    A recording without events is handed on as it is: most of tonic's transforms fail on one.

    Raises:
        ValueError: in the call, a random transform without a generator.
    """

    transform: Transform
    draws: bool = True

    def __call__(self, events: np.ndarray, rng: np.random.Generator | None = None) -> Any:
        """What tonic makes of the events."""
        if not len(events):
            return events
        if not self.draws:
            return self.transform(events.copy())
        if rng is None:
            raise ValueError(f"{self.transform!r} draws and needs a generator, e.g. generator(seed, epoch, i).")
        before = np.random.get_state()
        np.random.seed(rng.integers(0, 2**32, size=8, dtype=np.uint32))
        try:
            return self.transform(events.copy())
        finally:
            np.random.set_state(before)
