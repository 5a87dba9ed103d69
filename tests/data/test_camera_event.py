import numpy as np
import pytest

from snnkit.data import camera_events, clip_outside, drop_outside, refuse_outside


def made(t, x=None, p=None, **options):
    n = len(t)
    x = np.arange(n) if x is None else np.array(x)
    p = np.ones(n, int) if p is None else np.array(p)
    return camera_events(np.array(t), x, np.zeros(n, int), p, "f.npz", **options)


@pytest.mark.parametrize("p", [[0, 1, 1], [-1, 1, 1], [False, True, True], [0.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
def test_polarity_becomes_zero_and_one(p):
    assert made([1, 2, 3], p=p)["p"].tolist() == [0, 1, 1]


@pytest.mark.parametrize("p", [[-1, 0, 1], [0, 1, 2], [0.0, 0.5, 1.0], [0.0, float("nan"), 1.0]])
def test_other_polarities_are_refused_with_the_file(p):
    with pytest.raises(ValueError, match="f.npz: .*p must be bool, 0 and 1, or -1 and 1"):
        made([1, 2, 3], p=p)


def test_times_out_of_order_are_sorted_and_equal_ones_keep_their_order():
    assert made([5, 2, 5, 2])["x"].tolist() == [1, 3, 0, 2]


def test_seconds_become_microseconds_once_and_rounded():
    assert made([0.0000014, 1.001, 1.0010006])["t"].tolist() == [1, 1_001_000, 1_001_001]
    assert made(np.array([0.5, 1.25], np.float16))["t"].tolist() == [500_000, 1_250_000]


def test_a_unit_may_be_given_and_narrow_integers_do_not_wrap():
    assert made(np.array([0, 60_000], np.uint16), unit_us=1000)["t"].tolist() == [0, 60_000_000]
    assert made([0.5, 1.5], unit_us=1000)["t"].tolist() == [500, 1500]
    with pytest.raises(ValueError, match="unit_us must be > 0"):
        made([1], unit_us=0)


def test_floating_microseconds_are_noticed():
    with pytest.raises(ValueError, match="f.npz: times from 0.0 to 1200000.0 are .*seconds; give unit_us"):
        made([0.0, 1_200_000.0])
    assert made([0.0, 1_200_000.0], unit_us=1)["t"].tolist() == [0, 1_200_000]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_times_that_are_no_times_are_refused(bad):
    for unit in (None, 1.0):
        with pytest.raises(ValueError, match="f.npz"):
            made([0.0, bad], unit_us=unit)


@pytest.mark.parametrize("x", [[0, 40_000], [0, -40_000], [0.5, 1.0], [0.0, float("nan")], ["a", "b"]])
def test_coordinates_that_no_sensor_has_are_refused_before_they_wrap(x):
    with pytest.raises(ValueError, match="f.npz: x"):
        made([0, 1], x=x)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"f.npz: t, x, y, p must be columns .* x \(3,\)"):
        made([0, 1], x=[1, 2, 3])


def test_events_outside_are_counted_clipped_or_dropped_and_never_wrap():
    events = made([0, 1, 2, 3], x=[-1, 4, 5, 9])
    with pytest.raises(ValueError, match=r"f: 3 of 4 events lie outside .* \(2, 5\), the first is event 0 at x = -1"):
        refuse_outside(events, (2, 5), "f")
    assert drop_outside(events, (2, 5), "f")["x"].tolist() == [4]
    assert clip_outside(events, (2, 5), "f")["x"].tolist() == [0, 4, 4, 4]
    assert events["x"].tolist() == [-1, 4, 5, 9]
    for treat in (refuse_outside, drop_outside, clip_outside):
        assert treat(events[1:2], (2, 5), "f") is not None and len(treat(events[:0], (2, 5), "f")) == 0
