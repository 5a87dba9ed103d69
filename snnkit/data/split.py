"""Held-out parts: indices for training and validation, never from the test set."""

from __future__ import annotations

import numpy as np


def split_validation(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (training, validation): validation is ``default_rng(seed).permutation(n)[:k]``; both sorted.

    Raises:
        ValueError: k outside of 0 .. n.

    >>> train, valid = split_validation(10, 3, seed=0)
    >>> len(train), len(valid), sorted([*train.tolist(), *valid.tolist()]) == list(range(10))
    (7, 3, True)
    """
    if not 0 <= k <= n:
        raise ValueError(f"Cannot hold out {k} of {n} samples.")
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[k:]), np.sort(order[:k])


def split_stratified(labels: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (rest, held out) where the k held-out samples have the classes' shares of the whole; both sorted.

    Each class gives floor(k n_c / n) samples; the remaining ones come from the classes with the largest remainder.

    Raises:
        ValueError: k outside of 0 .. n.
    """
    labels = np.asarray(labels)
    if not 0 <= k <= len(labels):
        raise ValueError(f"Cannot hold out {k} of {len(labels)} samples.")
    if not len(labels):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    classes, counts = np.unique(labels, return_counts=True)
    quota = k * counts / len(labels)
    take = np.floor(quota).astype(int)
    take[np.argsort(take - quota, kind="stable")[: k - take.sum()]] += 1
    # RandomState's stream is frozen for good, Generator's is not: a test set must not change with numpy.
    random = np.random.RandomState(seed)
    members = [random.permutation(np.flatnonzero(labels == each)) for each in classes]
    held = np.concatenate([indices[:count] for indices, count in zip(members, take, strict=True)])
    return np.setdiff1d(np.arange(len(labels)), held), np.sort(held)
