import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from snnkit.data import Batch, collate, spike_events, step_mask

frames = st.integers(0, 9).flatmap(lambda t: arrays(np.uint8, (t, 5)))


@given(st.lists(frames, min_size=1, max_size=4), st.integers(1, 8))
def test_padding_is_silent_at_the_end_and_nothing_else_changes(samples, multiple):
    x, labels, lengths = collate([(sample, i) for i, sample in enumerate(samples)], multiple)
    assert x.dtype == torch.float32 and labels.dtype == lengths.dtype == torch.int64
    longest = max(map(len, samples))
    assert x.shape[1:] == (len(samples), 5) and longest <= len(x) < longest + multiple and len(x) % multiple == 0
    assert labels.tolist() == list(range(len(samples))) and lengths.tolist() == [len(each) for each in samples]
    mask = step_mask(lengths, len(x))
    for i, sample in enumerate(samples):
        assert (x[: len(sample), i].numpy() == sample).all() and not x[len(sample) :, i].any()
        assert mask[:, i].tolist() == [t < len(sample) for t in range(len(x))]


def test_pictures_and_tensors_collate_too():
    batch = collate([(torch.ones(3, 2, 4, 5), torch.tensor(1)), (torch.ones(7, 2, 4, 5), np.int64(0))])
    assert isinstance(batch, Batch) and batch.x.shape == (7, 2, 2, 4, 5) and batch.labels.tolist() == [1, 0]


def test_samples_that_differ_in_channels_are_named():
    with pytest.raises(ValueError, match=r"sample 1 of the batch has \[T, C\] = \(5, 4\), sample 0 has \(3, 5\)"):
        collate([(np.zeros((3, 5)), 0), (np.zeros((5, 4)), 0)])


def test_events_are_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"sample 0 of the batch is events.*transform=Bin"):
        collate([(spike_events(np.zeros(2), np.zeros(2, int)), 0)])
    with pytest.raises(TypeError, match="sample 1 of the batch is list"):
        collate([(np.zeros((3, 5)), 0), ([[1]], 0)])
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        collate([(np.zeros(3), 0)])


@pytest.mark.parametrize("label", ["seven", 1.5, True, None, np.zeros(2)])
def test_labels_that_are_no_whole_numbers_are_refused(label):
    with pytest.raises(TypeError, match="Labels are whole numbers"):
        collate([(np.zeros((3, 5)), label)])


def test_nothing_to_collate_and_impossible_multiples_are_errors():
    with pytest.raises(ValueError, match="no samples"):
        collate([])
    with pytest.raises(ValueError, match="multiple must be"):
        collate([(np.zeros((3, 5)), 0)], multiple=0)


def test_step_mask_wants_one_length_a_sample():
    with pytest.raises(ValueError, match=r"\[B\]"):
        step_mask(torch.ones(3, 2, dtype=torch.int64), 4)


def test_narrow_counts_stay_narrow_and_equal_after_the_cast():
    rng = np.random.default_rng(0)
    small = [(rng.integers(0, 256, (t, 3), dtype=np.uint8), t) for t in (2, 5, 1)]
    wide = [*small, (np.full((4, 3), 40_000, np.uint16), 0)]
    real = [*wide, (np.full((4, 3), 0.5, np.float32), 0)]
    for samples, dtype in ((small, torch.uint8), (wide, torch.int32), (real, torch.float32)):
        narrow, plain = collate(samples, multiple=4, narrow=True), collate(samples, multiple=4)
        assert narrow.x.dtype == dtype and torch.equal(narrow.x.float(), plain.x)
        assert torch.equal(narrow.labels, plain.labels) and torch.equal(narrow.lengths, plain.lengths)
    assert collate([(np.full((1, 1), 2**40), 0)], narrow=True).x.dtype == torch.float32
