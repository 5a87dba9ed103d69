"""Random draws that do not depend on who draws before them: one generator for each (seed, epoch, sample).

A run that was stopped in the middle of an epoch can only go on bit for bit if the augmentation of sample i is a
function of (seed, epoch, i) alone, whichever worker process handles it and whatever was drawn before. Draws for a
whole batch (mixing) and the order of an epoch come from streams of their own.
"""

from __future__ import annotations

import operator

import numpy as np

_SAMPLE, _BATCH, _ORDER = 0, 1, 2


def _stream(kind: int, seed: int, *key: int) -> np.random.Generator:
    for name, value in (("seed", seed), *zip(("epoch", "index"), key, strict=False)):
        if not 0 <= operator.index(value) < 2**32:
            raise ValueError(f"{name} must be in [0, 2^32), got {value}.")  # larger ones would run into their neighbour
    # The spawn key is mixed in after the seed has been padded to the pool size, so no two keys give one stream.
    return np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=(kind, *map(int, key))))


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Generator for sample ``index`` in ``epoch``; the same three numbers always give the same draws.

    >>> generator(0, 2, 5).integers(100, size=3).tolist() == generator(0, 2, 5).integers(100, size=3).tolist()
    True
    """
    return _stream(_SAMPLE, seed, epoch, index)


def batch_generator(seed: int, epoch: int, batch: int) -> np.random.Generator:
    """Generator for what is drawn once a batch (CutMix), independent of the samples' generators."""
    return _stream(_BATCH, seed, epoch, batch)


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """Generator for the order in which an epoch visits its samples."""
    return _stream(_ORDER, seed, epoch)
