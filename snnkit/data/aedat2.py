r"""AEDAT 2.0, the original files of CIFAR10-DVS (Li et al. 2017), recorded with a DVS128.

Text lines that start with ``#``, the first ``#!AER-DAT2.0``, each ended by ``\r\n``; then 8 bytes an event, big
endian: a 32-bit address a and a 32-bit time in microseconds. Of the address, bit 0 is the polarity (1: darker), bits 1
to 7 and 8 to 14 are the coordinates, bit 15 marks what is no pixel's event (an external pulse). Upright pictures, as
SpikingJelly reads them: x = 127 - (a >> 8 & 127), y = 127 - (a >> 1 & 127), p = 1 - (a & 1).
"""

from __future__ import annotations

import numpy as np

from snnkit.data.camera_event import camera_events

MARK = b"#!AER-DAT2.0"
_NO_PIXEL = 1 << 15


def aedat2_events(data: bytes, name: str) -> np.ndarray:
    """Camera events of a file's bytes; a clock that passes 2^32 us goes on counting.

    Raises:
        ValueError: no AEDAT 2.0, cut off within an event, or addresses of a larger sensor.
    """
    if not data.startswith(MARK):
        raise ValueError(f"{name} is no AEDAT 2.0: it starts with {data[:12]!r}, expected {MARK!r}.")
    begin = skipped_comments(data)
    if (len(data) - begin) % 8:
        raise ValueError(
            f"{name} is cut off: {len(data) - begin} bytes after its header are no whole number of events of 8 bytes."
        )
    address, times = np.frombuffer(data, ">u4", offset=begin).reshape(-1, 2).T.astype(np.int64)
    if len(address) and int(address.max()) >= 1 << 16:
        raise ValueError(f"{name}: address {int(address.max()):#x} has more than 16 bits: it is not from a DVS128.")
    pixel = address & _NO_PIXEL == 0
    if not pixel.all():
        address, times = address[pixel], times[pixel]
    times = times + (np.cumsum(np.diff(times, prepend=times[:1]) < -(1 << 31)) << 32)
    return camera_events(times, 127 - (address >> 8 & 127), 127 - (address >> 1 & 127), 1 - (address & 1), name)


def skipped_comments(data: bytes) -> int:
    """Where the lines that start with ``#`` end."""
    begin = 0
    while data[begin : begin + 1] == b"#":
        end = data.find(b"\n", begin)
        if end < 0:
            return len(data)
        begin = end + 1
    return begin
