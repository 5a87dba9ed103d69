import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit.data import Bin, FramesByNumber, FramesByTime, TimeSurface, VoxelGrid
from snnkit.data.camera_event import camera_events

H, W, STEPS = 5, 7, 3
SENSOR = (2, H, W)


def events_of(rows):
    t, x, y, p = np.array(rows, np.int64).reshape(-1, 4).T
    return camera_events(t, x, y, p, "made")


rows = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, W - 1), st.integers(0, H - 1), st.integers(0, 1)), max_size=60
)
FRAMINGS = [FramesByNumber(SENSOR, STEPS), FramesByTime(SENSOR, STEPS), Bin(SENSOR, 30), Bin(SENSOR, 150, steps=3)]


@given(rows, st.sampled_from(FRAMINGS))
def test_each_event_is_in_exactly_one_frame_at_its_own_pixel(rows, framing):
    frames = framing(events_of(rows))
    pixels = np.zeros(SENSOR, int)
    for _, x, y, p in rows:
        pixels[p, y, x] += 1
    assert (frames.sum(0) == pixels).all() and frames.dtype == np.int32


@given(rows.filter(lambda rows: len(rows) > 2), st.data())
def test_an_inner_event_taken_out_changes_its_own_frame_only(rows, data):
    rows = sorted(rows)
    gone = data.draw(st.integers(1, len(rows) - 2))
    before, after = (FramesByTime(SENSOR, STEPS)(events_of(r)) for r in (rows, rows[:gone] + rows[gone + 1 :]))
    assert np.abs(before - after).sum() == 1


@given(rows, st.randoms(use_true_random=False), st.sampled_from(FRAMINGS))
def test_by_time_the_order_of_the_events_does_not_matter(rows, random, framing):
    shuffled = random.sample(rows, len(rows))
    if isinstance(framing, FramesByNumber):  # equal times keep the file's order
        rows, shuffled = ([(i, *r[1:]) for i, r in enumerate(sorted(rows))], None)
        shuffled = random.sample(rows, len(rows))
    raw = np.array(shuffled, np.int64).reshape(-1, 4)
    unsorted = np.zeros(len(raw), [(key, np.int64) for key in "txyp"])
    for column, key in enumerate("txyp"):
        unsorted[key] = raw[:, column]
    assert (framing(unsorted) == framing(events_of(rows))).all()


@settings(max_examples=40)
@given(rows.filter(len), st.integers(1, 6))
def test_frames_are_spikingjellys_wherever_it_gives_some(rows, steps):
    utils = pytest.importorskip("spikingjelly.datasets.utils")
    if not hasattr(utils, "integrate_events_by_fixed_frames_number"):
        pytest.skip("this SpikingJelly does not have the function that is compared")
    events = events_of(rows)
    columns = {key: events[key].astype(np.int64) for key in "txyp"}
    for how, ours in (("number", FramesByNumber(SENSOR, steps)), ("time", FramesByTime(SENSOR, steps))):
        try:
            theirs = utils.integrate_events_by_fixed_frames_number(columns, how, steps, H, W)
        except IndexError:  # an empty bin
            continue
        if events["t"][-1] - events["t"][0] < steps and how == "time":
            continue  # its window is zero: bins overlap
        assert (ours(events) == theirs).all()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("times", [[], [5], [9, 9, 9], [0, 400]], ids=["none", "one", "at once", "edge"])
def test_recordings_of_few_events_lose_none(framing, times):
    frames = framing(events_of([(t, 1, 2, 0) for t in times]))
    assert frames.sum() == len(times)


def test_forty_thousand_events_in_one_pixel_are_all_counted():
    many = events_of([(t % 7, 3, 2, 1) for t in range(40_000)])
    for framing in (FramesByNumber(SENSOR, 1), FramesByTime(SENSOR, 1), Bin(SENSOR, 100)):
        assert framing(many)[0, 1, 2, 3] == 40_000


