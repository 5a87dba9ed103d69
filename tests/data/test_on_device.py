"""A data set on a device gives the batches that collate gives."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from snnkit.data import EpochSampler, OnDevice, Part, TimeMask, collate
from snnkit.data.dataset import Dataset
from tests.on_gpu import gpus

KINDS = st.sampled_from([np.uint8, np.uint16, np.int32, np.bool_, np.float16, np.float32])
SETS = KINDS.flatmap(
    lambda kind: st.lists(
        st.integers(0, 6).flatmap(lambda steps: arrays(kind, (steps, 3))), min_size=1, max_size=5
    )
)


class Given(Dataset):
    """A data set of these frames; the label of sample i is 2 i."""

    def __init__(self, samples, transform=None):
        super().__init__(2 * np.arange(len(samples)), [str(i) for i in range(2 * len(samples))], transform)
        self.samples = samples

    def stored(self, index, epoch=0):
        return self.samples[index]

    def content(self):
        return "given"


def same(batch, expected):
    for one, other in zip(batch, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@given(SETS, st.data())
def test_a_batch_is_what_collate_makes_of_the_samples(samples, data):
    dataset = Given(samples)
    indices = data.draw(st.lists(st.integers(0, len(samples) - 1), min_size=1, max_size=7))
    expected = collate([dataset[index] for index in indices])
    same(OnDevice(dataset).batch(indices), expected)
    same(dataset.batch(indices), expected)


def test_pictures_keep_their_axes_and_samples_can_be_read_one_by_one():
    frames = [np.arange(steps * 8).reshape(steps, 2, 4).astype(np.uint16) for steps in (3, 5)]
    held = OnDevice(Given(frames))
    same(held.batch([1, 0]), collate([(frames[1], 2), (frames[0], 0)]))
    for index, (sample, label) in enumerate(held):
        assert (sample == frames[index]).all() and label == 2 * index


def test_counts_that_fit_take_a_byte_each_and_the_rest_of_the_set_is_as_before():
    dataset = Part(Given([np.full((4, 3), 255), np.full((2, 3), 7)]), [1, 0])
    held = OnDevice(dataset)
    assert held.nbytes == 1 * 3 + (4 + 2) * 3
    assert OnDevice(Given([np.full((4, 3), 256)])).nbytes == 4 * (3 + 4 * 3)
    assert held.labels.tolist() == [2, 0] and held.classes == dataset.classes


def test_a_sampler_s_indices_make_batches():
    dataset = Given([np.full((steps, 3), steps, np.uint8) for steps in (1, 4, 2, 5, 3)])
    held = OnDevice(dataset)
    for batch in EpochSampler(5, 2, seed=3):
        same(held.batch(batch), dataset.batch(batch))


def test_what_it_cannot_hold_or_give_is_refused():
    with pytest.raises(ValueError, match="OnDevice would freeze one draw"):
        OnDevice(Given([np.zeros((4, 3))], TimeMask()))
    with pytest.raises(ValueError, match=r"differ in T only, got steps of the shapes .*\(3,\)"):
        OnDevice(Given([np.zeros((4, 3)), np.zeros((4, 2))]))
    with pytest.raises(TypeError, match="OnDevice expects events or a numpy array of frames"):
        OnDevice(Given([[1, 2]]))
    held = OnDevice(Given([np.zeros((4, 3))] * 2))
    for indices, got in (([0, 2], "index 2"), ([-1], "index -1"), ([], "no indices")):
        with pytest.raises(IndexError, match=f"samples 0 to 1, got {got}"):
            held.batch(indices)


@gpus()
def test_batches_on_a_gpu_are_those_of_the_cpu():
    rng = np.random.default_rng(0)
    dataset = Given([rng.integers(0, 9, (steps, 3)) for steps in (3, 7, 1)])
    batch = OnDevice(dataset, "cuda").batch([2, 1, 2, 0])
    assert all(part.is_cuda for part in batch)
    same([part.cpu() for part in batch], dataset.batch([2, 1, 2, 0]))
