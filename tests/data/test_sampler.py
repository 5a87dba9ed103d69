import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import Digits, EpochSampler, Part, TimeShift


@given(st.integers(0, 70), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_an_epoch_visits_every_sample_once_and_can_start_anywhere(n, batch_size, seed, epoch, drop_last):
    def make(start=0):
        return EpochSampler(n, batch_size, seed, epoch, start, drop_last=drop_last)

    whole = list(make())
    assert len(whole) == len(make()) == make().batches and list(make()) == whole
    visited = [i for batch in whole for i in batch]
    assert len(set(visited)) == len(visited) == (n // batch_size * batch_size if drop_last else n)
    assert all(len(batch) == batch_size for batch in whole[:-1]) and {i.epoch for i in visited} <= {epoch}
    for start in range(len(whole) + 1):
        assert list(make(start)) == whole[start:] and len(make(start)) == len(whole) - start


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(np.ravel(list(EpochSampler(63, 9, seed, epoch)))) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_set_epoch_is_the_same_as_a_new_sampler_and_ends_the_resumed_start():
    sampler = EpochSampler(10, 3, seed=5, epoch=1, start=2)
    sampler.set_epoch(2)
    assert list(sampler) == list(EpochSampler(10, 3, seed=5, epoch=2)) and len(sampler) == 4
    sampler.set_epoch(2, start=1)
    assert list(sampler) == list(EpochSampler(10, 3, seed=5, epoch=2))[1:]


def test_evaluation_goes_in_file_order():
    assert list(EpochSampler(5, 2, shuffle=False)) == [[0, 1], [2, 3], [4]]


def test_the_order_is_the_same_on_every_machine():
    assert [list(map(int, batch)) for batch in EpochSampler(7, 3, seed=1, epoch=4)] == [[3, 5, 4], [2, 6, 0], [1]]


@pytest.mark.parametrize("arguments", [(-1, 3), (5, 0), (5, 2, 0, 0, 4), (5, 2, 0, 0, -1)])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="n >= 0|start must be"):
        EpochSampler(*arguments)


def test_indices_keep_their_epoch_through_a_concat_dataset():
    parts = [Part(Digits(split, steps=8), range(16), TimeShift(5)) for split in ("train", "valid")]
    both = torch.utils.data.ConcatDataset(parts)
    for epoch in (0, 3):
        (batch,) = EpochSampler(32, 32, epoch=epoch, shuffle=False)
        for index in (0, 15, 16, 31):
            expected = parts[index // 16].sample(index % 16, epoch)
            assert (both[batch[index]][0] == expected).all()
