"""Three samples for one, the augmentation of DelRec on SHD (Queant et al. 2025, arXiv 2509.24852, and its code).

The first is the sample itself; in the second each input is shifted in time on its own; the third is a blend with
another sample of the class. Frames are counts ``[T, inputs]``. The draws follow from seed, epoch and index alone.
"""

from typing import Any

import numpy as np

from snnkit.data import Dataset
from snnkit.data.seed import generator


class Tripled(Dataset):
    """Samples 0 .. n - 1 of a data set, then each with shifted inputs, then each in a blend: 3 n.

    Args:
        dataset: n samples of counts.
        shift: an input is shifted by up to so many steps, uniformly; what leaves the sample is lost. Published: 100.
        seed: of the draws.
        kept: probability of each spike of the two samples of a blend to be kept. Published: 0.5.

    A sample whose class has no other is shifted in place of blended.
    """

    def __init__(self, dataset: Dataset, shift: int, seed: int = 0, kept: float = 0.5) -> None:
        speakers = None if dataset.speakers is None else np.tile(dataset.speakers, 3)
        super().__init__(np.tile(dataset.labels, 3), dataset.classes, seed=seed, speakers=speakers)
        self.dataset, self.shift, self.kept = dataset, shift, kept
        self.members = {label: np.flatnonzero(dataset.labels == label) for label in np.unique(dataset.labels)}

    @property
    def draws(self) -> bool:
        """They are random."""
        return True

    def sample(self, index: int, epoch: int) -> Any:
        """Sample ``index`` as it is in ``epoch``."""
        third, index_of_one = divmod(index, len(self.dataset))
        x = self.dataset.sample(index_of_one, epoch)
        if third == 0:
            return x
        rng = generator(self.seed, epoch, index)
        others = self.members[self.labels[index]]
        others = others[others != index_of_one]
        if third == 1 or not len(others):
            return shifted(x, rng.integers(-self.shift, self.shift, x.shape[1], endpoint=True))
        return blend(x, self.dataset.sample(int(rng.choice(others)), epoch), self.kept, rng)

    def content(self) -> str:
        """The data set's identity and the amounts."""
        return f"{self.dataset.identity()}, {self.shift}, {self.kept}, {self.seed}"


def shifted(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Input c of ``[T, C]`` is later by ``by[c]`` steps, or earlier; the length stays.

    >>> shifted(np.array([[1, 2], [3, 4], [5, 6]]), np.array([1, -1])).tolist()
    [[0, 4], [1, 6], [3, 0]]
    """
    source = np.arange(len(x))[:, None] - by
    inside = (source >= 0) & (source < len(x))
    return np.where(inside, np.take_along_axis(x, source.clip(0, len(x) - 1), 0), 0).astype(x.dtype)


def blend(x: np.ndarray, other: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """The sum of two samples, the earlier one moved so that their centres of mass in time meet, both thinned.

    >>> one, two = np.array([[0], [4]]), np.array([[4], [0], [0]])
    >>> blend(one, two, 1.0, np.random.default_rng(0)).tolist()
    [[0], [8], [0], [0]]
    """
    later = round(_centre(x) - _centre(other))
    starts = max(-later, 0), max(later, 0)
    total = np.zeros((max(len(s) + start for s, start in zip((x, other), starts, strict=True)), x.shape[1]), np.int64)
    for s, start in zip((x, other), starts, strict=True):
        total[start : start + len(s)] += rng.binomial(s.astype(np.int64), kept)
    return total


def _centre(x: np.ndarray) -> float:
    """Mean time of the spikes; the middle where there are none."""
    mass = x.sum(1, dtype=np.float64)
    return float(np.arange(len(x)) @ mass / mass.sum()) if mass.any() else (len(x) - 1) / 2
