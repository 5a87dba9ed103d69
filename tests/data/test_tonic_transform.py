import numpy as np
import pytest

from snnkit.data import Compose, FramesByNumber, Tonic, generator
from snnkit.data.camera_event import camera_events

tonic = pytest.importorskip("tonic")
SENSOR = (2, 5, 7)


@pytest.fixture
def events():
    rng = np.random.default_rng(2)
    return camera_events(np.sort(rng.integers(0, 9000, 63)), *(rng.integers(0, n, 63) for n in (7, 5, 2)), name="made")


def test_the_same_seed_epoch_and_sample_draw_the_same_whatever_numpy_drew_before(events):
    drop = Compose(Tonic(tonic.transforms.DropEvent(p=0.4)), FramesByNumber(SENSOR, 3))
    before = events.copy()
    first = drop(events, generator(0, 1, 2))
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    again, other = drop(events, generator(0, 1, 2)), drop(events, generator(0, 1, 3))
    assert (first == again).all() and (first != other).any() and drop.draws
    assert (np.random.random(3) == expected).all(), "the global generator goes on as if nothing was drawn"
    assert (events == before).all()


def test_dropped_events_are_the_share_that_was_asked_for(events):
    kept = Tonic(tonic.transforms.DropEvent(p=0.4))(events, generator(0, 0, 0))
    assert len(kept) == 63 - round(0.4 * 63) and np.isin(kept, events).all()


def test_jittered_times_may_be_out_of_order_and_no_frame_loses_an_event(events):
    jitter = Tonic(tonic.transforms.TimeJitter(std=2000.0, clip_negative=False))
    moved = jitter(events, generator(0, 0, 0))
    assert (np.diff(moved["t"]) < 0).any() and moved.dtype == events.dtype
    frames = FramesByNumber(SENSOR, 3)(moved)
    assert frames.sum((1, 2, 3)).tolist() == [21, 21, 21]
    assert (frames == FramesByNumber(SENSOR, 3)(moved[np.argsort(moved["t"], kind="stable")])).all()


def test_denoise_is_fixed_and_drops_what_has_no_neighbour_in_space_and_time():
    quiet = camera_events(
        np.array([50_000, 50_100, 90_000]), np.array([2, 3, 6]), np.array([2, 2, 0]), np.array([0, 1, 1]), "made"
    )
    denoise = Tonic(tonic.transforms.Denoise(filter_time=10_000), draws=False)
    assert denoise(quiet)["t"].tolist() == [50_100] and not Compose(denoise).draws
    # Its memory starts at time zero: an early event passes although nothing fired near it.
    early = quiet.copy()
    early["t"] -= 50_000
    assert denoise(early)["t"].tolist() == [0, 100]


def test_no_events_pass_and_a_random_transform_asks_for_a_generator(events):
    assert len(Tonic(tonic.transforms.Denoise(10), draws=False)(events[:0])) == 0
    with pytest.raises(ValueError, match="DropEvent.* draws and needs a generator"):
        Tonic(tonic.transforms.DropEvent(p=0.5))(events)
