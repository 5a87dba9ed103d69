import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import split_stratified, split_validation


@given(st.integers(0, 200), st.data())
def test_parts_are_disjoint_and_complete(n, data):
    k, seed = data.draw(st.integers(0, n)), data.draw(st.integers(0, 9))
    labels = np.random.default_rng(seed).integers(0, 4, n)
    for rest, held in (split_validation(n, k, seed), split_stratified(labels, k, seed)):
        assert len(held) == k and sorted([*rest, *held]) == list(range(n))
        assert (np.diff(held) > 0).all() and (np.diff(rest) > 0).all()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.data())
def test_a_stratified_part_has_every_class_by_its_share(labels, data):
    labels = np.array(labels)
    k = data.draw(st.integers(0, len(labels)))
    _, held = split_stratified(labels, k, 0)
    for label in np.unique(labels):
        share = k * (labels == label).sum() / len(labels)
        assert abs((labels[held] == label).sum() - share) < 1


def test_validation_is_the_permutation_that_the_protocol_names():
    train, valid = split_validation(1600, 160, seed=1234)
    assert set(valid) == set(np.random.default_rng(1234).permutation(1600)[:160]) and len(train) == 1440


def test_more_than_there_is_cannot_be_held_out():
    for split in (lambda: split_validation(5, 6, 0), lambda: split_stratified(np.zeros(5), 6, 0)):
        with pytest.raises(ValueError, match="Cannot hold out 6 of 5"):
            split()
