"""Event files written byte by byte in the public formats, for the tests of the readers and data sets."""

from __future__ import annotations

import io
import struct

import numpy as np

AEDAT2_HEADER = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n"
AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def made_rows(seed: int, count: int = 40, width: int = 128, height: int = 128, last_us: int = 100_000) -> np.ndarray:
    """Rows (t, x, y, p), in order of time."""
    rng = np.random.default_rng(seed)
    columns = [np.sort(rng.integers(0, last_us, count)), *(rng.integers(0, n, count) for n in (width, height, 2))]
    return np.stack(columns, 1)


def aedat2_bytes(rows, header: bytes = AEDAT2_HEADER) -> bytes:
    """The address is the DVS128's, mirrored: bit 0 OFF, bits 1-7 y, bits 8-14 x."""
    body = b""
    for t, x, y, p in rows:
        body += struct.pack(">II", (127 - int(x)) << 8 | (127 - int(y)) << 1 | (1 - int(p)), int(t) % 2**32)
    return header + body


def aedat3_packet(rows, kind: int = 1, overflow: int = 0, invalid: tuple[int, ...] = ()) -> bytes:
    n = len(rows)
    packet = struct.pack("<HHIIIIII", kind, 1, 8, 4, overflow, n, n, n - len(invalid))
    for i, (t, x, y, p) in enumerate(rows):
        packet += struct.pack("<II", int(x) << 17 | int(y) << 2 | int(p) << 1 | (i not in invalid), int(t))
    return packet


def atis_bytes(rows) -> bytes:
    """23 bits of time; overflow events where it passes a multiple of 8192 us beyond them."""
    body, added = b"", 0
    for t, x, y, p in rows:
        while int(t) - added >= 1 << 23:
            body += bytes([0, 240, 0, 0, 0])
            added += 8192
        left = int(t) - added
        body += bytes([int(x), int(y), int(p) << 7 | left >> 16, left >> 8 & 255, left & 255])
    return body


def npz_bytes(rows, **dtypes) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{key: rows[:, i].astype(dtypes.get(key, np.int64)) for i, key in enumerate("txyp")})
    return file.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def as_rows(events: np.ndarray) -> np.ndarray:
    """Camera events as rows (t, x, y, p)."""
    return np.stack([events[key].astype(np.int64) for key in "txyp"], 1)
