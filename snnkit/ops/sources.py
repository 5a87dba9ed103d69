"""Where the kernel texts lie: ``cuda/`` at the top of the repository, packaged as ``snnkit._sources``.

A wheel, an sdist and a strict editable install have the package; a checkout and an ordinary editable install have
the folder. One function hides the difference.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING

from snnkit._suggest import nearest

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def _folder() -> Traversable | Path:
    try:
        return importlib.resources.files("snnkit._sources")
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[2] / "cuda"


def names() -> list[str]:
    """Names of all kernel sources, sorted."""
    return sorted(file.name for file in _folder().iterdir() if file.name.endswith((".cu", ".cuh", ".cpp", ".h")))


def source(name: str) -> str:
    """Text of a kernel source, e.g. ``source("scan_host.cpp")``.

    Raises:
        FileNotFoundError: there is no such source; the message names the nearest one and the folder.
    """
    if name not in names():
        raise FileNotFoundError(f"No kernel source {name!r} in {_folder()}.{nearest(name, names())}")
    return _folder().joinpath(name).read_text(encoding="utf-8")
