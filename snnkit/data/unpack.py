"""A compressed tar archive, unpacked once: it can only be read from its start to its end.

The samples' files and the lists beside them go to the user's folder, under the archive's name, size and time and what
the files end in, aside and then renamed: a run that was killed leaves nothing that a later one would believe. Nor does
a damaged archive: Python's tarfile takes a damaged header for the end, so the block of zeros that ends a tar is
demanded, and the compressed stream is read to its own end, where its checksum is.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from snnkit.data.user_folder import locked, user_folder


def unpacked(archive: Path, suffixes: tuple[str, ...]) -> Path:
    """The folder with the archive's files of these suffixes.

    Raises:
        ValueError: the archive is cut off or damaged, or names files outside the folder.
        OSError: no room, or no right to write; $SNNKIT_CACHE names another folder.
    """
    stat = archive.stat()
    kinds = zlib.crc32(" ".join(suffixes).encode())  # one archive may be read for its pictures, then for its events
    folder = user_folder("unpacked") / f"{archive.name}-{stat.st_size}-{stat.st_mtime_ns}-{kinds:08x}-whole"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f"{folder.name}.lock"):
        if not folder.is_dir():
            for left_over in folder.parent.glob(f"{folder.name}.part-*"):  # nobody writes now: we hold the lock
                shutil.rmtree(left_over, ignore_errors=True)
            aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
            try:
                _extract(archive, aside, suffixes)
                os.replace(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return folder


def _extract(archive: Path, folder: Path, suffixes: tuple[str, ...]) -> None:
    try:
        with tarfile.open(archive, "r:*", tarinfo=Member) as opened:
            for member in opened:
                path = PurePosixPath(member.name)
                if not member.isfile() or path.suffix.lower() not in suffixes:
                    continue
                if path.is_absolute() or ".." in path.parts:
                    raise ValueError(f"{archive} names a file outside its folder: {member.name}. It is not unpacked.")
                source = opened.extractfile(member)
                target = folder.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                if source is not None:
                    with source, open(target, "wb") as file:
                        shutil.copyfileobj(source, file)
            while opened.fileobj is not None and opened.fileobj.read(1 << 20):
                pass  # to the checksum
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # no room, no right; damage is an OSError without it
            raise
        told = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
        raise ValueError(f"{archive} is cut off or damaged ({told}): a broken download.") from error


class Member(tarfile.TarInfo):
    """``tarfile.open(archive, tarinfo=Member)``: only a block of zeros is the end, all else that is no header an error.

    Python's own would end the list there without a word.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        """The member of a header block.

        Raises:
            tarfile.ReadError: a damaged header, or none: a tar that was cut off between two members.
        """
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"neither a member nor the end of the archive: {error}") from error