@pytest.mark.parametrize("made", [np.array([0, 1, 1]), np.array([-1, 1, 1]), np.array([False, True, True])])
def test_polarity_of_any_kind_gives_the_same_two_channels(made):
    events = camera_events(np.arange(3), np.arange(3), np.arange(3), made, "made")
    raw = np.zeros(3, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", made.dtype)])
    raw["t"], raw["x"], raw["y"], raw["p"] = np.arange(3), np.arange(3), np.arange(3), made
    for each in (events, raw):
        frames = FramesByTime(SENSOR, 1)(each)[0]
        assert frames[0, 0, 0] == frames[1, 1, 1] == frames[1, 2, 2] == 1 and frames.sum() == 3


@pytest.mark.parametrize("steps", [0, -1, 2.0])
def test_impossible_numbers_of_frames_are_refused(steps):
    for framing in (FramesByNumber, FramesByTime):
        with pytest.raises(ValueError, match="steps must be a whole number of at least 1"):
            framing(SENSOR, steps)
    with pytest.raises(ValueError, match="steps"):
        VoxelGrid((H, W), 1)
    with pytest.raises(ValueError, match=r"size \(H, W\), without polarities.*got steps=6, size=\(2, "):
        VoxelGrid(SENSOR, 6)
    with pytest.raises(ValueError, match="tau_us must be > 0"):
        TimeSurface(SENSOR, tau_us=0)


@given(rows)
def test_a_voxel_grid_shares_each_event_out_in_full(rows):
    events = events_of(rows)
    pixels = np.zeros((H, W))
    for _, x, y, p in rows:
        pixels[y, x] += 2 * p - 1
    assert np.allclose(VoxelGrid((H, W), 4)(events).sum((0, 1)), pixels, atol=1e-4)  # float32 of sums below 60


def test_a_voxel_grid_is_tonics_with_the_moment_that_tonic_leaves_out():
    tonic = pytest.importorskip("tonic")
    rng = np.random.default_rng(0)
    events = camera_events(
        np.sort(rng.integers(0, 999, 63)), *(rng.integers(0, n, 63) for n in (W, H, 2)), name="made"
    )
    before = events.copy()
    theirs = tonic.transforms.ToVoxelGrid((W, H, 2), n_time_bins=6)(events)
    assert np.allclose(VoxelGrid((H, W), 7)(events)[:6], theirs, atol=1e-5)
    assert (events == before).all()


def test_time_surfaces_are_tonics_while_windows_are_whole():
    tonic = pytest.importorskip("tonic")
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(1, 95, 63))
    times[0], times[-1] = 0, 95
    events = camera_events(times, *(rng.integers(0, n, 63) for n in (W, H, 2)), name="made")
    theirs = tonic.transforms.ToTimesurface((W, H, 2), dt=30, tau=20)(events)
    ours = TimeSurface(SENSOR, steps=4, window_us=30, tau_us=20)(events)
    assert len(theirs) == 3 and np.allclose(ours[:3], theirs, atol=1e-6)
    last = events[-1]
    assert ours[3, last["p"], last["y"], last["x"]] == pytest.approx(np.exp(-(120 - 95) / 20))


def test_time_surfaces_of_few_events_are_finite():
    surfaces = TimeSurface(SENSOR, 2, 10, 5.0)
    assert not surfaces(events_of([])).any()
    late = surfaces(events_of([(0, 0, 0, 0), (900, 1, 1, 1)]))
    assert late[1, 1, 1, 1] == 1 and late[0, 0, 0, 0] == pytest.approx(np.exp(-2))


@pytest.mark.parametrize("framing", FRAMINGS[:2])
def test_many_events_a_frame_are_counted_as_one_by_one(framing):
    rng = np.random.default_rng(3)
    times = np.sort(rng.integers(0, 5000, 2001))
    events = camera_events(times, *(rng.integers(0, n, 2001) for n in (W, H, 2)), name="made")
    number = isinstance(framing, FramesByNumber)
    place = np.arange(2001) // 667 if number else (times - times[0]) // ((times[-1] - times[0]) // 3)
    wanted = np.zeros((3, *SENSOR), int)
    np.add.at(wanted, (np.minimum(place, 2), events["p"], events["y"], events["x"]), 1)
    assert (framing(events) == wanted).all()


def test_a_voxel_grid_and_time_surfaces_do_not_ask_for_order_and_are_their_formulas():
    rng = np.random.default_rng(4)
    columns = [rng.permutation(np.arange(0, 5600, 7)), *(rng.integers(0, n, 800) for n in (W, H, 2))]
    events = np.rec.fromarrays(columns, names="t,x,y,p").view(np.ndarray)
    t = events["t"] - events["t"].min()
    grid, surfaces = np.zeros((5, H, W)), np.zeros((3, *SENSOR))
    for b in range(5):
        weight = np.maximum(0, 1 - np.abs(b - 4 * t / t.max())) * (2 * events["p"] - 1)
        np.add.at(grid[b], (events["y"], events["x"]), weight)
    assert np.allclose(VoxelGrid((H, W), 5)(events)[:, 0], grid, atol=1e-5)
    for f, moment in enumerate((1500, 3000, 4500)):
        for i in np.flatnonzero(t < moment if f < 2 else t >= 0):
            place = (f, events["p"][i], events["y"][i], events["x"][i])
            surfaces[place] = max(surfaces[place], np.exp((min(t[i], moment) - moment) / 900))
    assert np.allclose(TimeSurface(SENSOR, 3, 1500, 900.0)(events), surfaces, atol=1e-6)
    events["x"][17] = W
    for framing in (VoxelGrid((H, W), 5), TimeSurface(SENSOR, 3, 1500)):
        with pytest.raises(ValueError, match="1 of 800 events lie outside the sensor, the first is event 17 with x ="):
            framing(events)
