"""Events in numpy's files: .npz with the columns t, x, y, p (SpikingJelly's ``events_np``), or one array.

One array, in a .npy or as the only one of a .npz, is structured, with the fields t, x, y, p in any order, or has four
columns, x, y, p, t as tonic's DVS128 Gesture has them. Nothing is unpickled.
"""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from snnkit.data.camera_event import camera_events

_DAMAGED = (  # what numpy raises on such bytes; it reads a header as Python does
    *(ValueError, TypeError, OSError, EOFError, KeyError, SyntaxError, RuntimeError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error),
)
_MARKS = (b"\x93NUMPY", b"PK")
OTHER_NAMES = {"t": ("timestamp", "timestamps", "ts"), "x": (), "y": (), "p": ("polarity", "pol", "on")}


def array_events(data: bytes, name: str, unit_us: float | None = None) -> np.ndarray:
    """Camera events of a file's bytes.

    Args:
        unit_us: microseconds per unit of the file's times. Default: whole times are microseconds, floating ones
            seconds; an array of four floating columns (x, y, p are floating for the sake of one dtype) does not say
            what its times are, and needs the unit.

    Raises:
        ValueError: no numpy file, damaged, other columns, another unit than the default, or a unit that is missing.
    """
    columns, order = _columns(data, name, unit_us)
    try:
        return camera_events(columns["t"], columns["x"], columns["y"], columns["p"], name, unit_us)
    except ValueError as error:
        raise ValueError(f"{error}{order}") from error.__cause__


def _columns(data: bytes, name: str, unit_us: float | None) -> tuple[dict[str, np.ndarray], str]:
    """The columns, and what to say of their order if they turn out impossible."""
    if not data.startswith(_MARKS):
        raise ValueError(f"{name} cannot be read by numpy, it is another format: it starts with {data[:12]!r}.")
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except _DAMAGED as error:
        # numpy's own words would advise to unpickle it, which may run any code
        told = "it holds Python objects, no numbers" if "pickle" in str(error) else f"damaged or cut off, {error}"
        raise ValueError(f"{name} cannot be read by numpy ({told}).") from error
    if len(arrays) == 1:
        (array,) = arrays.values()
        if array.dtype.names is not None and array.ndim == 1:
            return _named({key: array[key] for key in array.dtype.names}, name), ""
        if array.ndim == 2 and array.shape[1] == 4:
            if array.dtype.kind == "f" and unit_us is None:
                raise ValueError(
                    f"{name} holds four columns of {array.dtype}, which do not say whether times are seconds: "
                    "give unit_us, microseconds per unit (1e6 for seconds, 1000 for milliseconds)."
                )
            return dict(zip("xypt", array.T, strict=True)), " Four columns are taken for x, y, p, t, in this order."
        raise ValueError(
            f"{name} holds an array of shape {array.shape}, dtype {array.dtype}; "
            "events are structured (t, x, y, p) or have the columns x, y, p, t."
        )
    return _named(arrays, name), ""


def _named(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    found = {}
    for key, others in OTHER_NAMES.items():
        there = [each for each in (key, *others) if each in arrays]
        if not there:
            raise ValueError(f"{name} has no column {key!r} for its events; it holds {', '.join(arrays) or 'nothing'}.")
        found[key] = arrays[there[0]]
    return found
