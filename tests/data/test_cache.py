import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkit.data import Bin, DiskCache, SpikeHDF5, TimeMask
from tests.data.recordings import CHANNELS, MadeFrames, write_file


class Counted(MadeFrames):
    """Counts how often a sample is made."""

    made = 0

    def stored(self, index, epoch=0):
        type(self).made += 1
        return super().stored(index, epoch)


@pytest.fixture(autouse=True)
def fresh_count():
    Counted.made = 0


def everything(dataset):
    return [(sample.tolist(), label) for sample, label in dataset]


def test_the_second_time_nothing_is_made_and_all_is_equal(tmp_path):
    plain = everything(MadeFrames())
    for _ in range(2):
        cache = DiskCache(Counted(), tmp_path)
        assert everything(cache) == plain and Counted.made == 6
    assert cache.classes == ["a", "b", "c"] and cache.speakers is not None and cache[0][0].dtype == np.uint8


def test_other_content_or_another_argument_is_another_cache(tmp_path):
    pytest.importorskip("h5py")
    file = write_file(tmp_path / "shd_train.h5")
    transforms = [Bin(CHANNELS), Bin(CHANNELS, 5000), Bin(CHANNELS, group=7), Bin.as_published(CHANNELS, group=1)]
    sets = [SpikeHDF5(file, transform=transform) for transform in transforms]
    sets.append(SpikeHDF5(write_file(tmp_path / "other.h5", seed=4), transform=Bin(CHANNELS)))
    caches = [DiskCache(dataset, tmp_path / "cache") for dataset in sets]
    assert len({cache.key for cache in caches}) == len(sets)
    assert all(everything(cache) == everything(dataset) for cache, dataset in zip(caches, sets, strict=True))
    # The same file under another name, read anew: the old cache serves it.
    copied = tmp_path / "moved.h5"
    copied.write_bytes(file.read_bytes())
    assert DiskCache(SpikeHDF5(copied, transform=Bin(CHANNELS)), tmp_path / "cache").key == caches[0].key


def test_a_lambda_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="no stable identity"):
        DiskCache(MadeFrames(transform=lambda frames: frames), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_random_transform_belongs_outside(tmp_path):
    with pytest.raises(ValueError, match="freeze one draw"):
        DiskCache(MadeFrames(transform=TimeMask()), tmp_path)
    cache = DiskCache(MadeFrames(), tmp_path, transform=TimeMask(5, 1.0))
    first = everything(cache)
    cache.set_epoch(1)
    assert everything(cache) != first


def test_a_sample_that_fails_leaves_nothing_behind(tmp_path):
    class Failing(Counted):
        def stored(self, index, epoch=0):
            if index == 3:
                raise ValueError("broken recording")
            return super().stored(index, epoch)

    with pytest.raises(ValueError, match="broken recording"):
        DiskCache(Failing(), tmp_path)
    assert [each.suffix for each in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["frames.bin", "index.npz"])
def test_a_damaged_cache_is_written_anew_and_says_so(tmp_path, name):
    cache = DiskCache(Counted(), tmp_path)
    content = (cache.path / name).read_bytes()
    (cache.path / name).write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match=f"{cache.path.name} is damaged and written anew"):
        again = DiskCache(Counted(), tmp_path)
    assert everything(again) == everything(MadeFrames()) and Counted.made == 12


KILLED = """
    import sys, time
    from pathlib import Path
    from snnkit.data import DiskCache
    from tests.data.test_cache import Slow
    DiskCache(Slow(), sys.argv[1])
"""


class Slow(MadeFrames):
    """Stops for ever at its fourth sample, once, and tells the folder that it is there."""

    def stored(self, index, epoch=0):
        if index == 3 and "SNNKIT_TEST_STOP" in os.environ:
            Path(os.environ["SNNKIT_TEST_STOP"]).touch()
            signal.pause()
        return super().stored(index, epoch)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_run_killed_while_writing_leaves_a_cache_that_the_next_run_builds_right(tmp_path):
    reached, folder = tmp_path / "reached", tmp_path / "cache"
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(folder)],
        env={**os.environ, "SNNKIT_TEST_STOP": str(reached), "PYTHONPATH": str(root)},
        cwd=root,
    )
    try:
        for _ in range(1200):
            if reached.exists() or process.poll() is not None:
                break
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                pass
        assert reached.exists(), "the other process never began to write"
    finally:
        process.kill()
        process.wait()
    assert list(folder.glob("*.part-*")), "something half-written lies there"
    cache = DiskCache(Slow(), folder)
    assert everything(cache) == everything(MadeFrames())
    assert not list(folder.glob("*.part-*")), "and is cleared away"


