"""Laws of drops and warps of raw events."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import (
    DropArea,
    DropEvents,
    DropTime,
    EventFlip,
    EventRotate,
    EventScale,
    EventShear,
    EventTranslate,
    OneOf,
    event_drop,
    event_rpg,
    generator,
)
from snnkit.data.camera_event import CAMERA

HEIGHT, WIDTH = 20, 31
SENSOR = (2, HEIGHT, WIDTH)
DROPS = [DropTime(), DropArea(SENSOR), DropEvents(), event_drop(SENSOR)]
WARPS = [
    EventFlip(SENSOR),
    EventRotate(SENSOR),
    EventTranslate(SENSOR),
    EventTranslate(SENSOR, vertical=True),
    EventShear(SENSOR),
    EventShear(SENSOR, vertical=True),
    EventScale(SENSOR),
]
EVERY = [*DROPS, *WARPS, event_rpg(SENSOR, flip=True)]
every = pytest.mark.parametrize("augment", EVERY, ids=lambda a: type(a).__name__)
warps = pytest.mark.parametrize("augment", WARPS, ids=lambda a: type(a).__name__)
seeds = st.integers(0, 1000)


def recording(seed=0, count=63, spread=1.0):
    """Events within a share of the sensor about its middle."""
    rng = np.random.default_rng(seed)
    events = np.empty(count, CAMERA)
    events["t"] = np.sort(rng.integers(1000, 300_000, count))
    for name, size in (("y", HEIGHT), ("x", WIDTH)):
        events[name] = (size - 1) / 2 + (rng.random(count) - 0.5) * spread * (size - 1)
    events["p"] = rng.integers(0, 2, count)
    return events


@every
@given(seed=seeds, count=st.sampled_from([0, 1, 3, 63]))
def test_same_seed_same_events_inside_the_sensor_in_the_order_of_time(augment, seed, count):
    events = recording(seed, count)
    before = events.copy()
    once, again = augment(events, generator(seed, 1, 2)), augment(events, generator(seed, 1, 2))
    assert np.array_equal(events, before) and np.array_equal(once, again) and once.dtype == CAMERA
    assert (np.diff(once["t"]) >= 0).all() and min(count, 1) <= len(once) <= count
    for name, size in (("x", WIDTH), ("y", HEIGHT)):
        assert ((once[name] >= 0) & (once[name] < size)).all()
    kept, all_of_them = (set(map(tuple, each[["t", "p"]].tolist())) for each in (once, events))
    assert kept <= all_of_them


@every
def test_samples_draw_differently(augment):
    if isinstance(augment, EventFlip):
        return
    assert len({str(augment(recording(), generator(0, 0, i)).tolist()) for i in range(60)}) > 4


@given(seed=seeds, share=st.floats(0, 0.9))
def test_a_time_drop_leaves_out_one_interval_of_its_share(seed, share):
    events = recording(seed, 500)
    kept = DropTime(share, share)(events, generator(seed, 0, 0))
    gone = np.flatnonzero(~np.isin(events["t"], kept["t"]))
    length = np.ptp(events["t"])
    assert not len(gone) or np.ptp(events["t"][gone]) <= share * length
    assert len(events) - len(kept) == pytest.approx(share * 500, abs=5 * math.sqrt(500 * share * (1 - share)) + 2)


@given(seed=seeds, share=st.floats(0, 0.9))
def test_an_area_drop_empties_one_box_and_nothing_else(seed, share):
    y, x = np.divmod(np.arange(HEIGHT * WIDTH), WIDTH)
    events = np.zeros(HEIGHT * WIDTH, CAMERA)
    events["y"], events["x"] = y, x
    kept = DropArea((HEIGHT, WIDTH), share, share)(events, generator(seed, 0, 0))
    assert len(events) - len(kept) == round(share * HEIGHT) * round(share * WIDTH)
    hole = np.ones((HEIGHT, WIDTH), bool)
    hole[kept["y"], kept["x"]] = False
    assert hole.sum() == hole.any(0).sum() * hole.any(1).sum()


@given(seed=seeds, share=st.floats(0, 1), count=st.integers(0, 63))
def test_a_random_drop_leaves_out_its_share_of_the_events(seed, share, count):
    kept = DropEvents(share, share)(recording(seed, count), generator(seed, 0, 0))
    assert len(kept) == (count - int(share * count) or count)


@warps
@given(seed=seeds)
def test_a_warp_of_events_in_the_middle_loses_none_and_leaves_the_middle(augment, seed):
    events = recording(seed, spread=0.3)
    moved = augment(events, generator(seed, 0, 0))
    assert len(moved) == len(events) and (moved["t"] == events["t"]).all() and (moved["p"] == events["p"]).all()
    if not isinstance(augment, EventFlip | EventTranslate):
        middle = [(each.min() / 2 + each.max() / 2) for each in (events["x"], events["y"])]
        near = np.hypot(events["x"] - middle[0], events["y"] - middle[1]) < 1
        assert np.abs(moved[near]["x"] - middle[0]).max(initial=0) <= 2
        assert np.abs(moved[near]["y"] - middle[1]).max(initial=0) <= 2


def test_a_flip_twice_is_no_flip_and_moves_x_alone():
    events = recording()
    once = EventFlip(SENSOR)(events, generator(0, 0, 0))
    assert (once["x"] == WIDTH - 1 - events["x"]).all() and (once["y"] == events["y"]).all()
    assert np.array_equal(EventFlip(SENSOR)(once, generator(0, 0, 0)), events)
    assert np.array_equal(EventFlip(SENSOR, 0.0)(events, generator(0, 0, 0)), events)


def corners():
    """A cross on the sensor's middle: left, right, top, bottom."""
    events = np.zeros(4, CAMERA)
    events["x"], events["y"] = [5, 25, 15, 15], [10, 10, 5, 15]
    return events


