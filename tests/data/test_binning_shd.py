"""What float16 arithmetic does to real recordings in SHD's format: the numbers of the measurement, spike by spike."""

import numpy as np
import pytest

from snnkit.data import Bin, SpikeHDF5
from tests.shared import shared_path

# spike number of sample 0 -> milliseconds after which float16 puts it one bin later
MOVED = {78: 30, 116: 40, 197: 60, 266: 90, 390: 120, 2681: 180, 2682: 180, 2743: 190, 3097: 260, 3098: 260}
MOVED |= {3099: 260, 3100: 260, 3379: 290, 3380: 290, 3381: 290, 3438: 320}
BINS = [(2, 3), (3, 4), (5, 6), (8, 9), (11, 12), (17, 18), (18, 19), (25, 26), (28, 29), (31, 32)]


@pytest.fixture(scope="module")
def recordings():
    return SpikeHDF5(shared_path("data/spoken_digits"), "test")


def bins(events, **options):
    return Bin(**options)._frames(events["t"])[0]


def test_sample_0_has_sixteen_spikes_one_bin_late(recordings):
    events = recordings[0][0]
    exact, published = bins(events), bins(events, float16_times=True)
    late = np.flatnonzero(exact != published)
    assert len(events) == 3458 and late.tolist() == sorted(MOVED)
    assert [int(published[i]) * 10 for i in late] == [MOVED[i] for i in late]
    assert sorted({(int(exact[i]), int(published[i])) for i in late}) == BINS
    ours, theirs = Bin()(events), Bin.as_published(group=1)(events)
    assert len(ours) == len(theirs) == 36 and (ours != theirs).any(1).sum() == 18


def test_float16_moves_14639_spikes_of_the_test_set_and_exact_arithmetic_none(recordings):
    moved = unshifted = single = shapes = spikes = 0
    for events, _ in recordings:
        exact = bins(events)
        moved += (exact != bins(events, float16_times=True)).sum()
        unshifted += (
            bins(events, from_first_spike=False) != bins(events, from_first_spike=False, float16_times=True)
        ).sum()
        as_single = events["t"].astype(np.float32)
        single += (exact != np.floor((as_single - as_single[0]).astype(np.float64) * 1e6 / 10_000)).sum()
        count = np.ceil((events["t"].max() - events["t"].min()) * 100)
        shapes += count != Bin(last_frame_takes_rest=True, float16_times=True)._frames(events["t"])[1]
        spikes += len(events)
    assert (spikes, moved, unshifted, single, shapes) == (1_885_457, 14_639, 12_039, 0, 8)


def test_official_frames_have_the_measured_lengths():
    path = shared_path("data/spoken_digits")
    lengths = [len(frames) for frames, _ in SpikeHDF5(path, "train", Bin.as_published())]
    assert np.percentile(lengths, [0, 5, 50, 95, 100]).tolist() == [10, 16, 32, 55, 73]
