"""Frames of many samples in one file, read through a memory map.

A folder holds ``frames.bin``, the samples' bytes one after the other, and ``index.npz``: offset, number of steps and
dtype of each sample, and the shape of a step. The dtype is the smallest of uint8, uint16, int32 that holds the sample's
own largest count, not the whole set's: one recording with 40,000 events in a pixel makes itself uint16 and leaves the
others uint8. A batch of both is int32, see ``collate.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from snnkit.data.frame import checked_frames, narrowest


def write_frames(folder: Path, samples: Iterable[Any]) -> None:
    """Write samples ``[T_i, ...]`` (equal but for T) to a folder that exists and is empty."""
    steps: list[int] = []
    offsets: list[int] = [0]
    dtypes: list[str] = []
    step_shape: tuple[int, ...] | None = None
    with open(folder / "frames.bin", "wb") as file:
        for number, sample in enumerate(samples):
            frames = np.ascontiguousarray(narrowest(checked_frames(sample, "A cache")))
            if step_shape is None:
                step_shape = frames.shape[1:]
            if frames.shape[1:] != step_shape:
                raise ValueError(
                    f"Samples may differ in T only: sample {number} is {frames.shape}, sample 0 [T, *{step_shape}]."
                )
            file.write(frames.tobytes())
            steps.append(len(frames))
            offsets.append(offsets[-1] + frames.nbytes)
            dtypes.append(frames.dtype.str)
    names, codes = np.unique(np.array(dtypes, dtype="U8"), return_inverse=True)
    np.savez(
        folder / "index.npz",
        offsets=np.array(offsets, np.int64),
        steps=np.array(steps, np.int64),
        dtypes=names,
        codes=codes.astype(np.uint8),
        step_shape=np.array(step_shape or (), np.int64),
    )


class FrameStore:
    """Samples that ``write_frames`` wrote: ``store[i]`` is a copy of one, ``len(store)`` their number.

    The memory map is opened at the first access in each process and not pickled.

    Raises:
        OSError: a file is missing or its size is not what the index says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            with np.load(folder / "index.npz", allow_pickle=False) as index:
                self._offsets, self._steps = index["offsets"], index["steps"]
                self._dtypes = [np.dtype(str(name)) for name in index["dtypes"][index["codes"]]]
                self._step_shape = tuple(index["step_shape"].tolist())
        except (ValueError, KeyError, EOFError, OSError) as error:
            raise OSError(f"{folder} holds no readable index ({error}).") from error
        except Exception as error:  # zipfile.BadZipFile and zlib.error are no OSErrors
            raise OSError(f"{folder} holds a damaged index ({error}).") from error
        size = (folder / "frames.bin").stat().st_size
        if size != self._offsets[-1]:
            raise OSError(f"{folder / 'frames.bin'} has {size} bytes, its index says {self._offsets[-1]}.")
        self._bytes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> np.ndarray:
        if self._bytes is None:
            path = self.folder / "frames.bin"
            self._bytes = np.memmap(path, np.uint8, "r") if self._offsets[-1] else np.zeros(0, np.uint8)
        raw = self._bytes[self._offsets[index] : self._offsets[index + 1]]
        shape = (int(self._steps[index]), *self._step_shape)
        return np.array(raw).view(self._dtypes[index]).reshape(shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bytes": None}