class Unhurried(Counted):
    """Takes long enough for the other processes to come."""

    def stored(self, index, epoch=0):
        time.sleep(0.1)
        return super().stored(index, epoch)


class FailingElsewhere(MadeFrames):
    """Fails in a worker with an error that names the recording."""

    def stored(self, index, epoch=0):
        if index == 3:
            raise ValueError("recording_3.bin is broken")
        return super().stored(index, epoch)


class Unpicklable(Exception):
    def __init__(self, name, what):
        super().__init__(f"{name} is {what}")


class FailingOddly(MadeFrames):
    """Fails in a worker with an error that does not survive its way out."""

    def stored(self, index, epoch=0):
        raise Unpicklable("recording_3.bin", "odd")


def test_workers_make_the_same_cache_and_no_random_number_is_drawn(tmp_path):
    before = torch.get_rng_state()
    with_workers = DiskCache(Counted(), tmp_path / "a", workers=2)
    assert Counted.made == 0, "made in other processes"
    assert everything(with_workers) == everything(DiskCache(MadeFrames(), tmp_path / "b"))
    other = DiskCache(MadeFrames(), tmp_path / "b").path
    assert (with_workers.path / "frames.bin").read_bytes() == (other / "frames.bin").read_bytes()
    assert torch.equal(torch.get_rng_state(), before)


def test_what_fails_in_a_worker_is_said_as_it_is(tmp_path):
    with pytest.raises(ValueError, match="^recording_3.bin is broken$"):
        DiskCache(FailingElsewhere(), tmp_path, workers=2)
    assert [each.suffix for each in tmp_path.iterdir()] == [".lock"]
    with pytest.raises(RuntimeError, match="^Unpicklable: recording_3.bin is odd$"):
        DiskCache(FailingOddly(), tmp_path, workers=1)
    with pytest.raises(ValueError, match="workers must be >= 0, got -1"):
        DiskCache(MadeFrames(), tmp_path, workers=-1)


def test_a_process_that_runs_the_script_again_to_make_samples_does_not_wait_for_its_parent(tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match="under `if __name__"):
        DiskCache(MadeFrames(), tmp_path, workers=2)
    assert len(DiskCache(MadeFrames(), tmp_path)) == 6, "without workers there is nobody to wait for"


def _build(folder, ready, results):
    ready.wait(60)
    cache = DiskCache(Unhurried(), folder)
    results.put((Unhurried.made, everything(cache)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_of_several_processes_one_builds_and_all_read_the_same(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_build, args=(tmp_path, ready, results)) for _ in range(4)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sum(made for made, _ in outcomes) == 6
    assert all(samples == everything(MadeFrames()) for _, samples in outcomes)


def test_the_default_folder_is_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path))
    assert DiskCache(MadeFrames()).path.parent == tmp_path / "frames"


def test_without_one_the_default_folder_is_the_users(tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.delenv("SNNKIT_CACHE", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    assert DiskCache(MadeFrames()).path.parent == tmp_path / "snnkit" / "frames"


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(tmp_path / "no"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match="no'. Give DiskCache another folder, or keep the set InMemory"):
        DiskCache(MadeFrames(), tmp_path / "no")


def test_forty_thousand_events_in_one_pixel_are_stored_and_come_back(tmp_path):
    class Crowded(MadeFrames):
        def stored(self, index, epoch=0):
            frames = np.zeros((3, 2, 5, 7), np.int32)
            frames[1, 0, 2, 3] = (255, 256, 40_000, 65_535, 65_536, 7)[index]
            return frames

    cache = DiskCache(Crowded(), tmp_path)
    stored = [cache[index][0] for index in range(6)]
    assert [int(frames.sum()) for frames in stored] == [255, 256, 40_000, 65_535, 65_536, 7]
    assert [frames.dtype.name for frames in stored] == ["uint8", "uint16", "uint16", "uint16", "int32", "uint8"]
