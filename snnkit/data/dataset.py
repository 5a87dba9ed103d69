"""What all data sets share: labels, classes, an epoch, and one way to a sample and to a batch.

A sample is ``transform(stored(i))``, where random transforms draw from ``generator(seed, epoch, i)``. The epoch
comes with the index if ``EpochSampler`` made it, else from ``set_epoch``. It is kept in memory that processes share, so
that DataLoader workers that outlive an epoch know the current one either way.
"""

from __future__ import annotations

import mmap
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

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
        epoch: what random transforms draw for; ``set_epoch`` sets it.

    Raises:
        TypeError: the transform cannot be called.
    """

    def __init__(
        self,
        labels: np.ndarray,
        classes: Sequence[str],
        transform: Transform | None = None,
        seed: int = 0,
        speakers: np.ndarray | None = None,
    ) -> None:
        if not (transform is None or callable(transform)):
            raise TypeError(f"transform must be None or something to call with a sample, got {transform!r}.")
        self.labels = np.asarray(labels).astype(np.int64)
        self.classes = list(classes)
        self.speakers = speakers
        self.transform, self.seed, self._epoch = transform, seed, _shared(0)

    def stored(self, index: int, epoch: int) -> np.ndarray:
        """The sample before the transform."""
        raise NotImplementedError(f"{type(self).__name__} must define stored(index, epoch).")

    def content(self) -> str:
        """Text that changes when the stored samples change."""
        raise NotImplementedError(f"{type(self).__name__} must define content().")

    def record(self) -> dict[str, Any]:
        """What the reader says of itself in a result file, see :func:`snnkit.data.provenance`."""
        return {"reader": type(self).__name__}

    @property
    def draws(self) -> bool:
        """Whether samples are random."""
        return draws(self.transform)

    def identity(self) -> str:
        """Text that changes when the samples change: content and every argument of the transform."""
        return f"{type(self).__module__}.{type(self).__qualname__}({self.content()}, {identity(self.transform)})"

    @property
    def epoch(self) -> int:
        """The epoch that random transforms draw for, 0 until it is set."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(operator.index(epoch))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that random transforms draw for. Call it before each epoch, else all have equal draws."""
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

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self._epoch.is_shared():  # a copy, which has an epoch of its own; a spawned worker gets a shared one
            self._epoch = _shared(self.epoch)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples, {len(self.classes)} classes)"


def _shared(number: int) -> torch.Tensor:
    """A whole number that forked processes share; pickling to a spawned one shares it, too, as it does each tensor."""
    # Not share_memory_(): that holds an open file for each data set, and a study may make thousands of parts.
    return torch.frombuffer(mmap.mmap(-1, 8), dtype=torch.int64).fill_(number)


class Part(Dataset):
    """Some samples of a data set, by index, e.g. the training part without what is held out.

    The part may add a random transform of its own, so that training is augmented and validation, on the same
    stored samples, is not. One level may be random, not both.

    Raises:
        ValueError: one of ``indices`` outside of the data set, random transforms at both levels.
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
