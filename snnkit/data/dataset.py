"""What all data sets share: labels, classes, an epoch, and one way to a sample and to a batch.

A sample is ``transform(stored(i))``, where random transforms draw from ``generator(seed, epoch, i)``. The epoch
comes with the index if ``EpochSampler`` made it (so that DataLoader workers that outlive an epoch know the current
one), else from ``set_epoch``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from snnkit.data.collate import Batch, collate
from snnkit.data.compose import Transform, draws, transformed
from snnkit.data.identity import identity
from snnkit.data.seed import generator


class Dataset:
    """Base of the data sets: ``dataset[i] -> (sample, label)``, ``batch(indices)``, ``len``, ``set_epoch``.

    A subclass gives ``stored(index, epoch)``, the sample before the transform, and ``content()``, a text or hash
    that changes when the stored samples do.

    Attributes:
        labels: int64 array, one a sample.
        classes: name of each class.
        speakers: int64 array, or None where the set has none.
    """

    def __init__(
        self,
        labels: np.ndarray,
        classes: Sequence[str],
        transform: Transform | None = None,
        seed: int = 0,
        speakers: np.ndarray | None = None,
    ) -> None:
        self.labels = np.asarray(labels).astype(np.int64)
        self.classes = list(classes)
        self.speakers = speakers
        self.transform, self.seed, self.epoch = transform, seed, 0

    def stored(self, index: int, epoch: int) -> np.ndarray:
        """The sample before the transform."""
        raise NotImplementedError(f"{type(self).__name__} must define stored(index, epoch).")

    def content(self) -> str:
        """Text that changes when the stored samples change."""
        raise NotImplementedError(f"{type(self).__name__} must define content().")

    @property
    def draws(self) -> bool:
        """Whether samples are random."""
        return draws(self.transform)

    def identity(self) -> str:
        """Text that changes when the samples change: content and every argument of the transform."""
        return f"{type(self).__module__}.{type(self).__qualname__}({self.content()}, {identity(self.transform)})"

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that random transforms draw for."""
        self.epoch = epoch

    def sample(self, index: int, epoch: int) -> Any:
        """Sample ``index`` as it is in ``epoch``."""
        stored = self.stored(index, epoch)
        rng = generator(self.seed, epoch, index) if draws(self.transform) else None
        try:
            return transformed(stored, self.transform, rng)
        except ValueError as error:
            raise ValueError(f"{self}, sample {index}: {error}") from error

    def __getitem__(self, index: int) -> tuple[Any, int]:
        epoch = getattr(index, "epoch", self.epoch)
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"{self} has {len(self)} samples, got index {position}.")
        position %= len(self)
        return self.sample(position, epoch), int(self.labels[position])

    def batch(self, indices: Sequence[int]) -> Batch:
        """The batch of these samples, see ``collate``."""
        return collate([self[index] for index in indices])

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples, {len(self.classes)} classes)"


class Part(Dataset):
    """Some samples of a data set, by index, e.g. the training part without what is held out.

    The part may add a random transform of its own, so that training is augmented and validation, on the same
    stored samples, is not. One level may be random, not both.
    """

    def __init__(
        self, dataset: Dataset, indices: Sequence[int], transform: Transform | None = None, seed: int = 0
    ) -> None:
        self.dataset, self.indices = dataset, np.asarray(indices, dtype=np.int64)
        if self.indices.ndim != 1:
            raise ValueError(f"indices must be a list of whole numbers, got shape {self.indices.shape}.")
        outside = self.indices[(self.indices < 0) | (self.indices >= len(dataset))]
        if len(outside):
            raise ValueError(f"Index {outside[0]} is not in {dataset}, which has {len(dataset)} samples.")
        if dataset.draws and draws(transform):
            raise ValueError("Both the data set and its part have a random transform; give it to the part alone.")
        speakers = None if dataset.speakers is None else dataset.speakers[self.indices]
        super().__init__(dataset.labels[self.indices], dataset.classes, transform, seed, speakers)

    @property
    def draws(self) -> bool:
        """Whether samples are random."""
        return draws(self.transform) or self.dataset.draws

    def stored(self, index: int, epoch: int) -> np.ndarray:
        """The sample of the whole set."""
        return self.dataset.sample(int(self.indices[index]), epoch)

    def content(self) -> str:
        """The whole set's identity and the indices."""
        return f"{self.dataset.identity()}[{identity(self.indices)}]"
