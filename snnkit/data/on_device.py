"""A whole data set as one tensor on a device: a batch is one gather, without work for each sample, file or copy.

The steps of all samples are the rows of one table ``[1 + sum_i T_i, C, ...]``, row 0 is silent. With f_i the first row
of sample i, a batch of the samples i_1 .. i_B is ``x[t, b] = table[f_{i_b} + t if t < T_{i_b} else 0]``: the numbers
that ``collate`` gives.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import torch

from snnkit.data.collate import Batch
from snnkit.data.dataset import Dataset
from snnkit.data.frame import checked_frames, narrowest
from snnkit.data.memory import refuse_random


class OnDevice(Dataset):
    """Frames of a data set, read once, kept on a device; uint8 if all counts fit.

    Args:
        dataset: with frames ``[T_i, C, ...]`` that are the same in each epoch.
        device: where the frames, and the batches made from them, lie.

    ``batch(indices)`` equals ``collate([dataset[i] for i in indices])``, on the device, without waiting for it.

    Raises:
        ValueError: the data set's transform is random, or frames differ in more than T.
        TypeError: samples are no frames.

    >>> from snnkit.data.digits import Digits
    >>> OnDevice(Digits("test", steps=5)).batch([3, 1]).x.shape
    torch.Size([5, 2, 64])
    """

    def __init__(self, dataset: Dataset, device: torch.device | str = "cpu") -> None:
        refuse_random(dataset, "OnDevice")
        super().__init__(dataset.labels, dataset.classes, speakers=dataset.speakers)
        self.device, self.dataset = torch.device(device), dataset
        samples = [narrowest(checked_frames(dataset.sample(index, 0), "OnDevice")) for index in range(len(dataset))]
        shapes = {sample.shape[1:] for sample in samples}
        if len(shapes) > 1:
            raise ValueError(f"Samples may differ in T only, got steps of the shapes {', '.join(map(str, shapes))}.")
        small = all(sample.dtype in (np.uint8, np.bool_) for sample in samples)
        silent = np.zeros((1, *(shapes.pop() if shapes else (0,))), np.uint8)
        table = np.concatenate([silent, *samples]).astype(np.uint8 if small else np.float32, copy=False)
        self._steps = np.array([len(sample) for sample in samples], np.int64)
        first = 1 + np.cumsum(self._steps) - self._steps
        self._table = torch.from_numpy(table).to(self.device)
        # In one tensor: a batch needs one copy to the device, of its indices, and one look-up.
        self._of_sample = torch.from_numpy(np.stack([first, self._steps, self.labels])).to(self.device)

    @property
    def nbytes(self) -> int:
        """Bytes that the frames take."""
        return self._table.nbytes

    def batch(self, indices: Sequence[int]) -> Batch:
        """The batch ``[T, B, C, ...]`` of these samples."""
        chosen = np.array([operator.index(index) for index in indices], np.int64)
        outside = chosen[(chosen < 0) | (chosen >= len(self))]
        if not len(chosen) or len(outside):
            got = f"index {outside[0]}" if len(outside) else "no indices"
            raise IndexError(f"{self} makes batches of samples 0 to {len(self) - 1}, got {got}.")
        here = torch.from_numpy(chosen).to(self.device, non_blocking=True)
        first, lengths, labels = self._of_sample[:, here].unbind()
        t = torch.arange(int(self._steps[chosen].max()), device=self.device)[:, None]
        rows = torch.where(t < lengths, first + t, 0)
        x = self._table.index_select(0, rows.flatten()).float()
        return Batch(x.unflatten(0, rows.shape), labels, lengths)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """A copy of one sample's frames."""
        first, steps, _ = self._of_sample[:, index].tolist()
        return self._table[first : first + steps].cpu().numpy().copy()

    def content(self) -> str:
        """The identity of the data set that was read."""
        return self.dataset.identity()
