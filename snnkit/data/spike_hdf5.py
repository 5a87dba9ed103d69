"""Reader for SHD, SSC and any set in their HDF5 layout (Cramer et al. 2020), from the .h5 files alone.

A sample is an event array with ``t`` (float64 seconds, exactly the file's float16) and ``x`` (channel). Times run
from the recording's start; ``Bin`` moves the first spike to zero. Order, labels and speakers are the file's.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from snnkit.data.compose import Transform
from snnkit.data.dataset import Dataset
from snnkit.data.event import spike_events
from snnkit.data.spike_file import damage_named, find_spike_file, open_spike_file
from snnkit.data.verify import verify_spike_file

MOST_CLASSES = 100_000


class SpikeHDF5(Dataset):
    """One split of a spike data set: ``dataset[i] -> (events or transform(events), label)``.

    Args:
        path: a .h5 file, or a folder with ``shd_train.h5`` (``ssc_``, or no prefix) and the other splits.
        split: "train", "valid" or "test"; may be left out for a file.
        transform: e.g. ``Bin(group=5)``, or ``Compose(ChannelJitter(), Bin(group=5))``.
        seed: of the random transforms.

    Classes come from ``extra/keys`` (else one a label up to the largest), speakers from ``extra/speaker``.

    HDF5 handles survive neither a fork nor pickling. Each process opens its own at its first sample, so DataLoader
    workers of any start method work.

    Raises:
        FileNotFoundError: no such file or folder; it names what was looked for.
        ValueError: a truncated or foreign file, labels or times that do not fit.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str | None = None,
        transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        self.path = find_spike_file(path, split)
        self._handles: dict[int, Any] = {}  # by process; the parent's stays untouched in a forked child
        with open_spike_file(self.path) as file, damage_named(self.path):
            labels = file["labels"][:]
            speakers = file["extra/speaker"][:].astype(np.int64) if "extra/speaker" in file else None
            keys = [_text(key) for key in file["extra/keys"][:]] if "extra/keys" in file else None
        largest = int(labels.max()) if len(labels) else -1
        if len(labels) and labels.min() < 0:
            raise ValueError(f"{self.path}: labels must be integers from 0, got {labels.min()}.")
        if keys is None and largest >= MOST_CLASSES:
            raise ValueError(
                f"{self.path}: label {largest} would make as many classes, expected fewer than {MOST_CLASSES:,}. Is it "
                "a -1, stored unsigned?"
            )
        if keys is not None and largest >= len(keys):
            raise ValueError(f"{self.path}: label {largest} has no name, extra/keys holds {len(keys)}.")
        super().__init__(labels, keys or [str(label) for label in range(largest + 1)], transform, seed, speakers)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """Events of one recording."""
        file = self._file()
        with damage_named(self.path, f"sample {index}"):
            times, units = file["spikes/times"][index], file["spikes/units"][index]
        if len(times) != len(units):
            raise ValueError(f"{self.path}: sample {index} has {len(times)} times and {len(units)} units.")
        return spike_events(times, units)

    def content(self) -> str:
        """SHA-256 of the file."""
        now = self.path.stat()
        return _digest(self.path.absolute(), now.st_size, now.st_mtime_ns)

    def verify(self) -> dict[str, Any]:
        """Read the whole file and compare it with what is known of it, see :func:`snnkit.data.verify_spike_file`."""
        return verify_spike_file(self.path)

    def close(self) -> None:
        """Close this process's handle; the next sample opens it again."""
        handle = self._handles.pop(os.getpid(), None)
        if handle is not None:
            handle.close()

    def _file(self) -> Any:
        process = os.getpid()
        if process not in self._handles:
            self._handles[process] = open_spike_file(self.path)
        return self._handles[process]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}

    def __repr__(self) -> str:
        return f"SpikeHDF5({self.path}: {len(self)} samples, {len(self.classes)} classes)"


@functools.lru_cache(maxsize=16)  # caches and records ask several times, and SSC has gigabytes
def _digest(path: Path, size: int, changed_ns: int) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)
