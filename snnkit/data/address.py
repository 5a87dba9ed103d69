"""Addresses: from the fields of an event to one number, its place in a flat frame.

A sensor is ``channels`` (a line of units, field x), ``(H, W)`` (fields y, x) or ``(P, H, W)`` (p, y, x). Nothing
wraps round: an address outside the sensor is an error with its count and first event.
"""

from __future__ import annotations

import numpy as np

from snnkit.data.event import field

Sensor = int | tuple[int, ...]


def sensor_shape(sensor: Sensor) -> tuple[int, ...]:
    """The sensor as a tuple, ``(channels,)``, ``(H, W)`` or ``(P, H, W)``."""
    shape = (sensor,) if isinstance(sensor, int | np.integer) else tuple(sensor)
    if not 1 <= len(shape) <= 3 or any(int(n) != n or n < 1 for n in shape):
        raise ValueError(f"A sensor is a number of channels, (H, W) or (P, H, W), all at least 1; got {sensor!r}.")
    return tuple(int(n) for n in shape)


def address(events: np.ndarray, sensor: Sensor, wanted_by: str) -> np.ndarray:
    """Flat int64 address of each event on the sensor, row-major."""
    shape = sensor_shape(sensor)
    names = ("p", "y", "x")[-len(shape) :]
    present = events.dtype.names or ()
    if "y" in present and "y" not in names:
        raise ValueError(f"{wanted_by}: these events have x and y; give (H, W) or (P, H, W), not {sensor}.")
    if "p" in present and "p" not in names and len(events) and events["p"].min() != events["p"].max():
        raise ValueError(f"{wanted_by} would merge both polarities; give (P, H, W), or keep one polarity first.")
    flat = np.zeros(len(events), np.int64)
    for name, size in zip(names, shape, strict=True):
        values = field(events, name, wanted_by)
        if name != "p" and values.dtype.kind == "f":
            broken = ~np.isfinite(values) | (values != np.floor(values))
            if broken.any():
                first = int(np.argmax(broken))
                raise ValueError(
                    f"{wanted_by}: event {first} has {name} = {values[first]}, expected whole numbers. Were times and "
                    "units, or seconds and pixels, exchanged?"
                )
        values = polarity(values, wanted_by) if name == "p" else values.astype(np.int64)
        # Two reductions, not two comparisons of all events: they cost a tenth, and a frame is made of millions.
        if len(values) and not 0 <= values.min() <= values.max() < size:
            outside = np.flatnonzero((values < 0) | (values >= size))
            first = outside[0]
            raise ValueError(
                f"{wanted_by}: {len(outside)} of {len(events)} events lie outside the sensor, "
                f"the first is event {first} with {name} = {values[first]}, allowed 0..{size - 1}."
            )
        flat *= size
        flat += values
    return flat


def polarity(p: np.ndarray, wanted_by: str) -> np.ndarray:
    """0 and 1, int64, from bool, {0, 1} or {-1, 1}."""
    if p.dtype.kind == "f" and not np.isin(p, (-1, 0, 1)).all():
        raise ValueError(f"{wanted_by}: p must be bool, 0 and 1, or -1 and 1, got {np.unique(p)[:5].tolist()}.")
    values = p.astype(np.int64)
    if not len(values):
        return values
    low, high = values.min(), values.max()
    if low < -1 or high > 1 or (low == -1 and (values == 0).any()):
        raise ValueError(f"{wanted_by}: p must be bool, 0 and 1, or -1 and 1, got {np.unique(p)[:5].tolist()}.")
    return np.maximum(values, 0, out=values) if low < 0 else values
