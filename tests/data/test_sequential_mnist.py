import gzip

import numpy as np
import pytest

from snnkit.data import SequentialMNIST
from tests.data.idx import write_mnist


@pytest.mark.parametrize("packed", [False, True])
def test_a_picture_is_its_pixels_in_one_fixed_order(tmp_path, packed):
    images, labels = write_mnist(tmp_path, packed=packed)["t10k"]
    test = SequentialMNIST(tmp_path, "test", order=3)
    order = np.random.RandomState(3).permutation(784)
    for i, (frames, label) in enumerate(test):
        assert frames.shape == (784, 1) and frames.dtype == np.float32 and label == labels[i]
        assert (frames[:, 0] == images[i].reshape(784)[order] / np.float32(255)).all()
    assert (SequentialMNIST(tmp_path, "train", order=3).pixels == order).all()
    rows = SequentialMNIST(tmp_path, "test", order=None)
    assert (rows[1][0][:, 0] == images[1].ravel() / np.float32(255)).all()
    assert rows.content() != test.content() and test.batch([0, 2]).x.shape == (784, 2, 1)


def test_the_order_is_the_same_for_ever(tmp_path):
    """Another order in numpy would change the task under a stored result."""
    write_mnist(tmp_path)
    assert SequentialMNIST(tmp_path, "test").pixels[:6].tolist() == [693, 85, 647, 392, 765, 14]


def test_the_training_files_are_split_without_overlap_and_by_class(tmp_path):
    images, labels = write_mnist(tmp_path)["train"]
    parts = [SequentialMNIST(tmp_path, split, validation=0.2) for split in ("train", "valid")]
    assert [len(part) for part in parts] == [48, 12]
    seen = [frames.tobytes() for part in parts for frames, _ in part]
    assert len(set(seen)) == len(images) == 60 and set(np.bincount(parts[1].labels)) <= {1, 2}


def damage(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-7], r"cut short or damaged: 15673 bytes, its header says 15680"),
        (lambda raw: raw[:9], "is no idx file of bytes with 3 axes"),
        (lambda raw: b"", "is no idx file of bytes with 3 axes: it starts with b''"),
        (lambda raw: b"<html>" + raw, "is no idx file"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, change, message):
    write_mnist(tmp_path)
    damage(tmp_path / "t10k-images-idx3-ubyte", change)
    with pytest.raises(ValueError, match=f"t10k-images-idx3-ubyte .*{message}|t10k-images-idx3-ubyte {message}"):
        SequentialMNIST(tmp_path, "test")


@pytest.mark.parametrize("change", [lambda raw: raw[:-20], lambda raw: gzip.decompress(raw), lambda raw: raw[:30]])
def test_a_damaged_archive_is_an_error_that_names_it(tmp_path, change):
    write_mnist(tmp_path, packed=True)
    damage(tmp_path / "train-labels-idx1-ubyte.gz", change)
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte.gz is damaged or cut short"):
        SequentialMNIST(tmp_path, "valid")


def test_missing_files_and_wrong_arguments_are_refused(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw")
    assert len(SequentialMNIST(tmp_path, "test")) == 20
    with pytest.raises(ValueError, match="split must be one of .*, got 'dev'"):
        SequentialMNIST(tmp_path, "dev")
    with pytest.raises(ValueError, match="validation is a share in .*, got 1.5"):
        SequentialMNIST(tmp_path, "valid", validation=1.5)
    with pytest.raises(ValueError, match="validation=0 leave no picture for the valid part"):
        SequentialMNIST(tmp_path, "valid", validation=0)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="Neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz in"):
        SequentialMNIST(tmp_path, "test")


def test_pictures_and_labels_must_fit(tmp_path):
    write_mnist(tmp_path)
    images, labels = tmp_path / "t10k-images-idx3-ubyte", tmp_path / "t10k-labels-idx1-ubyte"
    damage(labels, lambda raw: raw[:-1] + b"\x0b")
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte holds the label 11, expected 0..9"):
        SequentialMNIST(tmp_path, "test")
    labels.write_bytes((tmp_path / "train-labels-idx1-ubyte").read_bytes())
    with pytest.raises(ValueError, match=f"{images} holds 20 pictures, {labels} 60 labels"):
        SequentialMNIST(tmp_path, "test")
