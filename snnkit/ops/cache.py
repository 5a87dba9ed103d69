"""Compiled kernels, kept on disk between runs, whatever compiled them.

A kept file is ``CACHE/KIND/KEY/DIGEST.SUFFIX``: KEY is the hash of all that decides what the compiler makes, DIGEST
that of the file itself, so that a damaged file is seen before it is loaded. Beside it lies the text, to be read. Files
are written aside and renamed, under a lock that the system drops when its process dies.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


def kept(
    kind: str, parts: Sequence[str], suffix: str, text: tuple[str, str], build: Callable[[Path, Path], None]
) -> Path:
    """The compiled file of a text, from the cache or built now.

    Args:
        kind: folder of the cache, one for each compiler: ``cpu``, ``cuda``.
        parts: all that decides what is made: the text, flags, versions.
        suffix: of the file, as in ``.so``.
        text: name of the text's file and its content.
        build: compile the text at the first path to the second; what it raises is passed on, and nothing is kept.
    """
    place = folder(kind) / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    path = _intact(place, suffix)
    if path is None:
        place.mkdir(parents=True, exist_ok=True)
        with _locked(place / "lock"):
            path = _intact(place, suffix) or _built(place, suffix, text, build)  # another process may have built it
    return path


def root() -> Path:
    """Where the cache should lie: $SNNKIT_CACHE or the user's cache folder."""
    named = os.environ.get("SNNKIT_CACHE")
    if named is None:
        import platformdirs

        named = platformdirs.user_cache_dir("snnkit")
    return Path(named)


@functools.cache
def folder(kind: str) -> Path:
    """Folder under ``root()``; if it cannot be written, a temporary one for this process."""
    place = root() / kind
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return place.resolve()
    except OSError:
        place = Path(tempfile.mkdtemp(prefix="snnkit-"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        return place


def digest(path: Path) -> str:
    """The name that an intact file has."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _intact(place: Path, suffix: str) -> Path | None:
    """Return the file in the folder, if its content is what its name promises: loading half a file may crash."""
    return next((path for path in place.glob(f"*{suffix}") if digest(path) == path.stem), None)


def _built(place: Path, suffix: str, text: tuple[str, str], build: Callable[[Path, Path], None]) -> Path:
    """Compile aside and rename. The caller holds the lock, so what lies here is of a build that was killed."""
    for old in place.glob(f"*{suffix}"):
        old.unlink()
    for left in place.glob("build-*"):
        shutil.rmtree(left, ignore_errors=True)
    code = place / text[0]
    code.write_text(text[1], encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="build-", dir=place) as aside:
        made = Path(aside, f"made{suffix}")
        build(code, made)
        path = place / f"{digest(made)}{suffix}"
        made.replace(path)
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system drops when its process dies, however it dies."""
    import fcntl  # POSIX only, as is everything that finds a compiler here

    with open(path, "w") as file:
        with suppress(OSError):  # a file system without locks: two builds at worst, each is renamed whole
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
