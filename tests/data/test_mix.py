import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import CutMix, batch_generator, collate


def made_batch(lengths, channels=3):
    """Sample i is full of i + 1, so that a step shows where it comes from."""
    return collate([(np.full((length, channels), i + 1), i % 4) for i, length in enumerate(lengths)])


@given(st.lists(st.integers(1, 63), min_size=1, max_size=7), st.integers(0, 100))
def test_labels_are_the_share_of_the_steps_that_come_from_each_sample(lengths, seed):
    batch = made_batch(lengths)
    mixed, soft, same = CutMix(4, probability=0.8)(batch, batch_generator(seed, 0, 0))
    assert (same == batch.lengths).all() and soft.dtype == torch.float32 and soft.shape == (len(lengths), 4)
    for i, length in enumerate(lengths):
        sources = mixed[:, i, 0].long() - 1
        assert (sources[length:] == -1).all() and (sources[:length] >= 0).all(), "padding stays padding"
        wanted = torch.zeros(4)
        for source in sources[:length].tolist():
            wanted[source % 4] += 1 / length
        torch.testing.assert_close(soft[i], wanted)
        assert (mixed[:, i] == mixed[:, i, :1]).all()
        others = (sources[:length] != i).nonzero().flatten()
        assert not len(others) or others[-1] - others[0] + 1 == len(others), "one patch in one piece"
        assert len(set(sources[others].tolist())) <= 1


def test_the_batch_that_was_given_is_left_alone_and_the_draw_is_its_own():
    batch = made_batch([9, 5, 7, 7])
    before = batch.x.clone()
    first, again, other = (CutMix(4, 1.0)(batch, batch_generator(0, 0, k)) for k in (3, 3, 4))
    assert torch.equal(batch.x, before) and torch.equal(first.x, again.x) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.x, other.x) and not torch.equal(first.x, before)


def test_probability_zero_mixes_nothing_and_one_mixes_often():
    batch = made_batch([31] * 60)
    assert torch.equal(CutMix(4, 0.0)(batch, batch_generator(0, 0, 0)).x, batch.x)
    share = (CutMix(4, 1.0)(batch, batch_generator(0, 0, 0)).x != batch.x).any(2).float().mean()
    assert abs(share - 0.5) < 0.1  # the patch is uniform in 0 .. T


def test_wrong_labels_are_refused():
    with pytest.raises(ValueError, match="made for 3 classes, got the label 3"):
        CutMix(3)(made_batch([5] * 4), batch_generator(0, 0, 0))
    mixed = CutMix(4)(made_batch([5] * 4), batch_generator(0, 0, 0))
    with pytest.raises(ValueError, match="mixed before"):
        CutMix(4)(mixed, batch_generator(0, 0, 0))
