"""The files of an event set wherever they lie: loose in a folder, in .zip or .tar archives read in place, or .tar.gz.

An entry is one file with its path, whose last parts are what the set says of it (``Train/5/00001.bin``,
``airplane/cifar10_airplane_0.aedat``). Where an archive lies beside the folder that it was unpacked to, the loose files
are taken; if some of them are missing, the unpacking was cut off, and that is an error.
"""

from __future__ import annotations

import lzma
import mmap
import os
import re
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from snnkit.data.event_file import SUFFIXES
from snnkit.data.unpack import Member, unpacked

LISTS = (".csv", ".txt")  # DVS128 Gesture's labels and split
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
NO_CLASSES = ("frames_", "duration_", ".")  # SpikingJelly's folders of frames; hidden ones


@dataclass(frozen=True)
class Entry:
    """One file: its path in the set, size in bytes, and what tells its content (CRC, or time of the last change)."""

    name: str
    size: int
    stamp: str
    file: Path  # itself, or its archive
    offset: int = -1  # where it begins in a .tar

    @property
    def path(self) -> PurePosixPath:
        """The path in the set."""
        return PurePosixPath(self.name)

    @property
    def shown(self) -> str:
        """What to call it in a message."""
        return str(self.file) if self.stamp.startswith("changed") and self.offset < 0 else f"{self.file}, {self.name}"


class EventStore:
    """``store.entries``, ``store.read(entry)``. Handles are opened in each process and not pickled.

    Args:
        root: folder or archive.
        suffixes: what the samples' files end in, in small letters; lists (.csv, .txt) are entries, too.

    Raises:
        FileNotFoundError: no such folder or archive.
        ValueError: a damaged archive, an archive of archives, or a folder that was unpacked in part.
    """

    def __init__(self, root: Path, suffixes: tuple[str, ...] = SUFFIXES) -> None:
        self.suffixes = suffixes
        self._handles: dict[tuple[int, Path], Any] = {}
        archives: list[Path] = []
        self.entries: list[Entry] = []
        if root.is_dir():
            for folder, folders, names in os.walk(root):
                folders[:] = [name for name in folders if not name.startswith(NO_CLASSES)]
                for name in names:
                    path = Path(folder, name)
                    if path.suffix.lower() in suffixes + LISTS and not name.startswith("."):
                        stat = path.stat()
                        inside = path.relative_to(root).as_posix()
                        self.entries.append(Entry(inside, stat.st_size, f"changed {stat.st_mtime_ns}", path))
                    elif name.lower().endswith((".zip", *_TARS)):
                        archives.append(path)
        elif root.is_file():
            archives.append(root)
        else:
            raise FileNotFoundError(f"No folder or archive {root.absolute()}.")
        loose = {_key(entry) for entry in self.entries if entry.path.suffix.lower() in suffixes}
        for archive in sorted(archives):
            self.entries += self._of_archive(archive, loose)

    def read(self, entry: Entry) -> bytes:
        """All bytes of a file.

        Raises:
            ValueError: it is damaged in its archive.
            OSError: it cannot be read.
        """
        if entry.file.suffix.lower() != ".zip":
            with open(entry.file, "rb") as file:
                file.seek(max(entry.offset, 0))
                return file.read(entry.size)
        try:
            return bytes(self._zip(entry.file).read(entry.name))
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{entry.shown} is damaged in the archive ({error}): a broken download.") from error

    def mapped(self, entry: Entry) -> Any:
        """The bytes of a file as a memory map where that is possible: for long recordings of which a part is read."""
        if entry.offset >= 0 or entry.file.suffix.lower() == ".zip" or not entry.size:
            return self.read(entry)
        with open(entry.file, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _zip(self, path: Path) -> zipfile.ZipFile:
        key = (os.getpid(), path)
        if key not in self._handles:
            self._handles[key] = zipfile.ZipFile(path)
        handle: zipfile.ZipFile = self._handles[key]
        return handle

    def _of_archive(self, archive: Path, loose: set[tuple[str, str]]) -> list[Entry]:
        if archive.suffix.lower() == ".zip":
            found = _of_zip(archive, self.suffixes)
        elif archive.suffix.lower() == ".tar":
            found = _of_tar(archive, self.suffixes)
        elif loose:
            self._tell_of(archive)  # a look into it would cost reading all of it
            return []
        else:
            return EventStore(unpacked(archive, self.suffixes + LISTS), self.suffixes).entries
        names = {_key(entry) for entry in found if entry.path.suffix.lower() in self.suffixes}
        both = names & loose
        if both and both != names:
            raise ValueError(
                f"{len(both)} of the {len(names)} recordings of {archive} lie unpacked beside it: the unpacking was "
                "cut off. Delete the unpacked folder, the archive is read as it is."
            )
        return [] if both else found

    def _tell_of(self, archive: Path) -> None:
        """Warn of an archive beside folders of classes that lies there unpacked under no name: it may be one more."""
        classes = {entry.file.parent for entry in self.entries if entry.path.suffix.lower() in self.suffixes}
        unpacked_as = {part.lower() for folder in classes for part in folder.parts}
        stem = re.sub(r"\.(tar\.\w+|tgz)$", "", archive.name.lower())
        if archive.parent in {folder.parent for folder in classes} and stem not in unpacked_as:
            text = f"{archive} is left out: recordings lie unpacked beside it. If it holds others, unpack it, too."
            warnings.warn(text, stacklevel=4)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}


def _of_zip(archive: Path, suffixes: tuple[str, ...]) -> list[Entry]:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [each for each in opened.infolist() if not each.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{archive} is no whole zip archive ({error}): a broken download.") from error
    _refuse_archives(archive, (each.filename for each in members))
    return [
        Entry(each.filename, each.file_size, f"crc {each.CRC:08x}", archive)
        for each in members
        if _kept(each.filename, suffixes)
    ]


def _of_tar(archive: Path, suffixes: tuple[str, ...]) -> list[Entry]:
    try:
        with tarfile.open(archive, "r:", tarinfo=Member) as opened:
            members = [each for each in opened if each.isfile()]
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive} is no whole tar archive ({error}): a broken download.") from error
    _refuse_archives(archive, (each.name for each in members))
    end = archive.stat().st_size
    kept = [each for each in members if _kept(each.name, suffixes)]
    for each in kept:
        if each.offset_data + each.size > end:
            raise ValueError(f"{archive} is cut off within {each.name}: a broken download.")
    changed = archive.stat().st_mtime_ns
    return [Entry(each.name, each.size, f"changed {changed}", archive, each.offset_data) for each in kept]


def _kept(name: str, suffixes: tuple[str, ...]) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in suffixes + LISTS and not hidden


def _refuse_archives(archive: Path, names: Iterable[str]) -> None:
    inner = [name for name in names if name.lower().endswith((".zip", *_TARS))]
    if inner:
        raise ValueError(
            f"{archive} holds archives ({', '.join(inner[:3])}{', ...' if len(inner) > 3 else ''}), which cannot be "
            f"read in place: unpack it into {archive.parent.absolute()} and move it away."
        )


def _key(entry: Entry) -> tuple[str, str]:
    """Class folder and file name: the same recording loose and in an archive."""
    folder = entry.path.parent.name
    if not folder:  # an archive without a folder inside is called as its class
        folder = entry.file.stem if entry.file.suffix.lower() in (".zip", ".tar") else ""
    return folder, entry.path.name
