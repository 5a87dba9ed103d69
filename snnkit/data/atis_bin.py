"""The .bin files of N-MNIST and N-Caltech101 (Orchard et al. 2015), recorded with an ATIS.

5 bytes an event: x, y, then 24 bits, big endian: the polarity (top bit) and the time in us (23 bits). y = 240 is no
event: it adds 8192 us to all that follow.
"""

from __future__ import annotations

import numpy as np

from snnkit.data.camera_event import camera_events

_OVERFLOW_Y, _OVERFLOW_US = 240, 8192


def atis_events(data: bytes, name: str) -> np.ndarray:
    """Camera events of a file's bytes.

    Raises:
        ValueError: the file is no whole number of 5-byte events.
    """
    if len(data) % 5:
        raise ValueError(f"{name} is cut off, or no ATIS file: {len(data)} bytes are no multiple of 5.")
    x, y, high, middle, low = np.frombuffer(data, np.uint8).reshape(-1, 5).T.astype(np.int64)
    overflow = y == _OVERFLOW_Y
    times = ((high & 127) << 16 | middle << 8 | low) + _OVERFLOW_US * np.cumsum(overflow)
    event = ~overflow
    return camera_events(times[event], x[event], y[event], high[event] >> 7, name)
