"""Where samples come from, as plain values that a script writes into its result: made again, they must be the same."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from typing import Any

import numpy as np

from snnkit import __version__
from snnkit.data.dataset import Dataset

_PACKAGES = ("numpy", "torch", "tonic", "aedat", "h5py")


def provenance(dataset: Dataset) -> dict[str, Any]:
    """Reader, split, counts, parameters, checksums and versions of a data set, whatever is wrapped around its reader.

    Returns:
        A dict of texts, numbers, lists and dicts, which JSON takes: ``reader`` and what it says of itself (for event
        sets ``rule``, ``counts``, ``expected``, ``skipped``, ``sha256`` of the recordings' bytes, ...), ``samples`` and
        ``per_class`` of the set given, ``transforms`` from the reader outwards with all arguments, ``content`` (what
        tells the stored samples apart cheaply, for the key of a cache: names, sizes, times of change), ``identity``
        (SHA-256 of content and transforms; None if a transform, such as a lambda, has none) and ``versions``.

    >>> from snnkit.data.digits import Digits
    >>> record = provenance(Digits("test"))
    >>> record["reader"], record["samples"]
    ('Digits', 360)
    """
    levels = [dataset]
    while isinstance(inner := getattr(levels[-1], "dataset", None), Dataset):
        levels.append(inner)
    reader = levels[-1]
    try:
        identity = hashlib.sha256(dataset.identity().encode()).hexdigest()
    except TypeError:
        identity = None
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
    return {
        **reader.record(),
        "samples": len(dataset),
        "per_class": dict(zip(dataset.classes, counts, strict=True)),
        "transforms": [repr(level.transform) for level in reversed(levels) if level.transform is not None],
        "levels": [type(level).__name__ for level in reversed(levels)],
        "content": reader.content(),
        "identity": identity,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    versions = {"snnkit": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
