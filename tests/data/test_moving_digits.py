import numpy as np
import pytest

from snnkit.data import Bin, Digits, DVSCamera, InMemory, MovingDigits
from snnkit.data.moving_digits import CAMERA_OF_DIGITS, moving_images, offsets, recorded

sklearn_datasets = pytest.importorskip("sklearn.datasets")
SPLITS = ("train", "valid", "test")


@pytest.mark.parametrize("split", SPLITS)
def test_the_split_is_that_of_the_digits(split):
    moving, digits = MovingDigits(split, validation=0.2), Digits(split, validation=0.2)
    assert (moving.indices == digits.indices).all() and (moving.labels == digits.labels).all()
    assert moving.classes == digits.classes and (split != "test" or len(moving) == 360)


def test_events_lie_on_the_sensor_sorted_within_three_saccades():
    dataset = MovingDigits("valid")
    for events, _ in dataset:
        assert (np.diff(events["t"]) >= 0).all() and events["t"][0] >= 0 and events["t"][-1] <= 300_000
        assert events["x"].min() >= 0 <= events["y"].min() and max(events["x"].max(), events["y"].max()) < 32
        assert set(events["p"]) == {0, 1} and 500 < len(events) < 1500
        for leg in range(3):
            assert ((events["t"] >= leg * 100_000) & (events["t"] < (leg + 1) * 100_000)).sum() > 100
    assert dataset.sensor == (2, 32, 32)


def test_events_are_a_function_of_pictures_and_camera():
    pictures = sklearn_datasets.load_digits().images[:5] / 16
    first, again, other = (recorded(pictures, camera) for camera in (CAMERA_OF_DIGITS, CAMERA_OF_DIGITS, DVSCamera()))
    for one, two, three in zip(first, again, other, strict=True):
        assert np.array_equal(one, two) and not np.array_equal(one, three)
    digests = [MovingDigits(split).content() for split in (*SPLITS, *SPLITS)]
    assert digests[:3] == digests[3:] and len(set(digests)) == 3


def test_a_recording_shows_its_digit_upright():
    """The places of events correlate with the slope of the digit's light, and with no mirrored one's."""
    dataset, pictures = MovingDigits("test"), sklearn_datasets.load_digits().images / 16
    for sample in range(0, 360, 40):
        counts = Bin(dataset.sensor, 300_001)(dataset[sample][0])[0].sum(0)
        light = moving_images(pictures[dataset.indices[sample]][None])[:, 0]
        change = np.abs(np.diff(np.log(0.5 + light), axis=0)).sum(0)
        alike = [np.corrcoef(counts.ravel(), each.ravel())[0, 1] for each in (change, change[::-1], change.T)]
        assert alike[0] > 0.6 and alike[0] == max(alike)


def test_the_path_is_a_closed_triangle_and_the_digit_stays_on_the_sensor():
    path = offsets()
    assert path.shape == (31, 2) and (path[0] == path[-1]).all() and (path[10] == [0, 2]).all()
    light = moving_images(np.ones((1, 8, 8)))
    assert light.shape == (31, 1, 32, 32) and light.max() == 1 and not light[..., [0, -1], :].any()
    assert np.ptp(light.sum((1, 2, 3))) < 1e-6 * light[0].sum(), "a part of the digit left the sensor"


def test_frames_are_kept_in_memory_and_a_copy_is_handed_out():
    frames = InMemory(MovingDigits("valid", Bin((2, 32, 32), 75_001, from_first_spike=False, steps=4)))
    assert frames[3][0].shape == (4, 2, 32, 32) and frames[3][0].dtype == np.uint8
    events, _ = MovingDigits("valid")[3]
    assert frames[3][0].sum() == len(events)
    events["x"] = 0
    assert MovingDigits("valid")[3][0]["x"].any()


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'train', 'valid', 'test', got 'val'"):
        MovingDigits("val")
