import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from snnkit.data import latency_frames

pictures = arrays(np.int64, (3, 5), elements=st.integers(0, 16))


@given(pictures, st.sampled_from([1, 3, 16, 63]))
def test_bright_pixels_fire_once_and_dark_ones_never(picture, steps):
    frames = latency_frames(picture, levels=16, steps=steps)
    assert frames.shape == (steps, 3, 5) and frames.dtype == np.uint8
    assert (frames.sum(0) == (picture > 0)).all()


@given(pictures, st.sampled_from([16, 20, 63]))
def test_brighter_is_strictly_earlier(picture, steps):
    time = latency_frames(picture, levels=16, steps=steps).argmax(0)[picture > 0]
    value = picture[picture > 0]
    assert ((value[:, None] > value) == (time[:, None] < time)).all()


def test_the_brightest_fires_at_once_and_the_dimmest_last():
    assert latency_frames(np.array([16, 1]), 16, 16).argmax(0).tolist() == [0, 15]


@pytest.mark.parametrize("picture", [[-1], [17], [0.5]])
def test_values_outside_the_levels_are_refused(picture):
    with pytest.raises(ValueError, match=r"whole numbers in 0\.\.16"):
        latency_frames(np.array(picture), 16, 16)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="steps=0"):
        latency_frames(np.zeros(2), 16, 0)
