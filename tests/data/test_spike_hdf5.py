import copy
import os
import pickle

import numpy as np
import pytest

from snnkit.data import Bin, Compose, Part, SpikeHDF5, TimeMask, split_validation
from tests.data.recordings import CHANNELS, made_events, write_file
from tests.shared import shared_path

h5py = pytest.importorskip("h5py")


@pytest.fixture
def file(tmp_path):
    return write_file(tmp_path / "shd_train.h5")


def test_events_labels_classes_and_speakers_are_the_files(file):
    dataset = SpikeHDF5(file.parent, "train")
    with h5py.File(file) as opened:
        labels, speakers = opened["labels"][:], opened["extra/speaker"][:]
    assert dataset.labels.tolist() == labels.tolist() and dataset.speakers.tolist() == speakers.tolist()
    assert dataset.labels.dtype == dataset.speakers.dtype == np.int64
    assert dataset.classes == ["one", "two", "drei"] and len(dataset) == 7
    for i, wanted in enumerate(made_events(7)):
        events, label = dataset[i]
        assert (events == wanted).all() and label == labels[i] and isinstance(label, int)


def test_times_are_wide_enough_to_compute_with_and_exactly_the_stored_ones(file):
    events = SpikeHDF5(file)[2][0]
    assert events["t"].dtype == np.float64 and (events["t"].astype(np.float16) == events["t"]).all()


def test_without_keys_the_classes_are_the_labels(tmp_path):
    dataset = SpikeHDF5(write_file(tmp_path / "test.h5", keys=False))
    assert dataset.classes == [str(i) for i in range(dataset.labels.max() + 1)]


def test_a_spike_outside_the_sensor_names_file_sample_and_event(file):
    with pytest.raises(ValueError, match=r"shd_train.h5: 7 samples, 3 classes\), sample 0: Bin: .* first is event"):
        SpikeHDF5(file, transform=Bin(3))[0]


def test_the_handle_is_opened_late_once_and_never_copied(file):
    dataset = SpikeHDF5(file)
    assert not dataset._handles
    first = dataset[0][0]
    assert list(dataset._handles) == [os.getpid()]
    handle = dataset._file()
    assert dataset[1] and dataset._file() is handle
    for other in (pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        assert not other._handles and (other[0][0] == first).all()
    dataset.close(), dataset.close()
    assert not handle and (dataset[0][0] == first).all()


def test_a_file_that_vanishes_or_breaks_after_construction_is_named(file):
    dataset = SpikeHDF5(file)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="shd_train.h5 is gone"):
        dataset[0]


def test_content_changes_with_the_file_not_with_its_name(tmp_path):
    one, same = write_file(tmp_path / "shd_train.h5"), tmp_path / "ssc_test.h5"
    same.write_bytes(one.read_bytes())
    other = write_file(tmp_path / "valid.h5", seed=3)
    assert SpikeHDF5(one).content() == SpikeHDF5(same).content() != SpikeHDF5(other).content()


def test_random_transforms_run_before_and_after_binning(file):
    dataset = SpikeHDF5(file, transform=Compose(Bin(CHANNELS, group=2), TimeMask(20, 1.0)), seed=3)
    frames = dataset[4][0]
    assert frames.shape[1] == CHANNELS // 2 and (frames == dataset[4][0]).all()
    dataset.set_epoch(1)
    assert frames.shape != dataset[4][0].shape or (frames != dataset[4][0]).any()


def test_spoken_digits_have_their_documented_statistics():
    root = shared_path("data/spoken_digits")
    train, test = SpikeHDF5(root, "train"), SpikeHDF5(root, "test")
    assert (len(train), len(test), len(train.classes)) == (1600, 600, 10)
    assert np.bincount(train.labels).tolist() == [160] * 10 and np.bincount(test.labels).tolist() == [60] * 10
    assert set(test.speakers) - set(train.speakers) == {2, 4}
    rest, held = split_validation(len(train), 160, seed=1234)
    valid = Part(SpikeHDF5(root, "train", Bin.as_published()), held)
    assert len(rest) == 1440 and not set(rest) & set(held)
    assert valid[0][0].shape[1] == 140 and valid[0][1] == train.labels[held[0]]


def test_training_and_test_recordings_are_not_the_same():
    """By content: no recording of the test file occurs in the training file."""
    root = shared_path("data/spoken_digits")
    seen = [{events.tobytes() for events, _ in SpikeHDF5(root, split)} for split in ("train", "test")]
    assert (len(seen[0]), len(seen[1])) == (1600, 600) and not seen[0] & seen[1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", np.zeros((7, 1), np.uint16), r"labels must be a list of labels, one axis long, got uint16 of shape"),
        ("labels", np.uint16(3), r"labels must be a list of labels, one axis long, got uint16 of shape \(\)"),
        ("labels", np.full(7, 2**32 - 1, np.uint32), r"label 4294967295 .* Is it a -1, stored unsigned"),
        ("extra/speaker", np.arange(7) / 2, "extra/speaker must be a list of numbers, one axis long, got float64"),
        ("extra/keys", np.array([[b"a"], [b"b"]]), "extra/keys must be a list of names, one axis long"),
        ("extra/keys", np.array([b"\xe9", b"b"]), "extra/keys|cannot be read"),
    ],
)
def test_layouts_that_are_not_shds_are_named(tmp_path, name, value, message):
    path = write_file(tmp_path / "foreign.h5")
    with h5py.File(path, "a") as file:
        del file[name]
        if "unsigned" in message:
            del file["extra/keys"]
        file[name] = value
    with pytest.raises(ValueError, match=message) as caught:
        SpikeHDF5(path)
    assert "foreign.h5" in str(caught.value)


def test_lists_of_the_other_byte_order_are_refused(tmp_path):
    path = write_file(tmp_path / "big.h5")
    with h5py.File(path, "a") as file:
        del file["spikes/units"]
        units = file.create_dataset("spikes/units", 7, h5py.vlen_dtype(np.dtype(">u2")))
        units[0] = np.array([1, 2, 3], ">u2")
    with pytest.raises(ValueError, match=r"spikes/units holds numbers of the other byte order \(>u2\)"):
        SpikeHDF5(path)
