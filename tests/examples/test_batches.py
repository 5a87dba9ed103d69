"""Batches come the same from the device as sample by sample, and what cannot lie on a device does not."""

from types import SimpleNamespace

import pytest
import torch
from _batches import Gathered, Share, batch_loader, on_device, shared_sampler
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import Digits, EpochSampler, OnDevice, Part, TimeMask

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def some():
    return Part(Digits("valid", steps=5), range(3, 80))


@pytest.mark.parametrize(("epoch", "start"), [(0, 0), (2, 0), (2, 3)])
def test_a_loader_gives_the_same_batches_from_the_device_as_sample_by_sample(some, epoch, start):
    accelerator, sampler = Accelerator(cpu=True), EpochSampler(len(some), 16, seed=1)
    loaders = [batch_loader(each, sampler, 0, accelerator) for each in (on_device(some, CPU), some)]
    assert [isinstance(loader, Gathered) for loader in loaders] == [True, False]
    sampler.set_epoch(epoch, start)
    batches = [list(loader) for loader in loaders]
    assert len(batches[0]) == len(batches[1]) == len(loaders[0]) == 5 - start
    for one, other in zip(*batches, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_is_random_large_or_empty_stays_where_it_is(some, monkeypatch):
    assert isinstance(on_device(some, CPU), OnDevice)
    for part in (Part(some, [0, 1], TimeMask()), Part(some, [])):
        assert on_device(part, CPU) is part
    bytes_of_frames = len(some) * 5 * 64
    monkeypatch.setattr("_batches.LARGEST", bytes_of_frames)
    assert isinstance(on_device(some, CPU), OnDevice)
    monkeypatch.setattr("_batches.LARGEST", bytes_of_frames - 1)
    assert on_device(some, CPU) is some


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 8))
def test_each_process_has_a_sample_of_each_batch(samples, batch, world):
    many = SimpleNamespace(num_processes=world)
    if min(samples, batch) < world:
        with pytest.raises(ValueError, match=f"{world} processes share each batch: --batch {batch} of {samples} sampl"):
            shared_sampler(samples, batch, 0, many)
        return
    shares = [list(Share(shared_sampler(samples, batch, 0, many), rank, world)) for rank in range(world)]
    assert all(len({len(part) for part in parts}) == 1 and parts[0] for parts in zip(*shares, strict=True))
    seen = [index for share in shares for part in share for index in part]
    assert len(seen) == len(set(seen)) >= samples - (world - 1) * -(-samples // batch)  # of each batch so many at most
