"""Collate: samples of different length to one time-first batch, zero-padded at the end, with their lengths.

Padding is not data: what comes after a sample's length must touch neither the loss nor the statistics of a norm,
else a sample's answer depends on its batch mates. Losses, readouts and norms of ``snnkit.nn`` take ``lengths`` for
that; ``step_mask`` is the same as booleans.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """One batch: ``x`` [T, B, C, ...] float32, ``labels`` [B] int64 or mixed [B, classes], ``lengths`` [B] int64.

    With ``collate(..., narrow=True)`` x holds counts of a narrower type, for ``x.to(device).float()``.
    """

    x: Tensor
    labels: Tensor
    lengths: Tensor


def collate(samples: Sequence[tuple[Any, Any]], multiple: int = 1, narrow: bool = False) -> Batch:
    """Batch of ``(frames [T_i, C, ...], label)``: T is the longest sample's length, rounded up to a multiple.

    A label is a whole number, or a mixed one: an array [classes] of shares that add up to 1 (``EventMixed``).

    Use it as ``DataLoader(..., collate_fn=collate)``; a fixed multiple, ``functools.partial(collate, multiple=8)``,
    gives fewer different T (compiled and captured graphs). With ``narrow`` counts stay uint8 if all samples' are (as a
    cache gives them), else int32: a quarter of the bytes for workers, pinned memory and the way to a GPU, which casts.

    Raises:
        ValueError: no samples, or frames that differ in more than T.
        TypeError: events instead of frames, or labels of other kinds.
    """
    if not len(samples):
        raise ValueError("collate got no samples.")
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, got {multiple}.")
    frames = [_frames(sample, position) for position, (sample, _) in enumerate(samples)]
    for position, array in enumerate(frames):
        if array.shape[1:] != frames[0].shape[1:]:
            raise ValueError(
                f"Samples may differ in T only: sample {position} of the batch has [T, C] = {array.shape}, "
                f"sample 0 has {frames[0].shape}. Time comes first here."
            )
    lengths = [len(array) for array in frames]
    steps = -(-max(lengths) // multiple) * multiple
    x = np.zeros((steps, len(frames), *frames[0].shape[1:]), _narrow(frames) if narrow else np.float32)
    for position, array in enumerate(frames):
        x[: len(array), position] = array
    return Batch(torch.from_numpy(x), _labels([label for _, label in samples]), torch.tensor(lengths))


def step_mask(lengths: Tensor, steps: int) -> Tensor:
    """``mask[t, b] = t < lengths[b]``, bool ``[T, B]``: true where a step is data, false where it is padding."""
    if lengths.ndim != 1:
        raise ValueError(f"lengths must be [B], got shape {tuple(lengths.shape)}.")
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


def _frames(sample: Any, position: int) -> np.ndarray:
    array = sample.numpy() if isinstance(sample, Tensor) else sample
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise TypeError(
            f"collate takes frames [T, C], but sample {position} of the batch is "
            f"{'events' if getattr(array, 'dtype', None) is not None and array.dtype.names else type(array).__name__}. "
            "Give the data set a transform that makes frames: transform=Bin(...)."
        )
    if array.ndim < 2:
        raise ValueError(f"collate takes frames [T, C], but sample {position} of the batch has shape {array.shape}.")
    return array


def _labels(labels: list[Any]) -> Tensor:
    if all(_is_mixed(label) for label in labels):
        return torch.from_numpy(np.stack(labels).astype(np.float32))
    return torch.tensor([_label(label, position) for position, label in enumerate(labels)])


def _is_mixed(label: Any) -> bool:
    """Whether a label is a distribution over the classes."""
    vector = isinstance(label, np.ndarray) and label.ndim == 1 and label.dtype.kind == "f"
    return vector and bool((label >= 0).all()) and abs(float(label.sum()) - 1) < 1e-3


def _narrow(frames: Sequence[np.ndarray]) -> type[np.generic]:
    """uint8 or int32 if that holds every value of these types, else float32; torch does little with uint16."""
    kinds = {array.dtype for array in frames}
    if kinds <= {np.dtype(np.uint8), np.dtype(np.bool_)}:
        return np.uint8
    return np.int32 if all(np.can_cast(kind, np.int32) for kind in kinds) else np.float32


def _label(label: Any, position: int) -> int:
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise TypeError(f"Labels are whole numbers, got {label!r} for sample {position} of the batch.")
    return int(label)
