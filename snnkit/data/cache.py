"""Frames on disk: a data set after its fixed transform, written once, read through a memory map.

The folder's name is a hash of the content of the data, of every argument and the source of the transform, and of
the versions: another binning is another folder, never an old frame. A cache is written aside, under a lock that dies
with its process, and renamed when it is whole: a killed run leaves nothing that a later one would believe.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

from snnkit.data.compose import Transform
from snnkit.data.dataset import Dataset
from snnkit.data.frame_store import FrameStore, write_frames
from snnkit.data.memory import refuse_random
from snnkit.data.user_folder import locked, user_folder

VERSION = 1  # raise it when the layout of the store, or the result of one of our transforms, changes


class DiskCache(Dataset):
    """A data set's frames from disk, each sample in the smallest dtype that holds it; written now if not there.

    Args:
        dataset: with a fixed transform that makes frames, e.g. ``SpikeHDF5(root, "train", Bin(group=5))``.
        folder: where caches lie. Default: $SNNKIT_CACHE, else the user's cache folder.
        transform: applied at each access; may be random.
        seed: of the random transform.

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
    ) -> None:
        refuse_random(dataset, "DiskCache")
        super().__init__(dataset.labels, dataset.classes, transform, seed, dataset.speakers)
        self.dataset = dataset
        self.key = hashlib.sha256(f"{VERSION} {dataset.identity()}".encode()).hexdigest()[:32]
        root = Path(folder).expanduser() if folder is not None else user_folder("frames")
        self.path = root / self.key
        if not self.path.exists() or _damage(self.path, len(self)):
            try:
                root.mkdir(parents=True, exist_ok=True)
                with locked(root / f"{self.key}.lock"):
                    _write(dataset, self.path)
            except PermissionError as error:
                raise PermissionError(f"{error}. Give DiskCache another folder, or keep the set InMemory.") from error
        self._store = FrameStore(self.path)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """A copy of one sample's frames."""
        return self._store[index]

    def content(self) -> str:
        """The cache's key."""
        return self.key


def _write(dataset: Dataset, path: Path) -> None:
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
        write_frames(aside, (dataset.sample(index, 0) for index in range(len(dataset))))
        os.replace(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _damage(path: Path, samples: int) -> str | None:
    """What is wrong with a cache, or None."""
    try:
        store = FrameStore(path)
    except OSError as error:
        return str(error)
    return None if len(store) == samples else f"it holds {len(store)} of {samples} samples."
