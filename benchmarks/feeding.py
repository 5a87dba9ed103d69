"""How long a GPU waits for frames from the disk cache: DataLoader workers, narrow batches, the cast on the device.

    python benchmarks/feeding.py --folder cache
    python benchmarks/feeding.py --folder cache --samples 900 --workers 2 --model-ms 5 --device cpu

A cache of made frames uint8 [16, 2, 128, 128] is written once (9,000 samples, 4.7 GB) and read in random order by
``DataLoader`` with ``collate(narrow=True)``; each batch goes to the device, is cast there, and a step of a given length
follows: matrix products on a GPU, sleep on a CPU. Waiting is the time the loop spends for its next batch, and its share
of an epoch is printed, for the first epoch (workers start) and later ones. Give the length of your model's step.
"""

import argparse
import functools
import time

import numpy as np
import torch
from _timing import machine, titled

from snnkit.data import Dataset, DiskCache, EpochSampler, collate


class Made(Dataset):
    """Frames with 0.4 events a cell, as 200,000 events in 16 frames have them; drawn once, rolled for each sample."""

    def __init__(self, samples: int, steps: int, size: int) -> None:
        super().__init__(np.arange(samples) % 10, [str(c) for c in range(10)])
        self.frames = np.random.default_rng(0).poisson(0.4, (steps, 2, size, size)).astype(np.uint8)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        return np.roll(self.frames, index, axis=-1)

    def content(self) -> str:
        return f"made {len(self)} {self.frames.shape}"


def step_of(milliseconds: float, device: torch.device):
    """Work on the device that takes about so long."""
    if device.type == "cpu":
        return lambda: time.sleep(1e-3 * milliseconds)
    a = torch.randn(4096, 4096, device=device)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    products = max(round(1e-3 * milliseconds / ((time.perf_counter() - begin) / 20)), 1)

    def step() -> None:
        for _ in range(products):
            a @ a

    return step


def epoch(loader: torch.utils.data.DataLoader, device: torch.device, step) -> tuple[float, float]:
    """Seconds of an epoch, and of them those spent waiting for batches."""
    waited, total = 0.0, time.perf_counter()
    batches = iter(loader)
    while True:
        begin = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - begin
        if batch is None:
            break
        batch.x.to(device, non_blocking=True).float().sum()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - total, waited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, help="where the cache lies, or is written")
    parser.add_argument("--samples", type=int, default=9000)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--model-ms", type=float, default=50.0, help="length of a training step")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    begin = time.perf_counter()
    cache = DiskCache(Made(arguments.samples, arguments.steps, arguments.size), arguments.folder)
    print(f"{titled(arguments.device)}, {machine()}")
    print(f"cache of {len(cache)} x {list(cache[0][0].shape)} {cache[0][0].dtype}: {time.perf_counter() - begin:.1f} s")
    sampler = EpochSampler(len(cache), arguments.batch, drop_last=True)
    loader = torch.utils.data.DataLoader(
        cache,
        batch_sampler=sampler,
        collate_fn=functools.partial(collate, narrow=True),
        num_workers=arguments.workers,
        pin_memory=arguments.device.type == "cuda",
        persistent_workers=arguments.workers > 0,
    )
    step = step_of(arguments.model_ms, arguments.device)
    for number in range(arguments.epochs):
        sampler.set_epoch(number)
        seconds, waited = epoch(loader, arguments.device, step)
        print(
            f"epoch {number}: {seconds:.1f} s, {len(sampler) * arguments.batch / seconds:.0f} samples/s, "
            f"waited {waited:.2f} s = {100 * waited / seconds:.1f} %, {arguments.workers} workers"
        )


if __name__ == "__main__":
    main()
