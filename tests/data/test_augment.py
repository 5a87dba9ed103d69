"""Laws that every augmentation keeps, on events and on frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import (
    Bin,
    ChannelJitter,
    ChannelShift,
    NeuronMask,
    TimeMask,
    TimeShift,
    TimeStretch,
    generator,
    spike_events,
)

CHANNELS = 14
EVERY = [
    TimeShift(4),
    TimeStretch(0.7, 1.4),
    TimeMask(5, probability=1.0),
    ChannelJitter(2.0, CHANNELS),
    ChannelShift(5, CHANNELS),
    NeuronMask(6, 1.0, CHANNELS),
]
every = pytest.mark.parametrize("augment", EVERY, ids=lambda each: type(each).__name__)
spikes = st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, CHANNELS - 1)), max_size=63)
seeds = st.integers(0, 1000)
from_zero = Bin(CHANNELS, from_first_spike=False)


def events_of(rows, dtype="int64"):
    times = np.array([t for t, _ in rows], np.int64)
    return spike_events(
        (times / 1e6 if dtype.startswith("f") else times).astype(dtype), np.array([x for _, x in rows], np.int64)
    )


def trimmed(frames):
    """Without the silent frames at the end."""
    return frames[: len(frames) - np.argmax(frames[::-1].any(1))] if frames.any() else frames[:0]


@pytest.mark.parametrize("augment", [EVERY[i] for i in (0, 2, 4, 5)], ids=lambda each: type(each).__name__)
@given(rows=spikes, seed=seeds)
def test_events_and_frames_give_the_same(augment, rows, seed):
    events = events_of(rows)
    first = augment(events, generator(seed, 0, 0))
    assert trimmed(from_zero(first)).tolist() == trimmed(augment(from_zero(events), generator(seed, 0, 0))).tolist()


@every
@given(rows=spikes, seed=seeds)
def test_no_spike_is_made_and_the_input_is_left_alone(augment, rows, seed):
    for sample in (events_of(rows), from_zero(events_of(rows)).astype(np.uint8)):
        before = sample.copy()
        once, twice = augment(sample, generator(seed, 3, 5)), augment(sample, generator(seed, 3, 5))
        assert (sample == before).all()
        assert once.shape == twice.shape and (once == twice).all()
        if once.dtype.names:
            assert len(once) <= len(rows) and once.dtype.names == ("t", "x")
        else:
            assert once.sum(dtype=int) <= len(rows) and once.shape[1] == CHANNELS and len(once) >= 1


@given(spikes, seeds)
def test_stretching_keeps_every_spike(rows, seed):
    for sample in (events_of(rows), events_of(rows, "float16")):
        assert len(TimeStretch(0.5, 2.0)(sample, generator(seed, 0, 0))) == len(rows)
    assert TimeStretch(0.5, 2.0)(from_zero(events_of(rows)), generator(seed, 0, 0)).sum() == len(rows)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint16", "uint32"])
def test_narrow_times_are_shifted_in_full_width(dtype):
    scale = 1e-6 if dtype.startswith("f") else 1
    events = spike_events(np.array([60_000]), np.array([1]))
    narrow = np.empty(1, [("t", dtype), ("x", "i8")])
    narrow["t"], narrow["x"] = np.array([60_000 * scale]).astype(dtype), 1
    for seed in range(9):
        wide, shifted = (TimeShift(4)(each, generator(seed, 0, 0))["t"] for each in (events, narrow))
        assert shifted.dtype.itemsize == 8
        assert np.abs(wide * scale - shifted - (60_000 * scale - narrow["t"].astype(float))).max() < 1e-12


def test_frames_that_meet_are_added_beyond_uint8():
    frames = np.full((4, 3), 200, np.uint8)
    assert TimeStretch(0.5, 0.5)(frames, generator(0, 0, 0)).tolist() == [[400] * 3] * 2


@every
def test_samples_and_epochs_draw_differently(augment):
    frames = np.random.default_rng(0).integers(0, 4, (31, CHANNELS)).astype(np.uint8)
    results = {augment(frames, generator(0, epoch, i)).tobytes() for epoch in range(4) for i in range(5)}
    assert len(results) >= 8


@every
def test_tonics_spikes_keep_their_other_fields(augment):
    events = np.zeros(5, [("t", "i8"), ("x", "i8"), ("p", "i8")])
    events["t"], events["x"], events["p"] = np.arange(5) * 20_000, np.arange(5), 1
    changed = augment(events, generator(0, 0, 0))
    assert changed.dtype.names == ("t", "x", "p") and (changed["p"] == 1).all()


@every
def test_events_without_an_address_are_named_not_an_index_error(augment):
    events = np.zeros(5, [("address", "i8"), ("when", "i8")])
    name = "t" if type(augment).__name__.startswith("Time") else "x"
    with pytest.raises(ValueError, match=f"{type(augment).__name__} needs the field '{name}'.*address, when"):
        augment(events, generator(0, 0, 0))


@every
@pytest.mark.parametrize("wrong", [[[1, 2]], np.zeros(5), np.array([["a", "b"]])], ids=["list", "one axis", "text"])
def test_what_is_neither_events_nor_frames_is_refused(augment, wrong):
    with pytest.raises((TypeError, ValueError), match=type(augment).__name__):
        augment(wrong, generator(0, 0, 0))


def test_channel_shift_moves_all_channels_alike_and_wraps_nothing():
    events = events_of([(0, 0), (10, 6), (20, 13)])
    shifts = set()
    for i in range(100):
        x = ChannelShift(5, CHANNELS)(events, generator(0, 0, i))["x"]
        assert ((x >= 0) & (x < CHANNELS)).all() and 6 + 5 >= x[x != 0].min()
        shifts.add(tuple(x.tolist()))
    assert (0, 6, 13) in shifts and (11,) not in shifts and (5, 11) in shifts and (1, 8) in shifts


def test_jitter_is_normal_and_moves_spikes_on_their_own():
    x = ChannelJitter(3.0, 1000)(spike_events(np.zeros(5000), np.full(5000, 500)), generator(0, 0, 0))["x"]
    assert abs(x.mean() - 500) < 0.2 and abs(x.std() - 3.0) < 0.15
    frames = np.zeros((2, 1000), np.uint16)
    frames[1, 500] = 5000
    counts = ChannelJitter(3.0)(frames, generator(0, 0, 0))[1]
    assert (np.repeat(np.arange(1000), counts) == np.sort(x)).all()


def test_a_mask_is_silent_for_at_most_its_length_and_as_often_as_said():
    frames = np.ones((31, CHANNELS), np.uint8)
    for augment, axis in ((TimeMask(7, 0.65), 1), (NeuronMask(6, 0.65), 0)):
        silent = np.array([(augment(frames, generator(0, 0, i)).sum(axis) == 0).sum() for i in range(600)])
        most = 7 if axis else 6
        assert silent.max() == most and abs((silent > 0).mean() - 0.65 * most / (most + 1)) < 0.06


def test_impossible_amounts_are_refused():
    for make in (
        lambda: TimeStretch(0.0, 1.0),
        lambda: TimeStretch(1.2, 1.1),
        lambda: TimeMask(3, 1.5),
        lambda: NeuronMask(3, -0.1),
        lambda: ChannelJitter(-1.0),
        lambda: TimeShift(-1),
        lambda: ChannelShift(-1),
        lambda: TimeMask(-1),
        lambda: NeuronMask(-1),
    ):
        with pytest.raises(ValueError, match="Time|Neuron|Channel"):
            make()


def test_jitter_wants_counts():
    with pytest.raises(ValueError, match="needs counts, got float32"):
        ChannelJitter()(np.zeros((3, 4), np.float32), generator(0, 0, 0))
