"""Frames: arrays ``[T, C, ...]`` of counts, and what the augmentations check before they touch one."""

from __future__ import annotations

from typing import Any

import numpy as np


def checked_frames(sample: Any, wanted_by: str, axes: int | None = None) -> np.ndarray:
    """The sample if it is an array with time first, else an error that says what was got."""
    if not isinstance(sample, np.ndarray) or sample.dtype.names is not None or sample.dtype.kind not in "buif":
        raise TypeError(f"{wanted_by} expects events or a numpy array of frames [T, C], got {type(sample).__name__}.")
    if sample.ndim < 2 or (axes is not None and sample.ndim != axes):
        raise ValueError(f"{wanted_by} expects frames [T, C], got shape {sample.shape}.")
    return sample


def checked_probability(probability: float, wanted_by: str) -> None:
    """Complain about a probability outside [0, 1]."""
    if not 0 <= probability <= 1:
        raise ValueError(f"{wanted_by}: probability must be in [0, 1], got {probability}.")


def checked_amount(amount: int, wanted_by: str) -> None:
    """Complain about a largest amount that is negative or not whole."""
    if not isinstance(amount, int | np.integer) or amount < 0:
        raise ValueError(f"{wanted_by}: the largest amount must be a whole number >= 0, got {amount!r}.")


def happens(probability: float, rng: np.random.Generator) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def narrowest(array: np.ndarray) -> np.ndarray:
    """Counts in the smallest of uint8, uint16, int32 that holds them; arrays of other kinds as they are.

    >>> narrowest(np.array([0, 255])).dtype, narrowest(np.array([0, 256])).dtype
    (dtype('uint8'), dtype('uint16'))
    """
    if array.dtype.kind not in "iu":
        return array
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for dtype in (np.uint8, np.uint16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype, copy=False)
    return array
