"""Latency code: a bright pixel fires early, a dim one late, a dark one never."""

from __future__ import annotations

import numpy as np


def latency_frames(brightness: np.ndarray, levels: int, steps: int) -> np.ndarray:
    """uint8 ``[steps, ...]`` with one spike for each pixel > 0, at ``t = floor((levels - b) steps / levels)``.

    Args:
        brightness: whole numbers in 0 .. levels, of any shape. 0 is dark: no spike.
        levels: the brightest value, which fires at step 0.
        steps: number of steps; brighter is strictly earlier if it is at least ``levels``.

    Raises:
        ValueError: levels or steps below 1, brightness that is not whole, or outside of 0 .. levels.

    >>> latency_frames(np.array([0, 1, 4]), levels=4, steps=4).argmax(0).tolist()  # 0 for the silent one, too
    [0, 3, 0]
    """
    brightness = np.asarray(brightness)
    if levels < 1 or steps < 1:
        raise ValueError(f"latency_frames needs levels >= 1 and steps >= 1, got levels={levels}, steps={steps}.")
    if (brightness % 1 != 0).any() or (brightness < 0).any() or (brightness > levels).any():
        raise ValueError(
            f"brightness must be whole numbers in 0..{levels}, got {brightness.min()}..{brightness.max()}."
        )
    values = brightness.astype(np.int64)
    time = (levels - values) * steps // levels  # that of a dark pixel is ``steps``, after the end
    return (np.arange(steps).reshape(-1, *[1] * values.ndim) == time).astype(np.uint8)