def test_each_warp_does_what_its_equation_says():
    sensor, draws = (HEIGHT, WIDTH), [generator(0, 0, i) for i in range(300)]
    rotated = [EventRotate(sensor)(corners(), rng) for rng in draws]
    angles = [math.atan2(*map(float, (e["y"][0] - 10, 15 - e["x"][0]))) for e in rotated]
    assert max(angles) == pytest.approx(math.pi / 3, abs=0.1) == -min(angles)
    for each in rotated:  # right angles and lengths stay, up to rounding
        across, down = (np.array([np.ptp(each[name][k : k + 2]) for name in "xy"], float) for k in (0, 2))
        assert np.hypot(*across) == pytest.approx(20, abs=1.5) and np.hypot(*down) == pytest.approx(10, abs=1.5)
        signed = [[int(each[name][k + 1]) - int(each[name][k]) for name in "xy"] for k in (0, 2)]
        assert abs(np.dot(*signed)) < 20 + 10
    scaled = np.array([EventScale(sensor)(corners(), rng)["x"][:2] for rng in draws])
    assert (scaled.sum(1) == 30).all() and scaled[:, 0].min() == 0 and scaled[:, 0].max() == 10
    sheared = np.array([EventShear(sensor)(corners(), rng)["x"] for rng in draws])
    assert (sheared[:, :2] == [5, 25]).all() and set(sheared[:, 3]) == set(range(12, 19))
    assert (sheared[:, 2] + sheared[:, 3] == 30).all()
    upright = np.array([EventShear(sensor, vertical=True)(corners(), rng)["y"] for rng in draws])
    assert (upright[:, 2:] == [5, 15]).all() and {9, 10, 11} <= set(upright[:, 0]) <= {8, 9, 10, 11, 12}
    shifted = np.array([EventTranslate(sensor)(corners(), rng)["x"][0] - 5 for rng in draws])
    assert shifted.min() == -4 and shifted.max() == 4  # trunc(0.3 * 15 or 16)
    left = corners()
    left["x"] -= 5
    shifted = np.array([EventTranslate(sensor)(left, rng)["x"][-1] - 10 for rng in draws])
    assert shifted.min() == -2 and shifted.max() == 6  # the middle is at 10: trunc(< 0.3 * 10 or 21)


def test_recipes_hold_what_the_papers_list_and_a_flip_only_where_it_is_asked_for():
    assert [type(each) for each in event_drop(SENSOR).transforms] == [type(None), DropTime, DropArea, DropEvents]
    with_flip, without = (event_rpg(SENSOR, flip=flip).transforms for flip in (True, False))
    assert isinstance(with_flip[-1], EventFlip) and with_flip[:-1] == without
    assert not any(isinstance(each, EventFlip) for each in without) and len(without) == 9


@every
def test_events_without_the_fields_are_named(augment):
    if isinstance(augment, OneOf):
        return
    events = np.zeros(5, [("when", "i8"), ("channel", "i8")])
    with pytest.raises(ValueError, match=rf"{type(augment).__name__} needs the field"):
        augment(events, generator(0, 0, 0))


def test_impossible_arguments_are_refused():
    for make in (lambda: DropTime(0.5, 0.2), lambda: DropEvents(-0.1), lambda: DropArea(SENSOR, 0.1, 1.1)):
        with pytest.raises(ValueError, match=r"Drop\w+ needs 0 <= smallest <= largest <= 1"):
            make()
    for warp in (EventFlip, EventRotate, EventTranslate, EventShear, EventScale):
        with pytest.raises(ValueError, match=rf"{warp.__name__} needs a sensor \(H, W\)"):
            warp(700)
        with pytest.raises(ValueError, match=warp.__name__):
            warp(SENSOR, -1.0)
