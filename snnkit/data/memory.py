"""A whole data set in memory, as the smallest counts that hold it: an epoch then costs no file access."""

from __future__ import annotations

import numpy as np

from snnkit.data.compose import Transform
from snnkit.data.dataset import Dataset
from snnkit.data.frame import narrowest


class InMemory(Dataset):
    """Every sample of a data set after its (fixed) transform, read once; uint8 where the counts fit.

    ``InMemory(SpikeHDF5(root, "train", Bin(group=5)), transform=TimeMask())``: the inner transform is applied once,
    the outer one at each access. Each access gives a copy, so that a transform cannot change what is stored.
    """

    def __init__(self, dataset: Dataset, transform: Transform | None = None, seed: int = 0) -> None:
        refuse_random(dataset, "InMemory")
        super().__init__(dataset.labels, dataset.classes, transform, seed, dataset.speakers)
        self.dataset = dataset
        self._samples = [narrowest(dataset.sample(index, 0)) for index in range(len(dataset))]

    @property
    def nbytes(self) -> int:
        """Bytes that the samples take."""
        return sum(sample.nbytes for sample in self._samples)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """A copy of one sample."""
        return self._samples[index].copy()

    def content(self) -> str:
        """The identity of the data set that was read."""
        return self.dataset.identity()


def refuse_random(dataset: Dataset, holder: str) -> None:
    """Complain about a data set whose samples are drawn anew each time: storing one draw would freeze it."""
    if not isinstance(dataset, Dataset):
        raise TypeError(f"{holder} takes a data set of snnkit.data, got {type(dataset).__name__}.")
    if dataset.draws:
        raise ValueError(
            f"{holder} would freeze one draw of the random transform of {dataset}; "
            f"give the random part to {holder}(..., transform=...)."
        )
