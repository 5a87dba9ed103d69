"""Binning: spikes to frames of counts, exactly.

Frame f of a recording counts the spikes with ``floor((t - t0) / window) = f``, where t0 is the first spike's time
or zero. The arithmetic is in whole microseconds or in float64, where it is exact for float16 and float32 times.
Every spike is in exactly one frame: the sum of the frames is the number of spikes.

The numbers published for SHD were made in another way (SpikingJelly's), which two options reproduce: times,
subtraction and division in float16, which puts about 0.8 % of the spikes into a neighbouring bin, and
``ceil(t_last / window)`` frames, of which the last takes all the rest. Together they are ``Bin.as_published()``.
"""

from __future__ import annotations

import math
import operator
import warnings
from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.address import Sensor, address, sensor_shape
from snnkit.data.counting import counted
from snnkit.data.event import field, microseconds, spike_events

MOST_FRAMES = 100_000  # 1,000 s of the default window; more is nearly always a wrong unit
MANY_FRAMES = 10_000  # more may be one


@dataclass(frozen=True)
class Bin(NamedArguments):
    """Transform events into frames ``[T, channels / group]`` (int32 counts).

    Args:
        channels: number of units, or ``(H, W)`` or ``(P, H, W)`` for the events of a camera.
        window_us: length of a frame in whole microseconds.
        group: so many neighbouring channels are summed (5: 700 channels become 140). Must divide ``channels``.
        steps: number of frames. Default: as many as the last spike needs, at least one and at most 100,000 (more than
            10,000 give a warning: times in another unit?). With a number, a spike at exactly the end belongs to the
            last frame, later ones are an error.
        drop_late: with ``steps``, leave out the spikes after the end instead.
        from_first_spike: time starts at the first spike; otherwise at zero, and silence at the start is kept.
        last_frame_takes_rest: SpikingJelly's number of frames, ceil(t_last / window); the last takes what lies beyond.
        float16_times: SpikingJelly's arithmetic, for published numbers only; times must be floating seconds.
        least_steps: a recording that needs fewer frames gets silent ones at its end, up to so many.

    Raises:
        ValueError: options that are not whole, < 1, or exclude each other; in the call, units that are not whole,
            spikes outside of the channels, before time zero or after the last of ``steps`` frames, over 100,000 frames.

    >>> frames = Bin(channels=4, group=2)(spike_events(np.array([0.5, 0.509, 0.521]), np.array([0, 1, 3])))
    >>> frames.tolist()
    [[2, 0], [0, 0], [0, 1]]
    """

    channels: Sensor = 700
    window_us: int = 10_000
    group: int = 1
    steps: int | None = None
    drop_late: bool = False
    from_first_spike: bool = True
    last_frame_takes_rest: bool = False
    float16_times: bool = False
    least_steps: int = 1

    def __post_init__(self) -> None:
        shape = sensor_shape(self.channels)
        for name in ("window_us", "group", "least_steps") + (("steps",) if self.steps is not None else ()):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if self.group > 1 and (len(shape) > 1 or shape[0] % self.group):
            raise ValueError(f"group={self.group} does not divide {self.channels} channels; some would be lost.")
        if self.steps is not None and self.last_frame_takes_rest:
            raise ValueError("steps and last_frame_takes_rest exclude each other: both set the number of frames.")
        if self.steps is not None and self.least_steps > 1:
            raise ValueError("steps and least_steps exclude each other: both set the number of frames.")
        if self.drop_late and self.steps is None:
            raise ValueError("drop_late needs steps, the number of frames after which a spike is late.")

    @classmethod
    def as_published(cls, channels: int = 700, window_us: int = 10_000, group: int = 5) -> Bin:
        """The binning behind the published SHD accuracies: SpikingJelly's frames, 5 channels summed."""
        return cls(channels, window_us, group, last_frame_takes_rest=True, float16_times=True)

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """Frames of one recording."""
        where = address(events, self.channels, "Bin")
        frame, count = self._frames(field(events, "t", "Bin"))
        if self.drop_late and len(frame) and frame.max() >= count:
            kept = frame < count
            frame, where = frame[kept], where[kept]
        count, shape = max(count, self.least_steps), sensor_shape(self.channels)
        if self.group > 1:
            where, shape = where // self.group, (shape[0] // self.group,)
        return counted(frame, where, count, shape)

    def _frames(self, times: np.ndarray) -> tuple[np.ndarray, int]:
        """Frame of each spike and the number of frames."""
        if not len(times):
            return np.zeros(0, np.int64), self.steps or 1
        elapsed, window = self._elapsed(times)
        if not self.from_first_spike and elapsed.min() < 0:
            first = int(np.argmax(elapsed < 0))
            raise ValueError(f"{int((elapsed < 0).sum())} spikes lie before time zero, the first is spike {first}.")
        if not np.isfinite(elapsed.max() / window):
            raise ValueError(
                f"float16_times: frames of {self.window_us} us (window_us) up to t = {times.max():g} s are more than "
                "float16 counts, 65504. Take longer frames, or exact times."
            )
        frame = (elapsed // window).astype(np.int64)
        if self.last_frame_takes_rest:
            count = max(math.ceil(elapsed.max() / window), 1)
            self._refuse_too_many(count, times)
            return np.minimum(frame, count - 1), count
        if self.steps is None:
            count = int(frame.max()) + 1
            self._refuse_too_many(count, times)
            return frame, count
        frame[elapsed == self.steps * window] = self.steps - 1
        late = int((frame >= self.steps).sum())
        if late and not self.drop_late:
            raise ValueError(
                f"{late} of {len(times)} spikes lie after the last of {self.steps} frames of {self.window_us} us; "
                f"give more steps ({math.ceil(elapsed.max() / window)} hold all), or drop_late=True."
            )
        return frame, self.steps

    def _refuse_too_many(self, count: int, times: np.ndarray) -> None:
        """A wrong unit shows as a number of frames that no memory holds."""
        if count <= MANY_FRAMES:
            return
        unit, finer = ("seconds", "milliseconds or micro") if times.dtype.kind == "f" else ("microseconds", "nano")
        kind = "Floating" if times.dtype.kind == "f" else "Whole"
        remedy = f"{kind} times are {unit}: if these are {finer}seconds, divide them; else give steps=."
        if count > MOST_FRAMES:
            raise ValueError(
                f"Bin: {count} frames of {self.window_us} us (window_us) up to the last spike at t = {times.max()}, "
                f"more than {MOST_FRAMES}. {remedy}"
            )
        # One text for all recordings: Python shows it once.
        many = f"more than {MANY_FRAMES} frames of {self.window_us} us (window_us) up to a recording's last spike"
        warnings.warn(f"Bin: {many}. {remedy}", stacklevel=4)

    def _elapsed(self, times: np.ndarray) -> tuple[np.ndarray, np.floating | int]:
        """Time since the origin and the window, in one unit."""
        exact = microseconds(times)  # also finds NaN
        if not self.float16_times:
            return exact - (exact.min() if self.from_first_spike else 0), operator.index(self.window_us)
        if times.dtype.kind != "f":
            raise ValueError("float16_times needs floating seconds as the file stores them, got whole microseconds.")
        with np.errstate(over="ignore"):  # reported below
            milliseconds = np.float16(1000) * times.astype(np.float16)
        if not np.isfinite(milliseconds).all():
            raise ValueError(
                f"float16_times: a spike at t = {times.max():g} s, float16 milliseconds end at 65.5 s. Times are "
                "seconds: if these look like milliseconds, divide them by 1000; else use exact times."
            )
        return milliseconds - (milliseconds.min() if self.from_first_spike else 0), np.float16(self.window_us / 1000)


def binned(times: np.ndarray, units: np.ndarray, binning: Bin) -> np.ndarray:
    """Frames of spikes given as two arrays: times (floating seconds or whole microseconds) and units."""
    return binning(spike_events(times, units))
