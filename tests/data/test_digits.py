import hashlib

import numpy as np
import pytest

from snnkit.data import Digits, TimeMask

sklearn_datasets = pytest.importorskip("sklearn.datasets")
SPLITS = ("train", "valid", "test")


def test_splits_are_disjoint_and_complete_and_test_has_360():
    parts = {split: Digits(split, validation=0.2).indices for split in SPLITS}
    assert len(parts["test"]) == 360 and len(parts["valid"]) == 287
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1797))


def test_no_digit_is_in_two_splits_by_its_pixels():
    """The file holds no picture twice, so equal frames would be the same sample."""
    seen = [{frames.tobytes() for frames in Digits(split).frames} for split in SPLITS]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 1797


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_every_class_by_its_share(split):
    counts = np.bincount(Digits(split).labels, minlength=10)
    whole = np.bincount(sklearn_datasets.load_digits().target)
    assert np.abs(counts - whole * counts.sum() / 1797).max() < 2


def test_the_test_set_is_the_same_for_ever():
    """A new order in numpy or scikit-learn must not move samples between training and test."""
    assert hashlib.sha256(Digits("test").indices.astype("<i8").tobytes()).hexdigest()[:16] == "d040d215f6d53853"
    assert (Digits("test", validation=0.5, seed=7, steps=3).indices == Digits("test").indices).all()


def test_each_bright_pixel_fires_once_and_the_brighter_first():
    digits = sklearn_datasets.load_digits()
    dataset = Digits("valid", steps=16)
    for (frames, label), index in zip(dataset, dataset.indices, strict=True):
        pixels = digits.data[index]
        assert frames.shape == (16, 64) and frames.dtype == np.uint8 and label == digits.target[index]
        assert (frames.sum(0) == (pixels > 0)).all()
        assert (frames.argmax(0)[pixels > 0] == 16 - pixels[pixels > 0]).all()


def test_steps_set_the_length():
    assert Digits("test", steps=40)[3][0].shape == (40, 64) and Digits("test").classes == list("0123456789")


def test_a_random_transform_varies_by_epoch():
    dataset = Digits("valid", transform=TimeMask(8, 1.0))
    first = dataset[3][0].tolist()
    dataset.set_epoch(1)
    assert dataset[3][0].tolist() != first and dataset.draws


def test_wrong_splits_and_empty_parts_are_refused():
    with pytest.raises(ValueError, match="'train', 'valid', 'test', got 'val'"):
        Digits("val")
    with pytest.raises(ValueError, match="holds out no sample"):
        Digits("valid", validation=0)
    with pytest.raises(ValueError, match=r"share in \[0, 1\)"):
        Digits("train", validation=1.0)
    assert len(Digits("train", validation=0)) == 1437
