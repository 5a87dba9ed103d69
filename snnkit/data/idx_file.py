"""MNIST's idx files (LeCun et al. 1998), packed with gzip or not: whole arrays of bytes, checked against their header.

A file is two zeros, 8 (unsigned bytes), the number of axes, each axis as four bytes with the highest first, the data.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np


def find_idx(folder: Path, name: str) -> Path:
    """The file of this name, with ``.gz`` or without, in the folder or in ``MNIST/raw``, where torchvision puts it.

    Raises:
        FileNotFoundError: none is there.
    """
    places = (folder, folder / "MNIST" / "raw")
    for path in (place / f"{name}{end}" for place in places for end in ("", ".gz")):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"Neither {name} nor {name}.gz in {folder.absolute()} or its MNIST/raw. Put MNIST's four idx files there."
    )


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The uint8 array of a file with so many axes.

    Raises:
        ValueError: not such a file, or cut short; names it.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}). Fetch it again.") from error
    start = 4 + 4 * axes
    if raw[:4] != bytes([0, 0, 8, axes]) or len(raw) < start:
        raise ValueError(f"{path} is no idx file of bytes with {axes} axes: it starts with {raw[:4]!r}.")
    shape = np.frombuffer(raw, ">u4", axes, 4).tolist()
    if len(raw) - start != math.prod(shape):
        raise ValueError(
            f"{path} is cut short or damaged: {len(raw) - start} bytes, its header says {math.prod(shape)}. "
            "Fetch it again."
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
