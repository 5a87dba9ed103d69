"""A small MNIST in its idx files."""

import gzip

import numpy as np


def write_mnist(folder, packed=False):
    """Random pictures: 60 to train, 20 to test; returns ``{name: (images, labels)}``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, made = np.random.default_rng(0), {}
    for name, count in (("train", 60), ("t10k", 20)):
        made[name] = rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        for kind, array in zip(("images-idx3", "labels-idx1"), made[name], strict=True):
            raw = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
            path = folder / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(raw) if packed else raw)
    return made
