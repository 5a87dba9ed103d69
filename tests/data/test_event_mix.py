import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import Bin, EventMix, EventMixed, TimeMask, collate, generator
from snnkit.data.camera_event import CAMERA
from snnkit.data.dataset import Dataset

HEIGHT, WIDTH = 12, 17
SENSOR = (2, HEIGHT, WIDTH)
seeds = st.integers(0, 1000)


def recording(seed, count=200, polarity=None, start=0):
    rng = np.random.default_rng(seed)
    events = np.empty(count, CAMERA)
    events["t"] = start + np.sort(rng.integers(0, 100_000, count))
    events["y"], events["x"] = rng.integers(0, HEIGHT, count), rng.integers(0, WIDTH, count)
    events["p"] = rng.integers(0, 2, count) if polarity is None else polarity
    return events


class Recordings(Dataset):
    """Seven recordings of three classes."""

    def __init__(self, transform=None):
        super().__init__(np.arange(7) % 3, "abc", transform)

    def stored(self, index, epoch=0):
        return recording(index, start=1000 * index)

    def content(self):
        return "seven"


@given(seed=seeds, counts=st.tuples(st.integers(0, 300), st.integers(0, 300)), start=st.integers(0, 10**9))
def test_labels_are_weighed_by_each_recordings_share_of_events(seed, counts, start):
    first, second = recording(seed, counts[0], 0, start), recording(seed + 1, counts[1], 1)
    mixed, weight = EventMix(SENSOR)(first, second, generator(seed, 0, 0))
    kept, come = ((mixed["p"] == p).sum() / max(n, 1) for p, n in enumerate(counts))
    if kept + come and counts[0]:
        assert weight == pytest.approx(come / (kept + come))
    assert 0 <= weight <= 1 and (np.diff(mixed["t"]) >= 0).all() and mixed.dtype == CAMERA
    places = set(zip(*(first[name].tolist() for name in "tyx"), strict=True))
    assert set(zip(*(mixed[mixed["p"] == 0][name].tolist() for name in "tyx"), strict=True)) <= places
    if counts[0] and counts[1]:
        second["t"] += first["t"][0] - second["t"][0]
        brought = mixed[mixed["p"] == 1]
        assert set(brought["t"]) <= set(second["t"]), "the second begins with the first"
        assert mixed["t"].min(initial=start) >= start and np.ptp(mixed["t"]) <= 100_000


def test_the_region_is_one_for_both_and_its_volume_is_uniform():
    first, second = recording(0, 4000, 0), recording(1, 4000, 1)
    second["t"][0] = first["t"][0] = 0
    weights = []
    for i in range(200):
        mixed, weight = EventMix(SENSOR)(first, second, generator(0, 0, i))
        assert len(mixed) == pytest.approx(4000, abs=400), "what goes makes room for what comes"
        weights.append(weight)
    assert np.abs(np.quantile(weights, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.12


def test_a_data_set_of_mixed_recordings_draws_by_seed_epoch_and_sample_and_makes_batches():
    frames = Bin(SENSOR, 50_001, steps=2)
    mixed = EventMixed(Recordings(), EventMix(SENSOR), 0.7, frames, seed=3)
    first = [mixed[i] for i in range(7)]
    again = EventMixed(Recordings(), EventMix(SENSOR), 0.7, frames, seed=3)
    for i in (6, 0, 3):
        assert (again[i][0] == first[i][0]).all() and (again[i][1] == first[i][1]).all(), "whatever was drawn before"
    mixed.set_epoch(1)
    assert any((mixed[i][0] != first[i][0]).any() for i in range(7))
    batch = collate(first)
    assert batch.x.shape == (2, 7, 2, HEIGHT, WIDTH) and batch.labels.dtype == torch.float32
    torch.testing.assert_close(batch.labels.sum(1), torch.ones(7))
    assert 0 < ((batch.labels > 0).sum(1) > 1).sum() < 7
    assert (mixed.sample(2, 0) == first[2][0]).all() and mixed.draws


def test_without_mixing_targets_are_one_hot_and_recordings_untouched():
    plain = EventMixed(Recordings(), EventMix(SENSOR), 0.0)
    for i in range(7):
        events, target = plain[i]
        assert np.array_equal(events, Recordings()[i][0]) and target.tolist() == np.eye(3)[i % 3].tolist()
    assert plain[-1][1].tolist() == plain[6][1].tolist()
    with pytest.raises(IndexError, match="7 samples"):
        plain[7]


def test_random_sets_other_dtypes_and_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="has a random transform"):
        EventMixed(Recordings(TimeMask()), EventMix(SENSOR))
    other = np.zeros(3, [("t", "i8"), ("x", "i8"), ("y", "i8"), ("p", "i8")])
    with pytest.raises(ValueError, match="one dtype"):
        EventMix(SENSOR)(recording(0), other, generator(0, 0, 0))
    for make in (lambda: EventMix(SENSOR, 0.0), lambda: EventMix(700)):
        with pytest.raises(ValueError, match="EventMix"):
            make()
    with pytest.raises(ValueError, match="EventMixed: probability"):
        EventMixed(Recordings(), EventMix(SENSOR), 2)


def test_mixed_and_whole_labels_in_one_batch_are_refused():
    frames = np.zeros((2, 3))
    with pytest.raises(TypeError, match="Labels are whole numbers"):
        collate([(frames, np.array([0.5, 0.5], np.float32)), (frames, 1)])
