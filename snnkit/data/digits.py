"""The embedded set: scikit-learn's 1,797 handwritten digits (8 x 8 pixels, 17 gray levels), latency-coded.

Nothing is downloaded. Each of the 64 channels is a pixel that fires at most once, the brighter the earlier, so that
timing carries the picture. The first samples of the file are by other writers than the last, and splitting in file
order is another, harder task; here the split is stratified, and fixed for good.
"""

from __future__ import annotations

import hashlib

import numpy as np

from snnkit.data.compose import Transform
from snnkit.data.dataset import Dataset
from snnkit.data.latency import latency_frames
from snnkit.data.spike_file import SPLITS
from snnkit.data.split import split_stratified

TEST_SAMPLES = 360
_SPLIT_SEED = 0
_LEVELS = 16  # pixels are 0..16


class Digits(Dataset):
    """``dataset[i] -> (uint8 [steps, 64], label)``: handwritten digits, one spike a bright pixel.

    Args:
        split: "train", "valid" (held out of the training part) or "test" (360 samples).
        steps: number of time steps; below 16 neighbouring gray levels share a step.
        validation: share of the 1,437 non-test samples that are held out for validation, stratified.
        transform: applied to the frames at each access; may be random.
        seed: of the random transform. The split does not depend on it.
    """

    def __init__(
        self,
        split: str,
        steps: int = 16,
        validation: float = 0.1,
        transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.split, self.steps = split, steps
        self.indices = digit_indices(digits.target, split, validation)
        self.frames = latency_frames(digits.data[self.indices], _LEVELS, steps).swapaxes(0, 1).copy()  # [N, steps, 64]
        super().__init__(digits.target[self.indices], [str(name) for name in digits.target_names], transform, seed)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """A copy of one digit's frames."""
        return self.frames[index].copy()

    def content(self) -> str:
        """SHA-256 of the frames."""
        return hashlib.sha256(self.frames.tobytes()).hexdigest()


def digit_indices(labels: np.ndarray, split: str, validation: float) -> np.ndarray:
    """Indices in scikit-learn's file of one split: test has 360 samples, validation a share of the others.

    Raises:
        ValueError: another name for a split, a share outside [0, 1), or one that holds out no sample.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}.")
    if not 0 <= validation < 1:
        raise ValueError(f"validation is a share in [0, 1), got {validation}.")
    rest, test = split_stratified(labels, TEST_SAMPLES, _SPLIT_SEED)
    if split == "test":
        return test
    train, valid = split_stratified(labels[rest], round(validation * len(rest)), _SPLIT_SEED + 1)
    if split == "valid" and not len(valid):
        raise ValueError(f"validation={validation} holds out no sample; give a larger share.")
    return rest[train if split == "train" else valid]
