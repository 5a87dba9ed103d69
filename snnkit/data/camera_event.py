"""Events of a camera in one form: ``t`` int64 us, never decreasing, ``x``, ``y`` int16, ``p`` 0 (OFF) or 1 (ON).

Files differ in all of these. What each difference becomes is decided here, once: floating times are seconds and are
rounded to whole microseconds (a unit may be given), times out of order are sorted (stably: events of one time keep the
file's order), polarity may be bool, 0 and 1, or -1 and 1. An event outside the sensor is an error with the count,
unless ``clip_outside`` or ``drop_outside`` is asked for: nothing wraps round.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from snnkit.data.address import polarity
from snnkit.data.event import microseconds

# p is signed: tonic's voxel grid writes -1 into it. Aligned, so that a field is read in whole words.
CAMERA = np.dtype([("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", np.int8)], align=True)
LONGEST_US = 86_400 * 10**6  # a day; a longer recording has times in another unit
_WIDEST = 32_767  # of int16

Outside = Callable[[np.ndarray, tuple[int, int], str], np.ndarray]


def camera_events(
    t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, name: str, unit_us: float | None = None
) -> np.ndarray:
    """Camera events from four columns of equal length.

    Args:
        t: times; whole numbers are microseconds, floating ones seconds, unless ``unit_us`` says otherwise.
        x, y: coordinates, whole numbers (floating ones must be whole).
        p: polarity as bool, {0, 1} or {-1, 1}.
        name: of the file, for the errors.
        unit_us: microseconds per unit of ``t`` (1000: milliseconds).

    Raises:
        ValueError: lengths differ; times not finite, or more than a day apart (another unit); coordinates that are not
            whole, or beyond 32,767 either way; polarity of other values.
    """
    columns = [np.asarray(column) for column in (t, x, y, p)]
    if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
        shapes = ", ".join(f"{key} {column.shape}" for key, column in zip("txyp", columns, strict=True))
        raise ValueError(f"{name}: t, x, y, p must be columns of equal length, got {shapes}.")
    events = np.empty(len(columns[0]), CAMERA)
    try:
        events["t"] = _whole_microseconds(columns[0], unit_us)
        for key, column in zip("xy", columns[1:3], strict=True):
            events[key] = _coordinate(column, key)
        events["p"] = polarity(columns[3], "Camera events")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from error
    times = np.ascontiguousarray(events["t"])
    if (times[1:] < times[:-1]).any():
        events = events[np.argsort(times, kind="stable")]
    if len(events) and int(events["t"][-1]) - int(events["t"][0]) > LONGEST_US:
        raise ValueError(
            f"{name}: times from {columns[0].min()} to {columns[0].max()} are more than a day, as "
            f"{'seconds' if columns[0].dtype.kind == 'f' else 'microseconds'}; give unit_us, microseconds per unit."
        )
    return events


def refuse_outside(events: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """The events, if all lie on a sensor of (H, W) pixels; else a ValueError with the count and the first."""
    outside = _outside(events, size)
    if outside is None:
        return events
    first, (height, width) = int(np.argmax(outside)), size
    swapped = height != width and _outside(events, (width, height)) is None
    remedy = f"With (H, W) = ({width}, {height}) all lie on it: height comes first. Else, i" if swapped else "I"
    raise ValueError(
        f"{name}: {int(outside.sum())} of {len(events)} events lie outside the sensor (H, W) = {tuple(size)}, "
        f"the first is event {first} at x = {events['x'][first]}, y = {events['y'][first]}. "
        f"{remedy}f it is the right file: outside=drop_outside or clip_outside."
    )


def drop_outside(events: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """The events on a sensor of (H, W) pixels, without the others."""
    outside = _outside(events, size)
    return events if outside is None else events[~outside]


def clip_outside(events: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """The events, those outside the sensor of (H, W) pixels moved to its border."""
    if _outside(events, size) is None:
        return events
    clipped = events.copy()
    for key, length in zip("yx", size, strict=True):
        clipped[key] = np.clip(clipped[key], 0, length - 1)
    return clipped


def _outside(events: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Which events lie outside, or None if none does."""
    x, y = np.ascontiguousarray(events["x"]), np.ascontiguousarray(events["y"])
    outside = (x < 0) | (x >= size[1]) | (y < 0) | (y >= size[0])
    return outside if outside.any() else None


def _whole_microseconds(times: np.ndarray, unit_us: float | None) -> np.ndarray:
    if unit_us is None:
        exact = microseconds(times)
    else:
        if not 0 < unit_us < float("inf"):
            raise ValueError(f"unit_us must be > 0, got {unit_us}.")
        # Whole times with a whole unit stay exact; int64 first, since a file's uint16 milliseconds would wrap.
        whole = times.dtype.kind in "iu" and float(unit_us).is_integer()
        exact = times.astype(np.int64) * int(unit_us) if whole else times.astype(np.float64) * unit_us
    if exact.dtype.kind != "f":
        return exact
    if not np.isfinite(exact).all() or (len(exact) and np.abs(exact).max() >= 2.0**62):
        raise ValueError("times are not finite or too large for int64 microseconds.")
    return np.rint(exact).astype(np.int64)


def _coordinate(values: np.ndarray, key: str) -> np.ndarray:
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{key} must be whole numbers, got dtype {values.dtype}.")
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise ValueError(f"{key} must be whole numbers, got fractions or NaN.")
    if len(values) and max(abs(int(values.min())), abs(int(values.max()))) > _WIDEST:
        raise ValueError(f"{key} runs from {values.min()} to {values.max()}; no sensor is that wide.")
    return values.astype(np.int16)
