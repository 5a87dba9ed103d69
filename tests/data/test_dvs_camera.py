"""Laws of the pixel: what fires, how often, when, and how soon again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import DVSCamera

QUIET = DVSCamera(contrast=0.2, spread=0.0, refractory_us=0, noise_hz=0.0, dark=0.0)
HEIGHT, WIDTH = 5, 7
seeds = st.integers(0, 1000)


def random_light(seed, frames=6):
    return np.exp(np.random.default_rng(seed).normal(0, 0.8, (frames, HEIGHT, WIDTH)))


def random_times(seed, frames=6):
    return np.cumsum(np.random.default_rng(seed + 1).integers(1, 3000, frames)) - 500


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_light_that_does_not_change_gives_no_events(spread):
    camera = DVSCamera(spread=spread, noise_hz=0.0)
    light = np.repeat(random_light(0)[:1], 4, axis=0)
    assert len(camera(light, np.arange(4) * 1000, np.random.default_rng(0))) == 0


@given(steps=st.integers(-9, 9), rest=st.floats(0.01, 0.99), frames=st.integers(2, 5), seed=seeds)
def test_a_step_of_k_thresholds_gives_k_events_of_its_polarity(steps, rest, frames, seed):
    change = np.sign(steps) * (abs(steps) + rest) * 0.2 if steps else rest * 0.2
    light = random_light(seed, 1) * np.exp(np.linspace(0, change, frames))[:, None, None]
    events = QUIET(light, np.arange(frames) * 1000 + 7, np.random.default_rng(0))
    assert len(events) == abs(steps) * HEIGHT * WIDTH and (events["p"] == (steps > 0)).all()
    counts = np.zeros((HEIGHT, WIDTH), int)
    np.add.at(counts, (events["y"], events["x"]), 1)
    assert (counts == abs(steps)).all()
    wanted = 7 + 1000 * (frames - 1) * 0.2 * np.arange(1, abs(steps) + 1) / abs(change)  # the line crosses k c
    assert np.abs(events["t"][events["x"] == 3].reshape(-1, HEIGHT) - wanted[:, None]).max(initial=0) <= 1


@given(seed=seeds, refractory=st.sampled_from([0, 1, 400, 2500]), noise=st.sampled_from([0.0, 300.0]))
def test_events_are_sorted_inside_the_interval_and_keep_the_refractory_time(seed, refractory, noise):
    camera = DVSCamera(0.15, 0.02, refractory, noise, dark=0.1)
    light, times = random_light(seed), random_times(seed)
    events = camera(light, times, np.random.default_rng(seed))
    t, pixel = events["t"], events["y"].astype(int) * WIDTH + events["x"]
    assert t.dtype == np.int64 and (np.diff(t) >= 0).all()
    assert len(events) and t.min() >= times[0] and t.max() <= times[-1]
    assert events["y"].max() < HEIGHT and events["x"].max() < WIDTH and set(events["p"]) <= {0, 1}
    for each in range(HEIGHT * WIDTH):
        assert (np.diff(t[pixel == each]) >= refractory).all()


@given(seeds)
def test_what_a_pixel_has_seen_is_within_a_threshold_of_the_light(seed):
    """Without refractory time ON minus OFF events, weighed by their thresholds, follow the log light."""
    camera = DVSCamera(0.15, 0.03, 0, 0.0, dark=0.1)
    light, sensor = random_light(seed), camera.thresholds(HEIGHT, WIDTH, np.random.default_rng(seed))
    events = camera(light, random_times(seed), np.random.default_rng(0), sensor)
    moved = np.zeros((HEIGHT, WIDTH))
    step = np.where(events["p"], 1, -1) * sensor[events["p"], events["y"], events["x"]]
    np.add.at(moved, (events["y"], events["x"]), step)
    error = np.log(light[-1] + 0.1) - np.log(light[0] + 0.1) - moved
    assert (error < sensor[1] + 1e-9).all() and (-error < sensor[0] + 1e-9).all()


def test_changes_within_the_refractory_time_are_lost():
    log = np.array([0.0, 0.2, 1.0, 1.0, 1.3])  # in 1 ms each; 0.2 fires at 1 ms, the pixel sleeps until 3 ms
    camera = DVSCamera(0.2, 0.0, refractory_us=2000, noise_hz=0.0, dark=0.0)
    events = camera(np.exp(log).reshape(5, 1, 1), np.arange(5) * 1000, np.random.default_rng(0))
    assert np.abs(events["t"] - [1000, 3667]).max() <= 1 and (events["p"] == 1).all()


def test_noise_comes_at_its_rate_in_both_polarities_and_from_the_generator():
    camera, light = DVSCamera(refractory_us=0, noise_hz=5.0), np.ones((2, 40, 50))
    first, again, other = (camera(light, np.array([0, 500_000]), np.random.default_rng(k)) for k in (0, 0, 1))
    assert abs(len(first) - 5000) < 5 * 5000**0.5 and abs(first["p"].mean() - 0.5) < 0.05
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_thresholds_differ_between_pixels_by_the_spread_and_stay_positive():
    sensor = DVSCamera(0.2, 0.03).thresholds(60, 70, np.random.default_rng(0))
    assert sensor.shape == (2, 60, 70) and abs(sensor.std() - 0.03) < 0.002 and abs(sensor.mean() - 0.2) < 0.002
    assert DVSCamera(0.2, 10.0).thresholds(60, 70, np.random.default_rng(0)).min() == pytest.approx(0.02)


@pytest.mark.parametrize(
    "light, times, message",
    [
        (np.ones((3, 4)), [0, 1, 2], r"\[F, H, W\], got shape \(3, 4\)"),
        (np.ones((1, 3, 4)), [0], "at least two images"),
        (np.ones((2, 3, 4), np.uint8), [0, 1], r"got uint8. Gray levels .* \(levels / 255\) \*\* 2.2"),
        (np.ones((2, 3, 4)), [0, 1, 2], "one time an image, 2"),
        (np.ones((2, 3, 4)), [5, 5], "must increase"),
        (np.ones((3, 3, 4)), [0, 1e-3, 2e-3], "at least 1 us apart, got 0.001 us. Times in seconds"),
        (np.full((2, 3, 4), -1.0), [0, 1], "light must be finite"),
        (np.full((2, 3, 4), np.nan), [0, 1], "light must be finite"),
    ],
)
def test_impossible_images_are_refused(light, times, message):
    with pytest.raises(ValueError, match=message):
        DVSCamera()(light, np.array(times), np.random.default_rng(0))


@pytest.mark.parametrize("wrong", [{"contrast": 0}, {"spread": -1}, {"refractory_us": 1.5}, {"noise_hz": float("nan")}])
def test_impossible_sensors_are_refused(wrong):
    with pytest.raises(ValueError, match=f"DVSCamera: {next(iter(wrong))}"):
        DVSCamera(**wrong)
    with pytest.raises(ValueError, match=r"thresholds must be \(2, 3, 4\), got \(2, 4, 3\)"):
        DVSCamera()(np.ones((2, 3, 4)), np.arange(2), np.random.default_rng(0), np.ones((2, 4, 3)))


def test_log_light_gives_the_events_of_its_light_and_a_pixel_may_have_seen_something_before():
    camera, sensor = DVSCamera(0.15, 0.03, 300, 2.0, dark=0.1), np.full((2, HEIGHT, WIDTH), 0.15)
    light, times = random_light(0), random_times(0)
    one = camera(light, times, np.random.default_rng(1), sensor)
    other = camera.of_log(np.log(light + 0.1), times, np.random.default_rng(1), sensor)
    assert np.array_equal(one, other) and len(one)
    log = np.linspace(0, 0.15, 4).reshape(4, 1, 1)  # by 0.15 in 3 ms; 0.1 has been seen, 0.1 more is a threshold
    whole = QUIET.of_log(np.array([0, 2, 0]).reshape(3, 1, 1), np.arange(3) * 1000, np.random.default_rng(0))
    assert len(whole) >= 19, "whole numbers are numbers"
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="log light must be finite"):
            QUIET.of_log(np.array([0.0, wrong, 0.0]).reshape(3, 1, 1), np.arange(3) * 1000, np.random.default_rng(0))
    seen = QUIET.of_log(log, np.arange(4) * 1000, np.random.default_rng(0), seen=np.array([[-0.1]]))
    assert seen["t"].tolist() == [2000] and seen["p"].tolist() == [1]
    assert not len(QUIET.of_log(log, np.arange(4) * 1000, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("seen", "message"),
    [([[0.3]], "less than a threshold"), ([[-0.3]], "less than a threshold"), ([0.0], r"seen must be \(1, 1\), got")],
)
def test_what_a_pixel_cannot_have_seen_is_refused(seen, message):
    with pytest.raises(ValueError, match=message):
        QUIET.of_log(np.zeros((2, 1, 1)), np.arange(2) * 1000, np.random.default_rng(0), seen=np.array(seen))
