"""Batches for one process or several, and the augmentation that a script's settings ask for."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from _tripled import Tripled
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from snnkit import data
from snnkit.data import Batch, Dataset, EpochSampler, OnDevice, Part, collate
from snnkit.nn.observer import Rates

LARGEST = 2**31  # bytes of a data set that is kept on the device


class Share:
    """One process's part of each batch: the effective batch does not depend on the number of processes."""

    def __init__(self, sampler: EpochSampler, rank: int, world: int) -> None:
        self.sampler, self.rank, self.world = sampler, rank, world

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.sampler:
            # Equal parts, else the mean over processes is not that over samples; up to world - 1 samples are left out.
            whole = batch[: len(batch) // self.world * self.world]
            yield whole[self.rank :: self.world]


def shared_sampler(samples: int, batch: int, seed: int, accelerator: Accelerator) -> EpochSampler:
    """The training batches of all processes; a last one that has no sample for each process is left out.

    Raises:
        ValueError: more processes than samples in a batch.
    """
    world = accelerator.num_processes
    if min(batch, samples) < world:
        raise ValueError(
            f"{world} processes share each batch: --batch {batch} of {samples} samples has none for some of them. "
            "Start fewer processes, or take larger batches."
        )
    return EpochSampler(samples, batch, seed, drop_last=0 < samples % batch < world)


@dataclass
class Gathered:
    """Batches of a data set that lies on the device: no sample is touched, nothing is copied."""

    dataset: OnDevice
    share: Share

    def __len__(self) -> int:
        return len(self.share)

    def __iter__(self) -> Iterator[Batch]:
        return (self.dataset.batch(indices) for indices in self.share)


def on_device(dataset: Dataset, device: torch.device) -> Dataset:
    """The data set on the device if its samples are the same in each epoch and not too large, else as it is."""
    if dataset.draws or not len(dataset):
        return dataset
    some = range(0, len(dataset), max(len(dataset) // 64, 1))
    estimate = len(dataset) / len(some) * sum(dataset[index][0].nbytes for index in some)
    return OnDevice(dataset, device) if estimate <= LARGEST else dataset


def batch_loader(
    dataset: Dataset, sampler: EpochSampler, workers: int, accelerator: Accelerator, narrow: bool = False
) -> Any:
    """A loader of this process's batches; call ``sampler.set_epoch(epoch, start)`` before each epoch.

    ``narrow`` leaves counts in whole numbers, as ``collate`` does, for a cast on the device.
    """
    share = Share(sampler, accelerator.process_index, accelerator.num_processes)
    if isinstance(dataset, OnDevice):
        return Gathered(dataset, share)
    return DataLoader(
        dataset,
        batch_sampler=share,
        collate_fn=partial(collate, narrow=narrow),
        num_workers=workers,
        worker_init_fn=_leave_signals,
        persistent_workers=workers > 0,
        pin_memory=accelerator.device.type == "cuda",
        # Its own generator: without one the loader draws from the global one at the start of each epoch, and a resumed
        # run, which starts once more, would see other dropout masks.
        generator=torch.Generator(),
    )


def evaluation_loader(
    dataset: Dataset, batch: int, workers: int, accelerator: Accelerator
) -> Iterator[tuple[slice, Batch]]:
    """Place and batch of each of this process's turns, in the data set's order; every sample comes once.

    Counts are in whole numbers, for a cast on the device.
    """
    batches = list(EpochSampler(len(dataset), batch, shuffle=False))
    mine = batches[accelerator.process_index :: accelerator.num_processes]
    if isinstance(dataset, OnDevice) or not workers:
        loader: Any = (dataset.batch(indices) for indices in mine)
    else:
        loader = DataLoader(
            dataset,
            batch_sampler=mine,
            collate_fn=partial(collate, narrow=True),
            num_workers=workers,
            worker_init_fn=_leave_signals,
            pin_memory=accelerator.device.type == "cuda",
            generator=torch.Generator(),
        )
    return ((slice(int(i[0]), int(i[-1]) + 1), b) for i, b in zip(mine, loader, strict=True))


def shared_rates(rates: Rates[Tensor], samples: int, batch: int, accelerator: Accelerator) -> dict[str, Tensor]:
    """The rates over the batches of all processes; a data set of fewer batches leaves each process its own."""
    each_had_one = accelerator.num_processes <= -(-samples // batch)
    return rates.over_processes(accelerator.reduce) if each_had_one else dict(rates)


def _leave_signals(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process writes a checkpoint and ends the workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def augmentation(settings: Any) -> data.Compose | None:
    """The random transforms of training samples (frames ``[T, inputs]``) whose amount is not 0, in this order."""
    s = settings
    transforms = [
        data.TimeShift(s.time_shift) if s.time_shift else None,
        data.TimeStretch(1 - s.time_stretch, 1 + s.time_stretch) if s.time_stretch else None,
        data.ChannelShift(s.channel_shift) if s.channel_shift else None,
        data.ChannelJitter(s.channel_jitter) if s.channel_jitter else None,
        data.TimeMask(s.time_mask) if s.time_mask else None,
        data.NeuronMask(s.neuron_mask) if s.neuron_mask else None,
    ]
    chosen = [transform for transform in transforms if transform is not None]
    return data.Compose(chosen) if chosen else None


def training_part(dataset: Dataset, indices: Sequence[int], settings: Any) -> Dataset:
    """The samples to train on, augmented as the settings ask for."""
    part = Part(dataset, indices, augmentation(settings), settings.seed)
    return Tripled(part, settings.triple, settings.seed) if settings.triple else part
