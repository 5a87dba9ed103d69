"""A data set whose recordings are mixed with others of the same set: EventMix with draws by (seed, epoch, sample)."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from snnkit.data.compose import Transform, transformed
from snnkit.data.dataset import Dataset
from snnkit.data.event_mix import EventMix
from snnkit.data.frame import checked_probability, happens
from snnkit.data.identity import identity
from snnkit.data.seed import generator


class EventMixed(Dataset):
    """``dataset[i] -> (sample, target)``, target ``[classes]`` float32: mixed labels, or one-hot where none was mixed.

    Args:
        dataset: of raw events, without a random transform.
        mix: how two recordings are mixed.
        probability: of mixing a sample; its partner is uniform among all samples.
        transform: applied to the mixed events, e.g. one that makes frames; may be random.
        seed: of all draws.

    ``collate`` makes ``[B, classes]`` of the targets, which ``cross_entropy`` takes.

    Raises:
        ValueError: the data set is random.
    """

    draws = True

    def __init__(
        self,
        dataset: Dataset,
        mix: EventMix,
        probability: float = 0.5,
        transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        checked_probability(probability, "EventMixed")
        if dataset.draws:
            raise ValueError(f"{dataset} has a random transform; give it to EventMixed(..., transform=...) instead.")
        super().__init__(dataset.labels, dataset.classes, transform, seed, dataset.speakers)
        self.dataset, self.mix, self.probability = dataset, mix, probability

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """The recording before it is mixed."""
        return self.dataset.sample(index, epoch)

    def content(self) -> str:
        """The identity of the data set, and the mix."""
        return f"{self.dataset.identity()}, {identity(self.mix)}, {self.probability}"

    def sample(self, index: int, epoch: int) -> Any:
        """Sample ``index`` as it is in ``epoch``, without its target."""
        return self._mixed(index, epoch)[0]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        epoch = getattr(index, "epoch", self.epoch)
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"{self} has {len(self)} samples, got index {position}.")
        return self._mixed(position % len(self), epoch)

    def _mixed(self, index: int, epoch: int) -> tuple[Any, np.ndarray]:
        rng = generator(self.seed, epoch, index)
        mixes, partner = happens(self.probability, rng), int(rng.integers(len(self)))
        events, weight = self.stored(index, epoch), 0.0
        if mixes:
            events, weight = self.mix(events, self.stored(partner, epoch), rng)
        target = np.zeros(len(self.classes), np.float32)
        target[self.labels[index]] += 1 - weight
        target[self.labels[partner]] += weight
        return transformed(events, self.transform, rng), target
