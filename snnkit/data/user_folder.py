"""The user's folder for what can be made again (cached frames, unpacked archives), and a lock between processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def user_folder(kind: str) -> Path:
    """$SNNKIT_CACHE/kind, else the same in the user's cache folder."""
    named = os.environ.get("SNNKIT_CACHE")
    if not named:
        import platformdirs

        named = platformdirs.user_cache_dir("snnkit")
    return Path(named) / kind


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on a file; the system takes it back when the process dies."""
    with open(path, "a") as file:
        try:
            import fcntl
        except ImportError:  # Windows: two processes may both write, each aside; the rename decides
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
