"""Missing, truncated, foreign and wrongly laid out files are told apart, each by its path."""

import re

import numpy as np
import pytest

from snnkit.data import SpikeHDF5
from snnkit.data.spike_file import find_spike_file
from tests.data.recordings import write_file

h5py = pytest.importorskip("h5py")


@pytest.mark.parametrize(
    "name", ["shd_test.h5", "ssc_test.h5", "test.h5", "SHD/shd_test.h5", "SSC/ssc_test.h5", "events_h5/shd_test.h5"]
)
def test_a_file_is_found_by_the_names_and_folders_in_use(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    file = write_file(tmp_path / name)
    assert (
        find_spike_file(tmp_path, "test") == file == find_spike_file(str(file), None) == find_spike_file(file, "test")
    )


def test_a_missing_file_says_what_was_looked_for_where_and_what_is_there(tmp_path):
    write_file(tmp_path / "shd_train.h5")
    with pytest.raises(FileNotFoundError) as error:
        SpikeHDF5(tmp_path, "test")
    for part in ("shd_test.h5", "ssc_test.h5", str(tmp_path), "there: shd_train.h5"):
        assert part in str(error.value)
    with pytest.raises(FileNotFoundError, match="SHD has no validation file.*split_validation"):
        SpikeHDF5(tmp_path, "valid")


def test_an_archive_beside_a_missing_file_is_pointed_at(tmp_path):
    (tmp_path / "shd_test.h5.zip").touch()
    with pytest.raises(FileNotFoundError, match="shd_test.h5.zip is there: unzip it"):
        SpikeHDF5(tmp_path, "test")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"No such file or folder: {tmp_path / 'no'}")):
        SpikeHDF5(tmp_path / "no", "test")


def test_a_wrong_split_lists_the_words(tmp_path):
    with pytest.raises(ValueError, match="split must be one of 'train', 'valid', 'test', got 'val'"):
        SpikeHDF5(tmp_path, "val")
    with pytest.raises(ValueError, match="say which split"):
        SpikeHDF5(tmp_path)
    with pytest.raises(ValueError, match="split='train' contradicts the name"):
        SpikeHDF5(write_file(tmp_path / "shd_test.h5"), "train")


def test_two_files_that_fit_are_a_question_not_a_guess(tmp_path):
    write_file(tmp_path / "shd_test.h5"), write_file(tmp_path / "ssc_test.h5")
    with pytest.raises(ValueError, match="holds shd_test.h5 and ssc_test.h5; give the file"):
        SpikeHDF5(tmp_path, "test")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_told_from_a_foreign_one(tmp_path, kept):
    file = write_file(tmp_path / "shd_test.h5", samples=63)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))} is truncated"):
        SpikeHDF5(tmp_path, "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"PK\x03\x04....", "zip archive: unzip it"), (b"<html>", "is not an HDF5 file.*<htm")],
    ids=["empty", "zip", "html"],
)
def test_what_is_no_hdf5_says_so(tmp_path, content, message):
    (tmp_path / "shd_test.h5").write_bytes(content)
    with pytest.raises(ValueError, match=f"shd_test.h5 {message}|shd_test.h5 .*{message}"):
        SpikeHDF5(tmp_path, "test")


def test_a_missing_or_damaged_file_says_where_shd_comes_from_and_where_to_unpack_it(tmp_path):
    place = re.escape(str(tmp_path))
    for path in (tmp_path, tmp_path / "shd_train.h5"):
        with pytest.raises(FileNotFoundError, match=rf"https://zenkelab.org/datasets/: .*shd_train.h5.zip.* {place}\."):
            SpikeHDF5(path, "train")
    (tmp_path / "ssc_test.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"ssc_test.h5.zip from https://zenkelab.org/datasets/, .* {place}\."):
        SpikeHDF5(tmp_path, "test")


@pytest.mark.parametrize("signature", [b"HEAP", b"TREE", b"SNOD", b"GCOL"])
def test_damaged_bytes_are_told_with_the_files_path_and_the_remedy(tmp_path, signature):
    file = write_file(tmp_path / "shd_test.h5")
    file.write_bytes(file.read_bytes().replace(signature, b"\0\0\0\0"))
    with pytest.raises((ValueError, OSError), match=rf"{re.escape(str(file))}.*Download it again: shd_test.h5.zip"):
        list(SpikeHDF5(file))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("spikes/times", np.zeros(7), r"spikes/times must hold a list of its own length .* \(vlen\), got float64"),
        ("spikes/units", np.zeros((7, 2), np.int32), r"spikes/units must hold a list .* got int32"),
        ("labels", np.arange(7) - 1, "labels must be integers from 0, got -1"),
        ("labels", np.full(7, 0.5), "labels must be integers from 0, got float64"),
    ],
)
def test_spikes_and_labels_of_another_kind_are_refused(tmp_path, name, value, message):
    file = write_file(tmp_path / "shd_test.h5", keys=False)
    with h5py.File(file, "a") as opened:
        del opened[name]
        opened[name] = value
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))}: {message}"):
        SpikeHDF5(file)


def test_hdf5_of_another_layout_says_what_is_missing_and_what_is_there(tmp_path):
    with h5py.File(tmp_path / "test.h5", "w") as file:
        file["labels"], file["frames"] = np.zeros(3), np.zeros(3)
    with pytest.raises(ValueError, match="no spikes/times, spikes/units; it holds frames, labels"):
        SpikeHDF5(tmp_path, "test")


def test_data_sets_of_different_length_are_refused(tmp_path):
    file = write_file(tmp_path / "test.h5")
    with h5py.File(file, "a") as opened:
        del opened["labels"]
        opened["labels"] = np.zeros(3, np.uint16)
    with pytest.raises(ValueError, match="differ in length.*'labels': 3"):
        SpikeHDF5(file)


def test_a_label_without_name_is_refused(tmp_path):
    file = write_file(tmp_path / "test.h5")
    with h5py.File(file, "a") as opened:
        opened["labels"][2] = 19
    with pytest.raises(ValueError, match="label 19 has no name, extra/keys holds 3"):
        SpikeHDF5(file)


def test_a_refused_file_is_closed_again(tmp_path):
    file = write_file(tmp_path / "test.h5")
    with h5py.File(file, "a") as opened:
        del opened["spikes/units"]
    with pytest.raises(ValueError) as error:  # which keeps what it saw alive
        SpikeHDF5(file)
    h5py.File(file, "w").close()  # HDF5 refuses that while the file is open for reading
    assert "spikes/units" in str(error.value)
