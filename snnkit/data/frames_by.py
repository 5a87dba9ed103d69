"""Frames of a camera's events, so many a recording: by number and by time, as SpikingJelly cuts them.

With N events at times t_0 <= .. <= t_{N-1} and T frames, event e is in frame

    by number   min(floor(e / n), T - 1),          n = floor(N / T)              (N < T: all in the last frame)
    by time     min(floor((t_e - t_0) / d), T - 1), d = max(floor((t_{N-1} - t_0) / T), 1)

so the last frame takes the rest, and every event is in exactly one. These are the frames of SpikingJelly's
``integrate_events_by_fixed_frames_number``; where that stops with an IndexError (by time, an empty bin), the frame is
empty. By time the edges depend on the first and the last event alone: an event between them that is taken out changes
its own frame only. By number every later edge moves by one event. Frames of a fixed length in microseconds, the same
for each recording, are :class:`snnkit.data.Bin`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.address import Sensor, address, sensor_shape
from snnkit.data.counting import counted, counted_between
from snnkit.data.event import field, microseconds


@dataclass(frozen=True)
class FramesByNumber(NamedArguments):
    """Events to ``steps`` frames of equal event number, int32 ``[steps, *sensor]``; events out of order are sorted.

    Args:
        sensor: ``(P, H, W)``, ``(H, W)`` or a number of channels.
        steps: number of frames T.

    >>> from snnkit.data import spike_events
    >>> FramesByNumber(1, steps=4)(spike_events(np.arange(11), np.zeros(11, int))).ravel().tolist()
    [2, 2, 2, 5]
    """

    sensor: Sensor = (2, 128, 128)
    steps: int = 16

    def __post_init__(self) -> None:
        _checked_steps(self)

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """Frames of one recording."""
        times = np.ascontiguousarray(field(events, "t", "FramesByNumber"))
        if (times[1:] < times[:-1]).any():
            events = events[np.argsort(times, kind="stable")]
        edges = np.append(len(events) // self.steps * np.arange(self.steps), len(events))
        return counted_between(edges, address(events, self.sensor, "FramesByNumber"), sensor_shape(self.sensor))


@dataclass(frozen=True)
class FramesByTime(NamedArguments):
    """Events to ``steps`` frames of equal length between first and last event, int32 ``[steps, *sensor]``.

    Args:
        sensor: ``(P, H, W)``, ``(H, W)`` or a number of channels.
        steps: number of frames T.

    >>> from snnkit.data import spike_events
    >>> FramesByTime(1, steps=4)(spike_events(10 * np.arange(11), np.zeros(11, int))).ravel().tolist()
    [3, 2, 3, 3]
    """

    sensor: Sensor = (2, 128, 128)
    steps: int = 16

    def __post_init__(self) -> None:
        _checked_steps(self)

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """Frames of one recording."""
        frame = frame_by_time(field(events, "t", "FramesByTime"), self.steps)
        return counted(frame, address(events, self.sensor, "FramesByTime"), self.steps, sensor_shape(self.sensor))


def frame_by_time(times: np.ndarray, steps: int) -> np.ndarray:
    """Frame of each event, int64: the rule "by time" above; floating seconds count in microseconds."""
    if not len(times):
        return np.zeros(0, np.int64)
    elapsed = microseconds(times)
    elapsed = elapsed - elapsed.min()
    frame = (elapsed // max(elapsed.max() // steps, 1)).astype(np.int64)
    return np.minimum(frame, steps - 1, out=frame)


def _checked_steps(frames: FramesByNumber | FramesByTime) -> None:
    sensor_shape(frames.sensor)
    if not isinstance(frames.steps, int | np.integer) or frames.steps < 1:
        raise ValueError(f"steps must be a whole number of at least 1, got {frames.steps!r}.")
