"""Counting: from a frame number and an address for each event to int32 frames, each event once."""

from __future__ import annotations

import math

import numpy as np


def counted(frame: np.ndarray, where: np.ndarray, steps: int, shape: tuple[int, ...]) -> np.ndarray:
    """``frames[f, a] = |{e : frame_e = f, where_e = a}|``, int32 ``[steps, *shape]``.

    Args:
        frame: number of each event's frame, 0 .. steps - 1.
        where: flat address of each event, 0 .. prod(shape) - 1.
    """
    size = math.prod(shape)
    if (frame[1:] < frame[:-1]).any() or steps * 64 > len(frame):
        return np.bincount(frame * size + where, minlength=steps * size).astype(np.int32).reshape(steps, *shape)
    return counted_between(np.searchsorted(frame, np.arange(steps + 1)), where, shape)


def counted_between(edges: np.ndarray, where: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Frame f counts the events ``edges[f] .. edges[f + 1] - 1``, int32 ``[len(edges) - 1, *shape]``."""
    size = math.prod(shape)
    frames = np.empty((len(edges) - 1, size), np.int32)
    for f in range(len(frames)):  # one frame's int64 counts stay in the processor's cache
        frames[f] = np.bincount(where[edges[f] : edges[f + 1]], minlength=size)
    return frames.reshape(len(frames), *shape)
