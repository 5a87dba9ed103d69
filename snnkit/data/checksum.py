"""Checksum of recordings: SHA-256 over names and bytes, equal for a copy, an archive and the folder unpacked from it.

Reading a set of many gigabytes takes minutes, so the result is remembered in the user's folder under what tells cheaply
that the files are the same: their place, sizes and times of change (CRCs in a .zip). A file that was changed under its
old size and time keeps the old checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from snnkit.data.event_store import Entry, EventStore
from snnkit.data.recording import Recording
from snnkit.data.user_folder import user_folder


def checksum(store: EventStore, recordings: Sequence[Recording]) -> str:
    """SHA-256 of the recordings' names, ranges of time and bytes, 64 hexadecimal digits.

    Raises:
        ValueError, OSError: a recording cannot be read; the file is named.
    """
    stamps = hashlib.sha256()
    for each in recordings:
        entry = each.entry
        stamps.update(f"{each.name} {each.end_us} {entry.file.absolute()} {entry.name} {entry.size} ".encode())
        stamps.update(f"{entry.stamp} {entry.offset}\n".encode())
    remembered = user_folder("checksums") / stamps.hexdigest()
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if len(text := remembered.read_text("ascii")) == 64:
            return text
    result = _of_bytes(store, recordings)
    with contextlib.suppress(OSError):  # no room or no right: it is computed again the next time
        _remember(remembered, result)
    return result


def _of_bytes(store: EventStore, recordings: Sequence[Recording]) -> str:
    digest, hashed = hashlib.sha256(), dict[Entry, bytes]()
    for each in recordings:
        if each.entry not in hashed:  # many clips lie in one file
            hashed[each.entry] = hashlib.sha256(store.mapped(each.entry)).digest()
        digest.update(f"{each.name} {each.end_us}\n".encode() + hashed[each.entry])
    return digest.hexdigest()


def _remember(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    number, aside = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(number, "w", encoding="ascii") as file:
        file.write(text)
    os.replace(aside, path)
