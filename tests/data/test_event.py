from fractions import Fraction

import numpy as np
import pytest

from snnkit.data import Bin, Microseconds, spike_events
from snnkit.data.event import field, microseconds, replaced


def test_float16_seconds_become_microseconds_without_overflow_or_rounding():
    times = np.array([0.0299682617, 1.0, 1.3994], np.float16)  # float16 * 1e6 would be infinite
    assert microseconds(times).tolist() == [int(t * 2**16) * 1e6 / 2**16 for t in times.astype(float)]


def test_float64_seconds_mean_the_microseconds_they_were_written_as():
    whole = np.arange(0, 3_000_000, 7)
    assert (microseconds(whole / 1e6) == whole).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_no_half_or_single_time_is_rounded(dtype):
    """Multiples of the spacing around whole microseconds stay on their side of them."""
    near = (np.arange(1, 1000) / 1000).astype(dtype)
    times = np.concatenate([np.nextafter(near, dtype(0)), near, np.nextafter(near, dtype(2))])
    exact = [Fraction(float(t)) * 10**6 for t in times]
    assert [Fraction(float(t)) for t in microseconds(times)] == exact


def test_whole_numbers_are_microseconds_already():
    times = np.array([0, 2**31, 5], np.uint32)
    assert microseconds(times).tolist() == [0, 2**31, 5] and microseconds(times).dtype == np.int64


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_times_that_are_not_finite_are_named(bad):
    with pytest.raises(ValueError, match="1 of 3 spike times are not finite; the first is spike 2"):
        microseconds(np.array([0.0, 1.0, bad]))


def test_times_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="seconds.*microseconds.*bool"):
        microseconds(np.array([True]))


def test_a_missing_field_is_named_with_those_there_are_and_who_asked():
    events = spike_events(np.array([0.1]), np.array([3]))
    with pytest.raises(ValueError, match="Flip needs the field 'y'; these events have t, x"):
        field(events, "y", "Flip")
    with pytest.raises(TypeError, match=r"Flip expects events .* shape \(2, 3\)"):
        field(np.zeros((2, 3)), "t", "Flip")


def test_replaced_leaves_its_input_and_the_order_of_the_fields_alone():
    events = spike_events(np.array([0.1, 0.2]), np.array([3, 4], np.uint16))
    other = replaced(events, t=np.array([7, 8]))
    assert other.dtype.names == ("t", "x") and other["t"].tolist() == [7, 8] and other["x"].tolist() == [3, 4]
    assert events["t"].tolist() == [0.1, 0.2]


def test_times_and_units_must_match():
    with pytest.raises(ValueError, match="equal length"):
        spike_events(np.zeros(3), np.zeros(2))


def test_microseconds_make_events_that_tonic_can_frame():
    tonic = pytest.importorskip("tonic")
    events = np.zeros(4, [("t", "f8"), ("x", "i8"), ("p", "i8")])
    events["t"], events["x"] = [0.01, 0.0101, 0.034, 0.041], [0, 2, 1, 1]
    frames = tonic.transforms.ToFrame((3, 1, 1), time_window=10_000, include_incomplete=True)(Microseconds()(events))
    assert frames.sum() == 4 and frames.shape[0] == 4


def test_spikes_of_a_cochlea_get_the_polarity_that_tonic_asks_for():
    tonic = pytest.importorskip("tonic")
    events = spike_events(np.array([0.01, 0.0101, 0.034, 0.041]), np.array([0, 2, 1, 1]))
    made = Microseconds()(events)
    assert made.dtype.names == ("t", "x", "p") and made["p"].tolist() == [1] * 4
    assert made["t"].tolist() == [10_000, 10_100, 34_000, 41_000] and made["x"].tolist() == [0, 2, 1, 1]
    assert (Bin(3)(made) == Bin(3)(events)).all()
    frames = tonic.transforms.ToFrame((3, 1, 1), time_window=10_000, include_incomplete=True)(made)
    assert frames.sum() == 4 and frames.shape == (4, 1, 3)
