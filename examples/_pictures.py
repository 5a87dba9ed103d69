"""Pictures as data sets: scikit-learn's digits, CIFAR-10 and -100 from their files, folders of a class each.

A sample is a clip of one step, ``[1, 3, H, W]``, so that all of snnkit.data takes it. timm makes it, at random in
training, and draws from python's, numpy's and torch's generators: ``Drawn`` sets them from (seed, epoch, sample).
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from snnkit.data import Dataset
from snnkit.data.digits import digit_indices

KEPT = 2**28  # bytes of decoded pictures that stay in memory
BINARY = {
    "cifar10": ("cifar-10-batches-bin", "batches.meta.txt"),
    "cifar100": ("cifar-100-binary", "fine_label_names.txt"),
}
FILES = {
    "cifar10": {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
    "cifar100": {"train": ["train.bin"], "test": ["test.bin"]},
}
PARTS = {"train": ("train",), "valid": ("val", "valid", "validation"), "test": ("test",)}


@contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Within the block the global generators of python, numpy and torch (CPU) are set from ``rng``; then put back."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seeds = rng.integers(0, 2**32, size=3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.default_generator.manual_seed(seeds[2])  # not torch.manual_seed, which seeds a GPU's dropout, too
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@dataclass(frozen=True)
class Drawn:
    """A random transform of timm's or torchvision's as one of ours."""

    transform: Callable[[Image.Image], torch.Tensor]
    draws = True

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """The clip of a picture."""
        with drawing_from(rng):
            return self.transform(picture)[None].numpy()


@dataclass(frozen=True)
class Fixed:
    """A transform without draws as one of ours."""

    transform: Callable[[Image.Image], torch.Tensor]

    def __call__(self, picture: Image.Image) -> np.ndarray:
        """The clip of a picture."""
        return self.transform(picture)[None].numpy()


class ArrayPictures(Dataset):
    """Pictures ``[N, H, W, 3]``, uint8, in memory."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, classes: Sequence[str], transform: Any = None) -> None:
        self.pixels = pixels
        super().__init__(labels, classes, transform)

    def stored(self, index: int, epoch: int = 0) -> Any:
        """One picture."""
        return Image.fromarray(self.pixels[index])

    def content(self) -> str:
        """SHA-256 of the pixels."""
        return hashlib.sha256(self.pixels.tobytes()).hexdigest()


class FolderPictures(Dataset):
    """Pictures in one folder a class; small sets stay in memory once they are decoded."""

    def __init__(self, folder: Path, transform: Any = None) -> None:
        found = datasets.ImageFolder(str(folder), allow_empty=True)
        there = set(found.targets)
        empty = [name for number, name in enumerate(found.classes) if number not in there]
        if empty:
            raise FileNotFoundError(
                f"{folder.absolute()}: no picture in the class {'folder' if len(empty) == 1 else 'folders'} "
                f"{', '.join(empty[:4])}{', ...' if len(empty) > 4 else ''}. Put pictures there, or remove the folder."
            )
        self.paths = [path for path, _ in found.samples]
        super().__init__(np.array(found.targets), found.classes, transform)
        few = len(self.paths) * np.prod(self._read(0).size) * 3 <= KEPT
        self.kept = [self._read(index) for index in range(len(self))] if few else None

    def _read(self, index: int) -> Any:
        try:
            with Image.open(self.paths[index]) as picture:
                if picture.mode.startswith(("I", "F")):  # they would come out white
                    raise ValueError(f"it has pixels of mode {picture.mode}, expected 8 bits a color")
                return picture.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:  # PIL's, for broken files
            raise ValueError(f"{self.paths[index]} is no picture, or a broken one: {problem}") from problem

    def stored(self, index: int, epoch: int = 0) -> Any:
        """One picture."""
        return self.kept[index] if self.kept else self._read(index)

    def content(self) -> str:
        """SHA-256 of the names and the sizes of the files, wherever their folder lies."""
        files = [("/".join(Path(path).parts[-2:]), Path(path).stat().st_size) for path in self.paths]
        return hashlib.sha256(repr(files).encode()).hexdigest()


def digit_pictures(split: str, validation: float, transform: Any) -> Dataset:
    """scikit-learn's digits, 8 x 8, gray as three equal channels; split as ``snnkit.data.Digits``."""
    digits = load_digits()
    chosen = digit_indices(digits.target, split, validation)
    pixels = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    return ArrayPictures(
        np.repeat(pixels[..., None], 3, -1), digits.target[chosen], list(map(str, digits.target_names)), transform
    )


def cifar_pictures(name: str, root: Path, split: str, transform: Any) -> Dataset:
    """CIFAR from its binary files, else from its python files (read by torchvision, which checks their sums)."""
    folder, names = BINARY[name]
    places = [place for place in (root, root / folder) if (place / names).is_file()]
    if places:
        place = places[0]
        classes = (place / names).read_text(encoding="utf-8").split()
        records = np.concatenate([_records(place / file, name, len(classes)) for file in FILES[name][split]])
        labels, pixels = records[:, -3073], records[:, -3072:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return ArrayPictures(np.ascontiguousarray(pixels), labels, classes, transform)
    reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        found = reader(str(root), train=split == "train")
    except RuntimeError as problem:
        raise FileNotFoundError(
            f"{root.absolute()} holds neither {folder}/{names} with its .bin files nor the python files of {name}: "
            f"{str(problem).partition('You can use')[0].strip().rstrip('.')}."
        ) from None
    return ArrayPictures(found.data, np.array(found.targets), found.classes, transform)


def _records(path: Path, name: str, classes: int) -> np.ndarray:
    """Records of a binary file: labels (CIFAR-100: coarse, fine), then 1,024 red, green and blue pixels each."""
    size = 3073 if name == "cifar10" else 3074
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if not len(content) or len(content) % size:
        raise ValueError(f"{path} is truncated or foreign: {len(content)} bytes are no multiple of {size}.")
    records = content.reshape(-1, size)
    labels = records[:, -3073]
    if labels.max() >= classes:
        first = int(np.argmax(labels >= classes))
        raise ValueError(
            f"{path} is damaged or foreign: record {first} has the label {labels[first]}, expected 0 to {classes - 1}, "
            f"the classes in {BINARY[name][1]}. Get it anew."
        )
    return records


def folder_pictures(root: Path, split: str, transform: Any) -> Dataset | None:
    """One part of a folder, ``train/CLASS/...``; None if there is no such part."""
    found = [root / name for name in PARTS[split] if (root / name).is_dir()]
    return FolderPictures(found[0], transform) if found else None
