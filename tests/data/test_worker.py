"""DataLoader workers give what the main process gives, under every start method."""

import os

import pytest
import torch
from torch.utils.data import DataLoader

from snnkit.data import Bin, ChannelJitter, Compose, DiskCache, EpochSampler, InMemory, SpikeHDF5, TimeMask, collate
from tests.data.recordings import CHANNELS, MadeFrames, write_file

pytest.importorskip("h5py")
METHODS = [method for method in ("fork", "spawn") if method in torch.multiprocessing.get_all_start_methods()]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_file(tmp_path_factory.mktemp("workers") / "shd_train.h5", samples=23)


def loader(dataset, workers=0, method=None, epoch=0, start=0, **options):
    sampler = EpochSampler(len(dataset), 4, seed=3, epoch=epoch, start=start)
    if workers:
        options |= dict(num_workers=workers, multiprocessing_context=method, timeout=300)
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, **options), sampler


def same(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def spikes(file, seed=0):
    return SpikeHDF5(file, transform=Compose(ChannelJitter(2.0, CHANNELS), Bin(CHANNELS), TimeMask(9, 1.0)), seed=seed)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("method", METHODS)
def test_four_workers_give_the_batches_of_none_after_the_file_was_used(file, method):
    dataset = spikes(file)
    assert len(list(dataset)) == 23  # the handle is open when the workers are made
    same(loader(dataset)[0], loader(dataset, 4, method)[0])
    assert list(dataset._handles) == [os.getpid()] and dataset[0]


def test_workers_that_outlive_an_epoch_draw_for_the_new_one(file):
    kept, sampler = loader(spikes(file), 2, METHODS[0], persistent_workers=True)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        same(loader(spikes(file), epoch=epoch)[0], kept)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumed_at_batch_k_has_the_rest_of_the_batches(file, workers):
    whole = list(loader(spikes(file), epoch=5)[0])
    same(whole[3:], loader(spikes(file), workers, METHODS[0] if workers else None, epoch=5, start=3)[0])


@pytest.mark.parametrize("keep", [InMemory, DiskCache], ids=["memory", "disk"])
def test_kept_frames_work_in_workers(file, keep, tmp_path):
    inner = SpikeHDF5(file, transform=Bin(CHANNELS))
    dataset = keep(inner, *([tmp_path] if keep is DiskCache else []), transform=TimeMask(9, 1.0))
    same(loader(dataset)[0], loader(dataset, 2, METHODS[0])[0])


@pytest.mark.parametrize("method", METHODS)
def test_workers_that_outlive_an_epoch_see_set_epoch_of_the_data_set(method):
    dataset = MadeFrames(transform=TimeMask(3, 1.0))
    workers = dict(num_workers=1, multiprocessing_context=method, persistent_workers=True, timeout=300)
    kept = DataLoader(dataset, 4, collate_fn=collate, **workers)
    first, again = list(kept), list(kept)
    same(first, again)  # nobody said that it is another epoch
    dataset.set_epoch(3)
    later = list(kept)
    assert not all(torch.equal(a.x, b.x) for a, b in zip(first, later, strict=True))
    same(later, DataLoader(dataset, 4, collate_fn=collate))
