"""Frames on disk: a data set after its fixed transform, written once, read through a memory map.

The folder's name is a hash of the content of the data, of every argument and the source of the transform, and of a
version that is raised where framing comes to compute something else: another binning is another folder, never an old
frame. A cache is written aside, under a lock that dies with its process, and renamed when it is whole: a killed run
leaves nothing that a later one would believe.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import data

from snnkit.data.compose import Transform
from snnkit.data.dataset import Dataset
from snnkit.data.frame_store import FrameStore, write_frames
from snnkit.data.memory import refuse_random
from snnkit.data.user_folder import locked, user_folder

_AT_ONCE = 8  # samples that a worker makes before it hands them over
VERSION = 1  # raise it when the layout of the store, or the result of one of our transforms, changes


class DiskCache(Dataset):
    """A data set's frames from disk, each sample in the smallest dtype that holds it; written now if not there.

    Args:
        dataset: with a fixed transform that makes frames, e.g. ``SpikeHDF5(root, "train", Bin(group=5))``.
        folder: where caches lie. Default: $SNNKIT_CACHE, else the user's cache folder.
        transform: applied at each access; may be random.
        seed: of the random transform.
        workers: processes that make the samples while the cache is written, at most so many; 0: this one. Where
            processes are not forked, a script that asks for some needs ``if __name__ == "__main__":``.

    Several processes may ask for one cache at the same time: one writes it, the others wait.

    Raises:
        TypeError: a part of the data set's transform has no stable identity (a lambda).
        ValueError: its transform is random: one draw would be frozen.
    """

    def __init__(
        self,
        dataset: Dataset,
        folder: str | os.PathLike[str] | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        if workers < 0:
            raise ValueError(f"DiskCache: workers must be >= 0, got {workers}.")
        refuse_random(dataset, "DiskCache")
        super().__init__(dataset.labels, dataset.classes, transform, seed, dataset.speakers)
        self.dataset = dataset
        self.key = hashlib.sha256(f"{VERSION} {dataset.identity()}".encode()).hexdigest()[:32]
        root = Path(folder).expanduser() if folder is not None else user_folder("frames")
        self.path = root / self.key
        if not self.path.exists() or _damage(self.path, len(self)):
            if workers and getattr(multiprocessing.current_process(), "_inheriting", False):
                raise RuntimeError(  # it would wait for its parent, which waits for it
                    "DiskCache(workers=...): this process was started to make samples, and runs the script that asked "
                    'for it. Put the script\'s own lines under `if __name__ == "__main__":`, or give workers=0.'
                )
            try:
                root.mkdir(parents=True, exist_ok=True)
                with locked(root / f"{self.key}.lock"):
                    _write(dataset, self.path, workers)
            except PermissionError as error:
                raise PermissionError(f"{error}. Give DiskCache another folder, or keep the set InMemory.") from error
        self._store = FrameStore(self.path)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """A copy of one sample's frames."""
        return self._store[index]

    def content(self) -> str:
        """The cache's key."""
        return self.key


def _write(dataset: Dataset, path: Path, workers: int) -> None:
    """Write the cache unless another process did while we waited for the lock, which the caller holds."""
    if path.exists():
        damage = _damage(path, len(dataset))
        if damage is None:
            return
        warnings.warn(f"The cache {path} is damaged and written anew: {damage}", stacklevel=4)
        shutil.rmtree(path)
    for left_over in path.parent.glob(f"{path.name}.part-*"):  # of killed runs: the lock says that nobody writes now
        shutil.rmtree(left_over, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{path.name}.part-", dir=path.parent))
    try:
        write_frames(aside, _samples(dataset, workers))
        os.replace(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _samples(dataset: Dataset, workers: int) -> Iterator[Any]:
    """All samples, in their order."""
    own = torch.Generator()  # a loader draws its workers' seeds, from the global one otherwise
    some = min(workers, -(-len(dataset) // _AT_ONCE))
    for batch in data.DataLoader(_Made(dataset), _AT_ONCE, num_workers=some, collate_fn=list, generator=own):
        for sample in batch:
            if isinstance(sample, Exception):
                raise sample
            yield sample


class _Made(data.Dataset[Any]):
    """Samples as a loader's workers make them, or what went wrong there: a loader would change its message."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset.sample(index, 0)
        except Exception as error:
            if data.get_worker_info() is None:
                raise
            try:
                return pickle.loads(pickle.dumps(error))
            except Exception:  # it would be lost, or wait for ever, on its way out of a worker
                return RuntimeError(f"{type(error).__name__}: {error}")


def _damage(path: Path, samples: int) -> str | None:
    """What is wrong with a cache, or None."""
    try:
        store = FrameStore(path)
    except OSError as error:
        return str(error)
    return None if len(store) == samples else f"it holds {len(store)} of {samples} samples."
