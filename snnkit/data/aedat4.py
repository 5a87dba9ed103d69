"""AEDAT 4, tonic's CIFAR10-DVS, through the package ``aedat``, which is compiled and not installed with snnkit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from snnkit.data.camera_event import CAMERA, camera_events

MARK = b"#!AER-DAT4"


def aedat4_decoder() -> Any:
    """The decoder's class.

    Raises:
        ImportError: the package ``aedat`` is not there, with the remedy.
    """
    try:
        import aedat
    except ImportError as error:
        raise ImportError(
            "AEDAT 4 files need the package aedat: pip install aedat. The original CIFAR10-DVS (AEDAT 2.0, ten class "
            "archives) and .npz files are read without it."
        ) from error
    return aedat.Decoder


def aedat4_events(data: bytes, name: str) -> np.ndarray:
    """Camera events of a file's bytes, all event streams of it.

    Raises:
        ImportError: the package ``aedat`` is not there.
        ValueError: no AEDAT 4, or damaged.
    """
    decoder = aedat4_decoder()
    if not data.startswith(MARK):
        raise ValueError(f"{name} is no AEDAT 4: it starts with {data[:12]!r}, expected {MARK!r}.")
    with tempfile.TemporaryDirectory() as folder:  # the decoder takes paths only
        path = Path(folder) / "recording.aedat4"
        path.write_bytes(data)
        try:
            packets = [packet["events"] for packet in decoder(path) if "events" in packet]
        except Exception as error:  # the Rust decoder raises what it likes
            raise ValueError(f"{name} cannot be read as AEDAT 4, it is damaged ({error}).") from error
    if not packets:
        return np.empty(0, CAMERA)
    events = np.concatenate(packets)
    return camera_events(events["t"].astype(np.int64), events["x"], events["y"], events["on"], name)
