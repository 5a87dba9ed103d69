import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from snnkit.data import Bin, binned, spike_events

CHANNELS = 14
# On the edges of bins, too: 0.03 s in float32 is a little less, and its microseconds in float32 would be 30,000.
times_us = st.integers(0, 300_000) | st.integers(0, 30).map(lambda frame: frame * 10_000)
spikes = st.lists(st.tuples(times_us, st.integers(0, CHANNELS - 1)), max_size=63)
dtypes = st.sampled_from(["int64", "uint32", "float16", "float32"])


def events_of(rows, dtype="int64"):
    microseconds = np.array([t for t, _ in rows], np.int64)
    times = microseconds / 1e6 if dtype.startswith("float") else microseconds
    return spike_events(times.astype(dtype), np.array([x for _, x in rows], np.int64))


def exact(times, window_us, first):
    """Frame of each spike by fractions, without any rounding."""
    from fractions import Fraction

    ticks = [Fraction(int(t)) if times.dtype.kind in "iu" else Fraction(float(t)) * 10**6 for t in times]
    origin = min(ticks, default=0) if first else 0
    return [int((t - origin) // window_us) for t in ticks]


@given(spikes, dtypes, st.sampled_from([1000, 5600, 10_000]), st.booleans())
def test_frames_are_those_of_exact_fractions(rows, dtype, window_us, first):
    events = events_of(rows, dtype)
    frames = Bin(CHANNELS, window_us, from_first_spike=first)(events)
    wanted = np.zeros_like(frames)
    for frame, x in zip(exact(events["t"], window_us, first), events["x"], strict=True):
        wanted[frame, x] += 1
    assert (frames == wanted).all()
    assert not len(rows) or frames[-1].any(), "the last frame holds the last spike"


@given(spikes, st.sampled_from([1000, 10_000]), st.booleans())
@example([(1_001_000, 0)], 1000, False)
def test_float64_seconds_fall_where_their_microseconds_do(rows, window_us, first):
    """1.001 s times 10^6 is a little less than 1,001,000 in float64, and a bin early if nobody looks."""
    bins = Bin(CHANNELS, window_us, from_first_spike=first)
    assert (bins(events_of(rows, "float64")) == bins(events_of(rows))).all()


@given(
    spikes,
    st.sampled_from(
        [
            dict(),
            dict(group=7),
            dict(from_first_spike=False),
            dict(last_frame_takes_rest=True),
            dict(steps=31),
            dict(last_frame_takes_rest=True, float16_times=True, group=2),
        ]
    ),
)
def test_no_spike_is_lost_or_doubled(rows, options):
    frames = Bin(CHANNELS, **options)(events_of(rows, "float16" if "float16_times" in options else "int64"))
    assert frames.sum() == len(rows) and len(frames) >= 1


@given(spikes, st.randoms(use_true_random=False))
def test_the_order_of_the_spikes_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert (Bin(CHANNELS)(events_of(rows)) == Bin(CHANNELS)(events_of(shuffled))).all()


@given(spikes.filter(lambda rows: len(rows) > 2), st.data())
def test_removing_an_inner_spike_changes_its_own_bin_only(rows, data):
    rows = sorted(rows)
    gone = data.draw(st.integers(1, len(rows) - 2))
    before, after = Bin(CHANNELS)(events_of(rows)), Bin(CHANNELS)(events_of(rows[:gone] + rows[gone + 1 :]))
    assert before.shape == after.shape and np.abs(before - after).sum() == 1


@given(spikes)
def test_grouping_is_the_sum_of_neighbouring_channels(rows):
    whole = Bin(CHANNELS)(events_of(rows))
    assert (Bin(CHANNELS, group=2)(events_of(rows)) == whole.reshape(len(whole), CHANNELS // 2, 2).sum(-1)).all()


@pytest.mark.parametrize("options", [dict(), dict(last_frame_takes_rest=True)], ids=["exact", "published"])
@pytest.mark.parametrize("times", [[], [0], [7, 7, 7], [0, 10_000]], ids=["none", "one", "one time", "on the edge"])
def test_short_samples_do_not_crash(times, options):
    frames = Bin(3, **options)(events_of([(t, 1) for t in times]))
    last_on_edge = len(times) == 2 and not options
    assert frames.shape == (2 if last_on_edge else 1, 3) and frames.sum() == len(times)


def test_silence_before_the_first_spike_is_kept_by_request():
    events = events_of([(34_000, 0), (61_000, 2)])
    assert Bin(3)(events).nonzero()[0].tolist() == [0, 2]
    assert Bin(3, from_first_spike=False)(events).nonzero()[0].tolist() == [3, 6]


def test_a_fixed_number_of_frames_closes_the_last_and_counts_late_spikes():
    events = events_of([(0, 0), (15_000, 1), (20_000, 2)])
    assert Bin(3, steps=2)(events).tolist() == [[1, 0, 0], [0, 1, 1]]
    assert Bin(3, steps=4)(events).shape == (4, 3)
    with pytest.raises(ValueError, match=r"2 of 3 spikes lie after the last of 1 frames .* \(2 hold all\)"):
        Bin(3, steps=1)(events)
    assert Bin(3, steps=1, drop_late=True)(events).tolist() == [[1, 0, 0]]


def test_published_binning_is_spikingjellys():
    shd = pytest.importorskip("spikingjelly.datasets.shd")
    if not hasattr(shd, "_integrate_events_by_fixed_duration"):
        pytest.skip("another SpikingJelly")
    rng = np.random.default_rng(0)
    for _ in range(20):
        times = np.sort(rng.uniform(0.02, 1.4, 63)).astype(np.float16)
        units = rng.integers(0, CHANNELS, 63)
        theirs = shd._integrate_events_by_fixed_duration({"t": times, "x": units}, 10, CHANNELS)
        ours = binned(times, units, Bin.as_published(CHANNELS, group=1))
        assert ours.shape == theirs.shape and (ours == theirs).all()


@pytest.mark.parametrize("x", [-1, CHANNELS], ids=["negative", "too large"])
def test_channels_outside_the_sensor_are_counted_and_named(x):
    with pytest.raises(ValueError, match=rf"1 of 3 events lie outside .* event 1 with x = {x}, allowed 0..13"):
        Bin(CHANNELS)(events_of([(0, 3), (5, x), (9, 0)]))


@pytest.mark.parametrize("x", [0.5, float("nan")])
def test_units_that_are_not_whole_are_refused(x):
    with pytest.raises(ValueError, match=f"Bin: event 1 has x = {x}, expected whole numbers. Were times and units"):
        Bin(channels=4)(spike_events(np.array([0.01, 0.02, 0.5]), np.array([1.0, x, 3.0])))
    assert Bin(channels=4)(spike_events(np.array([0.01]), np.array([3.0]))).tolist() == [[0, 0, 0, 1]]


def test_spikes_before_time_zero_are_refused():
    with pytest.raises(ValueError, match="1 spikes lie before time zero, the first is spike 0"):
        Bin(3, from_first_spike=False)(events_of([(-5, 0), (3, 1)]))


@pytest.mark.parametrize("polarity", [[0, 1, 1], [-1, 1, 1], [False, True, True]], ids=["01", "-11", "bool"])
def test_camera_events_keep_both_polarities_and_their_place(polarity):
    events = np.zeros(3, [("x", "i2"), ("y", "i2"), ("p", np.array(polarity).dtype), ("t", "i8")])
    events["x"], events["y"], events["p"], events["t"] = [0, 3, 3], [1, 0, 0], polarity, [0, 5, 12_000]
    frames = Bin((2, 2, 4))(events)
    assert frames.shape == (2, 2, 2, 4) and frames.sum() == 3
    assert frames[0, 0, 1, 0] == frames[0, 1, 0, 3] == frames[1, 1, 0, 3] == 1
    with pytest.raises(ValueError, match=r"x and y; give \(H, W\)"):
        Bin(700)(events)
    with pytest.raises(ValueError, match="merge both polarities"):
        Bin((2, 4))(events)


def test_tonics_spikes_are_accepted_and_left_alone():
    events = np.zeros(3, [("t", "i8"), ("x", "i8"), ("p", "i8")])
    events["t"], events["x"], events["p"] = [100, 9_000, 25_000], [0, 1, 2], 1
    before = events.copy()
    assert Bin(3)(events).nonzero()[0].tolist() == [0, 0, 2]
    assert (events == before).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(channels=0), "at least 1; got 0"),
        (dict(channels=14, group=4), "group=4 does not divide 14"),
        (dict(window_us=0), "window_us must be a whole number"),
        (dict(window_us=0.01), "window_us must be a whole number"),
        (dict(steps=0), "steps must be"),
        (dict(steps=3, last_frame_takes_rest=True), "exclude each other"),
        (dict(drop_late=True), "drop_late needs steps"),
        (dict(least_steps=0), "least_steps must be a whole number of at least 1, got 0"),
        (dict(steps=3, least_steps=2), "exclude each other"),
    ],
)
def test_impossible_options_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        Bin(**options)


@pytest.mark.parametrize("options", [{}, {"last_frame_takes_rest": True}])
def test_a_short_recording_gets_silent_frames_and_a_long_one_is_not_cut(options):
    events = events_of([(0, 0), (12_000, 1), (25_000, 2)])
    plain, longer = Bin(3, **options)(events), Bin(3, least_steps=5, **options)(events)
    assert longer.shape == (5, 3) and (longer[: len(plain)] == plain).all() and longer.sum() == 3
    assert (Bin(3, least_steps=2, **options)(events) == plain).all()
    assert Bin(3, least_steps=4)(events[:0]).shape == (4, 3)


def test_the_float16_path_wants_seconds():
    with pytest.raises(ValueError, match="floating seconds"):
        Bin(3, float16_times=True)(events_of([(0, 0)]))
    with pytest.raises(ValueError, match="65.5 s"):
        Bin(3, float16_times=True)(events_of([(0, 0), (70_000_000, 1)], "float32"))
    with pytest.raises(ValueError, match=r"a spike at t = 812 s.*milliseconds, divide them by 1000"):
        Bin(3, float16_times=True)(events_of([(0, 0), (812_000_000, 1)], "float32"))


def test_a_recording_of_minutes_is_binned_with_a_warning_that_names_the_unit():
    events = spike_events(np.array([10.0, 509.0], np.float16), np.array([0, 1]))
    message = r"more than 10000 frames of 10000 us .* last spike\. Floating times are seconds: if these are millis"
    with pytest.warns(UserWarning, match=message):
        assert Bin(4)(events).shape == (49_901, 4)
    Bin(4, window_us=50_000)(events)  # filterwarnings makes one an error


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.array([10.0, 9e5]), "Floating times are seconds: if these are milliseconds or microseconds, divide them"),
        (np.array([10.0, 1400.0]), r"139001 frames of 10000 us \(window_us\) up to the last spike at t = 1400.0"),
        (np.array([0, 2 * 10**9]), "Whole times are microseconds: if these are nanoseconds, divide them"),
    ],
)
def test_a_wrong_unit_of_time_is_named_before_memory_runs_out(times, message):
    events = spike_events(times, np.array([0, 1]))
    with pytest.raises(ValueError, match=message):
        Bin(4)(events)
    with pytest.raises(ValueError, match="frames of 1 us"):
        Bin(4, window_us=1, last_frame_takes_rest=True)(events)
    assert Bin(4, steps=200_001, drop_late=True)(events).shape == (200_001, 4)
