"""Is a spike file whole, and the one it seems to be? Checked on request: every byte is read.

Opening a file already tells a missing, a truncated and a foreign one apart (``spike_file.py``). What opening cannot
see are bytes that changed inside, and another set under a published name. For SHD and SSC checksums are published of
the archives, not of the .h5 files in them; an archive that lies beside its file is therefore used to check both.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from snnkit.data.spike_file import ARCHIVE_MD5, again, damage_named, open_spike_file

SAMPLES = {  # of the files that can be had today; the article's first version counted other ones for SHD
    "shd_train.h5": 8156,
    "shd_test.h5": 2264,
    "ssc_train.h5": 75_466,
    "ssc_valid.h5": 9_981,
    "ssc_test.h5": 20_382,
}
UNITS = 700
_ROWS = 256  # samples read at once


def verify_spike_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file in SHD's layout as a whole; return its numbers of samples and spikes, and what vouches for it.

    Args:
        path: the .h5 file. If the archive it came in (``NAME.h5.zip``) lies beside it, the archive's MD5 is compared
            with the published one, and the file's size and CRC-32 with what the archive says of it.

    Returns:
        ``{"samples", "spikes", "archive"}``; archive is ``"published"`` (MD5 and contents agree), ``"unknown"`` (the
        file is the archive's, of which no MD5 is known) or ``"absent"``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, damaged, of another layout; times that are not finite or not in order, units outside
            0..699; another number of samples than the published file of this name; or not what the archive holds.
    """
    path = Path(path).expanduser()
    with open_spike_file(path) as file:
        samples, spikes = len(file["labels"]), 0
        expected = SAMPLES.get(path.name, samples)
        if samples != expected:
            raise ValueError(
                f"{path} holds {samples} samples, the published {path.name} {expected}: it is another set. "
                f"For that set: {again(path)} A set of your own may be called {path.name[4:]}."
            )
        for start in range(0, samples, _ROWS):
            with damage_named(path, f"a sample from {start} on"):
                rows = slice(start, start + _ROWS)
                times, units = file["spikes/times"][rows], file["spikes/units"][rows]
            for index, (t, x) in enumerate(zip(times, units, strict=True), start):
                _check_sample(path, index, t, x)
                spikes += len(t)
    return {"samples": samples, "spikes": spikes, "archive": _vouched_for(path)}


def _check_sample(path: Path, index: int, times: np.ndarray, units: np.ndarray) -> None:
    where = f"{path}: sample {index}"
    if len(times) != len(units):
        raise ValueError(f"{where} has {len(times)} times and {len(units)} units. {again(path)}")
    if not np.isfinite(times).all() or (np.diff(times.astype(np.float64)) < 0).any():
        raise ValueError(f"{where} has times that are not finite or not in order. {again(path)}")
    if len(units) and not 0 <= units.min() <= units.max() < UNITS:
        got = f"{units.min()} to {units.max()}"
        raise ValueError(f"{where} has units from {got}, expected 0 to {UNITS - 1}. {again(path)}")


def _vouched_for(path: Path) -> str:
    """Compare a file with the archive beside it."""
    archive = path.with_name(f"{path.name}.zip")
    if not archive.is_file():
        return "absent"
    published = ARCHIVE_MD5.get(archive.name)
    if published is not None:
        digest = hashlib.md5(usedforsecurity=False)  # against accidents, not against people
        for block in _blocks(archive):
            digest.update(block)
        if digest.hexdigest() != published:
            raise ValueError(f"{archive} has the MD5 {digest.hexdigest()}, expected {published}. {again(path)}")
    try:
        with zipfile.ZipFile(archive) as opened:
            entry = next((each for each in opened.infolist() if Path(each.filename).name == path.name), None)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is damaged ({error}). {again(path)}") from error
    if entry is None:
        raise ValueError(f"{archive} does not hold {path.name}: it is not the archive of this file. Move one of them.")
    crc = 0
    for block in _blocks(path):
        crc = zlib.crc32(block, crc)
    if (path.stat().st_size, crc) != (entry.file_size, entry.CRC):
        raise ValueError(f"{path} is not what {archive.name} holds ({entry.file_size} bytes): unpack it again.")
    return "unknown" if published is None else "published"


def _blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            yield block
