"""One recording's events from its bytes, in the format that its name and its first bytes tell.

===========  ==================================================================================
``.aedat``   AEDAT 2.0 (``aedat2.py``), 3.1 (``aedat3.py``) or 4 (``aedat4.py``) by the first line
``.aedat4``  AEDAT 4
``.bin``     N-MNIST, N-Caltech101 (``atis_bin.py``)
``.npz``     columns or one array (``event_arrays.py``)
``.npy``     one array
===========  ==================================================================================
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from snnkit.data import aedat2, aedat3, aedat4
from snnkit.data.aedat2 import aedat2_events
from snnkit.data.aedat3 import aedat3_events
from snnkit.data.aedat4 import aedat4_events
from snnkit.data.atis_bin import atis_events
from snnkit.data.event_arrays import array_events

_BY_FIRST_LINE = {aedat2.MARK: aedat2_events, aedat3.MARK: aedat3_events, aedat4.MARK: aedat4_events}
SUFFIXES = (".aedat", ".aedat4", ".bin", ".npz", ".npy")


def events_from_bytes(data: bytes, name: str, unit_us: float | None = None) -> np.ndarray:
    """Camera events of a file's bytes; ``unit_us`` is the unit of the times in a numpy file.

    Raises:
        ValueError: empty, cut off, of another format than the name says; the message starts with the name.
        ImportError: AEDAT 4 without the package ``aedat``.
    """
    suffix = Path(name).suffix.lower()
    if not data:
        raise ValueError(f"{name} is empty (0 bytes): a broken copy.")
    if suffix in (".npz", ".npy"):
        return array_events(data, name, unit_us)
    if suffix == ".bin":
        return atis_events(data, name)
    if suffix not in SUFFIXES:
        raise ValueError(f"{name} has no suffix of an event file; known are {', '.join(SUFFIXES)}.")
    for mark, reader in _BY_FIRST_LINE.items():
        if data.startswith(mark):
            return reader(data, name)
    raise ValueError(f"{name} is no AEDAT 2.0, 3.1 or 4: it starts with {data[:12]!r}, expected {aedat2.MARK!r}.")


def read_events(path: str | os.PathLike[str], unit_us: float | None = None) -> np.ndarray:
    """Camera events (t us, x, y, p) of one file, see :func:`events_from_bytes`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, empty or of another format; it names the file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"No event file {path.absolute()}.")
    return events_from_bytes(path.read_bytes(), str(path), unit_us)
