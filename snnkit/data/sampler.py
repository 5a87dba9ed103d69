"""The order of an epoch: batches of indices as a pure function of (seed, epoch), from any batch on.

A run that was killed goes on at its next batch with ``start``: no generator state has to be saved, and the number of
DataLoader workers does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from snnkit.data.seed import order_generator


class EpochIndex(int):
    """A sample's index that knows the epoch it is drawn for, also in a worker process that outlives epochs."""

    epoch: int

    def __new__(cls, index: int, epoch: int = 0) -> EpochIndex:
        """The index as an int, with ``epoch``, which pickling keeps as the object's state."""
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __add__(self, other: int) -> EpochIndex:
        return EpochIndex(int(self) + other, self.epoch)

    def __sub__(self, other: int) -> EpochIndex:  # as torch's ConcatDataset does
        return EpochIndex(int(self) - other, self.epoch)


class EpochSampler:
    """Batches of indices for ``DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)``.

    Args:
        n: number of samples.
        batch_size: samples in a batch.
        seed, epoch: the order is a function of these two.
        start: the first batch to give, to go on in the middle of an epoch.
        shuffle: otherwise the order of the data set (evaluation).
        drop_last: leave out a last batch that is not full.

    Its indices carry the epoch, for the random transforms of our data sets, also through torch's ``ConcatDataset``. A
    torch ``Subset`` drops it, and all epochs draw alike: take ``snnkit.data.Part``, or call ``set_epoch`` of the set.

    Raises:
        ValueError: n below 0, batch_size below 1, a start beyond the epoch.

    >>> whole = [list(batch) for batch in EpochSampler(7, 3, seed=1, epoch=4)]
    >>> whole[2:] == [list(batch) for batch in EpochSampler(7, 3, seed=1, epoch=4, start=2)]
    True
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        if n < 0 or batch_size < 1:
            raise ValueError(f"EpochSampler needs n >= 0 and batch_size >= 1, got n={n}, batch_size={batch_size}.")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.set_epoch(epoch, start)

    @property
    def batches(self) -> int:
        """Number of batches in a whole epoch."""
        return self.n // self.batch_size if self.drop_last else -(-self.n // self.batch_size)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to an epoch, from batch ``start`` on."""
        if not 0 <= start <= self.batches:
            raise ValueError(f"start must be in 0..{self.batches}, the batches of an epoch; got {start}.")
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[list[int]]:
        order = order_generator(self.seed, self.epoch).permutation(self.n) if self.shuffle else np.arange(self.n)
        for batch in range(self.start, self.batches):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [EpochIndex(index, self.epoch) for index in chosen.tolist()]

    def __len__(self) -> int:
        return self.batches - self.start
