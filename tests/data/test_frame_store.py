import pickle

import numpy as np
import pytest

from snnkit.data.frame_store import FrameStore, write_frames

SAMPLES = [np.full((t, 3), value) for t, value in ((2, 5), (0, 0), (7, 300), (1, 70_000), (4, 255))]


@pytest.fixture
def folder(tmp_path):
    write_frames(tmp_path, SAMPLES)
    return tmp_path


def test_samples_come_back_in_the_smallest_dtype(folder):
    store = FrameStore(folder)
    assert len(store) == 5
    for sample, wanted, dtype in zip(
        map(store.__getitem__, range(5)), SAMPLES, "uint8 uint8 uint16 int32 uint8".split(), strict=True
    ):
        assert sample.shape == wanted.shape and (sample == wanted).all() and sample.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "int64"])
def test_other_kinds_keep_their_values(tmp_path, dtype):
    sample = (np.random.default_rng(0).normal(size=(4, 2, 3)) * 2**40).astype(dtype)
    write_frames(tmp_path, [sample, sample[:1]])
    assert (FrameStore(tmp_path)[0] == sample).all() and (FrameStore(tmp_path)[1] == sample[:1]).all()


def test_a_sample_is_a_copy_that_may_be_changed(folder):
    store = FrameStore(folder)
    store[0][:] = 9
    assert (store[0] == 5).all()


def test_a_pickled_store_holds_no_frames(tmp_path):
    write_frames(tmp_path, [np.ones((1000, 63))])
    store = FrameStore(tmp_path)
    assert store[0].nbytes == 504_000
    assert len(pickle.dumps(store)) < 5000 and (pickle.loads(pickle.dumps(store))[0] == 1).all()


def test_no_samples_are_fine(tmp_path):
    write_frames(tmp_path, [])
    assert len(FrameStore(tmp_path)) == 0


@pytest.mark.parametrize("name", ["frames.bin", "index.npz"])
@pytest.mark.parametrize("damage", ["gone", "short", "garbage"])
def test_damage_is_noticed_when_the_store_is_opened(folder, name, damage):
    content = (folder / name).read_bytes()
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[:-3] if damage == "short" else b"garbage")
    with pytest.raises(OSError, match=f"{name}|index"):
        FrameStore(folder)


def test_samples_that_differ_in_more_than_time_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"sample 1 is \(2, 4\), sample 0 \[T"):
        write_frames(tmp_path, [np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(TypeError, match="A cache expects events or"):
        write_frames(tmp_path, [[1, 2]])
