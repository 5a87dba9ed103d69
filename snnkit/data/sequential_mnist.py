"""Sequential MNIST: a handwritten digit pixel by pixel, row by row or in one fixed random order (psMNIST).

Le, Jaitly and Hinton 2015 (arXiv 1504.00941). 784 steps of one number: a test of long memory. The random order is the
same for all pictures of all parts. Papers do not say which one they drew; here it follows from a seed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from snnkit.data.compose import Transform
from snnkit.data.dataset import Dataset
from snnkit.data.idx_file import find_idx, read_idx
from snnkit.data.spike_file import SPLITS
from snnkit.data.split import split_stratified

_SPLIT_SEED = 0


class SequentialMNIST(Dataset):
    """``dataset[i] -> (float32 [784, 1], label)``: gray levels in 0 .. 1, one pixel a step.

    Args:
        root: the folder with MNIST's four idx files, as they are or with ``.gz``.
        split: "train", "valid" (held out of the training files) or "test".
        order: seed of the fixed order of pixels, that of ``numpy.random.RandomState(order).permutation(784)``; None:
            row by row.
        validation: share of the training files that is held out, stratified. The split does not depend on a seed.
        transform, seed: as of each data set.

    Attributes:
        pixels: number of the pixel (row by row) at each step.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is cut short or none of these, another split, or a share outside [0, 1).
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        order: int | None = 0,
        validation: float = 0.17,
        transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}.")
        if not 0 <= validation < 1:
            raise ValueError(f"validation is a share in [0, 1), got {validation}.")
        name, folder = "t10k" if split == "test" else "train", Path(root).expanduser()
        paths = [find_idx(folder, f"{name}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
        images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
        if len(images) != len(labels):
            raise ValueError(f"{paths[0]} holds {len(images)} pictures, {paths[1]} {len(labels)} labels.")
        if len(labels) and labels.max() > 9:
            raise ValueError(f"{paths[1]} holds the label {labels.max()}, expected 0..9.")
        if split != "test":
            train, valid = split_stratified(labels, round(validation * len(labels)), _SPLIT_SEED)
            chosen = train if split == "train" else valid
            images, labels = images[chosen], labels[chosen]
        if not len(labels):
            raise ValueError(f"{paths[0]} and validation={validation} leave no picture for the {split} part.")
        steps = images.shape[1] * images.shape[2]
        self.pixels = np.arange(steps) if order is None else np.random.RandomState(order).permutation(steps)
        self._images = images.reshape(len(images), steps)[:, self.pixels]  # uint8 [N, steps]
        super().__init__(labels, [str(digit) for digit in range(10)], transform, seed)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """One picture's pixels in their order, ``[784, 1]``."""
        return self._images[index, :, None] / np.float32(255)

    def content(self) -> str:
        """SHA-256 of the pixels in their order."""
        return hashlib.sha256(self._images.tobytes()).hexdigest()
