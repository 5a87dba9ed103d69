"""Events: structured arrays with a time ``t`` and an address, one row a spike.

Fields are looked up by name. ``t`` and ``x`` are what spikes of a cochlea have; event cameras add ``y`` and the
polarity ``p``. The dtype of ``t`` says its unit: **whole numbers are microseconds, floating numbers are seconds**
(tonic stores the first, the files of SHD the second). Seconds are never rounded to microseconds on the way to a
frame: that moves spikes over the edge of a bin (24 of 6.6 million on a set in SHD's format, 10 ms bins), whereas a
float16 or float32 times 10^6 is exact in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


def is_events(sample: Any) -> bool:
    """Whether a sample is a structured array (events) rather than an array of frames."""
    return isinstance(sample, np.ndarray) and sample.dtype.names is not None


def spike_events(times: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Events with the fields ``t`` and ``x`` from two arrays of equal length; half precision times become float64.

    Raises:
        ValueError: arrays of two lengths, or with more than one axis.
    """
    times, units = np.asarray(times), np.asarray(units)
    if times.shape != units.shape or times.ndim != 1:
        raise ValueError(f"times and units must have one axis and equal length, got {times.shape} and {units.shape}.")
    wide = np.int64 if times.dtype.kind in "iu" else np.float64
    events = np.empty(len(times), dtype=[("t", wide), ("x", units.dtype)])
    events["t"], events["x"] = times, units
    return events


def field(events: np.ndarray, name: str, wanted_by: str) -> np.ndarray:
    """One field of an event array; a missing one is an error that names it, the fields there are, and who asked."""
    if not is_events(events):
        raise TypeError(f"{wanted_by} expects events (a structured array), got {_kind(events)}.")
    names = events.dtype.names or ()
    if name not in names:
        raise ValueError(f"{wanted_by} needs the field {name!r}; these events have {', '.join(names)}.")
    return events[name]


def replaced(events: np.ndarray, **fields: np.ndarray) -> np.ndarray:
    """A copy of the events in which some fields hold other values (and take the dtype of those)."""
    names = events.dtype.names or ()
    dtype = [(name, fields[name].dtype if name in fields else events.dtype[name]) for name in names]
    copy = np.empty(len(events), dtype=dtype)
    for name in names:
        copy[name] = fields.get(name, events[name])
    return copy


def microseconds(times: np.ndarray) -> np.ndarray:
    """Times in microseconds: int64 for whole numbers, float64 (1e6 t) for seconds in floating point.

    Exact for float16 and float32. Float64 seconds that stand for whole microseconds, such as 1.001, give these.
    """
    times = np.asarray(times)
    if times.dtype.kind in "iu":
        return times.astype(np.int64)
    if times.dtype.kind != "f":
        raise TypeError(f"Times must be floating (seconds) or whole numbers (microseconds), got dtype {times.dtype}.")
    bad = np.flatnonzero(~np.isfinite(times))
    if len(bad):
        raise ValueError(f"{len(bad)} of {len(times)} spike times are not finite; the first is spike {bad[0]}.")
    exact = times.astype(np.float64) * 1e6
    # 1e6 * 1.001 is 1000999.9999999999. Products of float16 or float32 are never that near to a whole number.
    whole = np.rint(exact)
    return np.where(np.abs(exact - whole) <= 2.0**-50 * np.abs(exact), whole, exact)


@dataclass(frozen=True)
class Microseconds:
    """Events as tonic's transforms want them: ``t`` is int64 microseconds (rounded), and there is a polarity ``p``.

    Events without ``p`` get int64 ones, as tonic's SHD has them.
    """

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """Events with the time rounded to whole microseconds, and a polarity."""
        timed = replaced(events, t=np.rint(microseconds(field(events, "t", "Microseconds"))).astype(np.int64))
        names = timed.dtype.names or ()
        if "p" in names:
            return timed
        polar = np.ones(len(timed), [*((name, timed.dtype[name]) for name in names), ("p", np.int64)])
        for name in names:
            polar[name] = timed[name]
        return polar


def _kind(sample: Any) -> str:
    shape = getattr(sample, "shape", None)
    return type(sample).__name__ if shape is None else f"an array of shape {tuple(shape)} and dtype {sample.dtype}"
