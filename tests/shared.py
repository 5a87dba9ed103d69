"""Numbers and data that lie beside the repository: parity fixtures of the papers' official code, small data sets.

They are found through the environment variable SNNKIT_SHARED, by default in ``../shared``. A test that needs a
file that is not there is skipped, with the path in the reason.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_path(relative: str) -> Path:
    """Path of a file or folder of the shared folder; skips the test where it is absent."""
    path = Path(os.environ.get("SNNKIT_SHARED", ROOT.parent / "shared")) / relative
    if not path.exists():
        pytest.skip(f"{path} is not there; set SNNKIT_SHARED to the folder that holds {relative}")
    return path


@functools.cache
def repository_files() -> list[Path]:
    """Files of the repository: what git knows or would take, or all of them where there is no git (an sdist)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        kept = ("snnkit", "cuda", "tests", "examples", "benchmarks", "docs")
        paths = [path for folder in kept for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
        paths += ROOT.glob("*.*")
    return sorted(path for path in paths if path.is_file())


class Fixture:
    """Numbers that a paper's official code gave: ``.config``, ``.info`` (the whole json), ``["state/weight"]``."""

    def __init__(self, path: Path) -> None:
        self.info: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        self.config: dict[str, Any] = self.info.get("config", {})
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name].copy()  # fixtures are shared between tests

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def names(self, prefix: str = "") -> list[str]:
        """Names of the arrays that start with the prefix, e.g. ``"state/"``; the prefix stays on."""
        return [name for name in self.arrays if name.startswith(prefix)]


@functools.lru_cache(maxsize=32)
def _read(path: Path) -> Fixture:
    return Fixture(path)


def fixture(name: str) -> Fixture:
    """Parity fixture by name, e.g. ``fixture("dcls1d_v1")``; skips the test where the shared folder is absent."""
    return _read(shared_path(f"parity/{name}.npz").with_suffix(""))


def needs_compiler(test):
    """Mark a test of compiled kernels: skipped where there is no C++ compiler."""
    from snnkit.ops import cpu

    return pytest.mark.skipif(cpu.refusal() is not None, reason="no C++ compiler here: kernels are not tested")(test)
