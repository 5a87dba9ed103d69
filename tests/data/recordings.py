"""Small made recordings for the tests of this folder, in memory and in SHD's HDF5 layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snnkit.data import Dataset, spike_events

CHANNELS = 14


def made_events(samples: int, seed: int = 0, channels: int = CHANNELS) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    events = []
    for _ in range(samples):
        count = int(rng.integers(5, 60))
        times = np.sort(rng.uniform(0.01, 0.5, count)).astype(np.float16)
        events.append(spike_events(times, rng.integers(0, channels, count).astype(np.uint16)))
    return events


def write_file(path: Path, samples: int = 7, seed: int = 0, *, keys: bool = True) -> Path:
    import h5py

    events, rng = made_events(samples, seed), np.random.default_rng(seed + 1)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (samples,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (samples,), h5py.vlen_dtype(np.uint16))
        for i, event in enumerate(events):
            times[i], units[i] = event["t"].astype(np.float16), event["x"]
        file["labels"] = rng.integers(0, 3, samples).astype(np.uint16)
        file["extra/speaker"] = rng.integers(0, 4, samples).astype(np.uint16)
        if keys:
            file["extra/keys"] = np.array([b"one", b"two", b"drei"])
    return path


class MadeFrames(Dataset):
    """Frames [T_i, 5] of counts up to ``largest``, without any file."""

    def __init__(self, samples: int = 6, largest: int = 3, seed: int = 0, transform=None) -> None:
        rng = np.random.default_rng(seed)
        self.frames = [rng.integers(0, largest, (t, 5), endpoint=True) for t in rng.integers(3, 9, samples)]
        super().__init__(rng.integers(0, 3, samples), ["a", "b", "c"], transform, speakers=np.arange(samples) % 2)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        return self.frames[index].copy()

    def content(self) -> str:
        return "|".join(str(frames.tolist()) for frames in self.frames)
