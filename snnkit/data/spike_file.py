"""Files in the layout of SHD and SSC: where they are looked for, and what is wrong with one.

A missing file, a truncated one, one that is no HDF5 and one with another layout are four messages, each with the
file's path. Files are opened as they are: the archives they came in are not needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "valid", "test")
NEEDED = ("spikes/times", "spikes/units", "labels")
_SETS = ("shd_", "ssc_", "")
_SOURCE = "https://zenkelab.org/datasets/"
ARCHIVE_MD5 = {  # of the archives as tonic 1.7 and SpikingJelly 2.0 check them; none are published for the .h5 files
    "shd_train.h5.zip": "f3252aeb598ac776c1b526422d90eecb",
    "shd_test.h5.zip": "1503a5064faa34311c398fb0a1ed0a6f",
    "ssc_train.h5.zip": "d102be95e7144fcc0553d1f45ba94170",
    "ssc_valid.h5.zip": "b4eee3516a4a90dd0c71a6ac23a8ae43",
    "ssc_test.h5.zip": "a35ff1e9cffdd02a20eb850c17c37748",
}
_FOLDERS = ("", "SHD", "SSC", "events_h5")  # as given, then where tonic and SpikingJelly put the files


def find_spike_file(path: str | os.PathLike[str], split: str | None) -> Path:
    """The .h5 file: ``path`` itself if it is a file, else ``{shd_,ssc_,}<split>.h5`` in the folder.

    Raises:
        ValueError: the split is not one of the allowed words, or contradicts the file's name, or two files fit.
        FileNotFoundError: no such file; says which names were looked for, where, and what is there.
    """
    path = Path(path).expanduser()
    if split is not None and split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}.")
    if path.is_file():
        named = [word for word in SPLITS if path.stem.endswith(word)]
        if split is not None and named and split not in named:
            raise ValueError(f"split={split!r} contradicts the name of the file {path}; give its folder instead.")
        return path
    if not path.is_dir():
        folder = path.parent if path.suffix == ".h5" else path
        raise FileNotFoundError(f"No such file or folder: {path.absolute()}. {_where_from(folder, split, path.name)}")
    if split is None:
        raise ValueError(f"{path} is a folder: say which split, one of {', '.join(map(repr, SPLITS))}.")
    for folder in (path / name for name in _FOLDERS):
        found = [folder / f"{name}{split}.h5" for name in _SETS if (folder / f"{name}{split}.h5").is_file()]
        if len(found) > 1:
            raise ValueError(
                f"{folder} holds {' and '.join(each.name for each in found)}; give the file instead of the folder."
            )
        if found:
            return found[0]
    raise FileNotFoundError(_what_is_missing(path, split))


def open_spike_file(path: Path) -> Any:
    """The file as an ``h5py.File`` opened for reading, its layout checked; the caller closes it."""
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"{path} is gone.")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty (0 bytes): a download that did not start. {again(path)}")
    if not h5py.is_hdf5(path):
        with open(path, "rb") as file:
            start = file.read(4)
        archive = {b"PK\x03\x04": " It is a zip archive: unzip it.", b"\x1f\x8b\x08\x00": " It is a gzip archive."}
        raise ValueError(
            f"{path} is not an HDF5 file (it starts with {start!r}).{archive.get(start) or ' ' + again(path)}"
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if "truncated" not in str(error):
            raise OSError(f"{path} cannot be opened: {error}. If it is damaged: {again(path)}") from error
        raise ValueError(
            f"{path} is truncated ({path.stat().st_size} bytes; {error}): a broken download. {again(path)}"
        ) from error
    try:
        with damage_named(path):
            _check_layout(file, path)
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def damage_named(path: Path, what: str = "it") -> Iterator[None]:
    """What h5py raises on damaged bytes (OSError, RuntimeError, KeyError) as a ValueError with the file's path."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {what} cannot be read, the file is damaged ({error}). {again(path)}") from error


def _check_layout(file: Any, path: Path) -> None:
    missing = [name for name in NEEDED if name not in file]
    if missing:
        raise ValueError(
            f"{path} is HDF5 but not in SHD's layout: no {', '.join(missing)}; it holds {', '.join(file) or 'nothing'}."
        )
    import h5py

    for name in NEEDED[:2]:
        stored = h5py.check_vlen_dtype(getattr(file[name], "dtype", np.dtype(object)))
        if stored is not None and not np.dtype(stored).isnative:
            raise ValueError(
                f"{path}: {name} holds numbers of the other byte order ({np.dtype(stored).str}), which h5py returns "
                "swapped in lists. Store them in this machine's."
            )
        if not isinstance(file[name], h5py.Dataset) or stored is None:
            kind = getattr(file[name], "dtype", "a group")
            raise ValueError(f"{path}: {name} must hold a list of its own length for each sample (vlen), got {kind}.")
    if not isinstance(file["labels"], h5py.Dataset) or file["labels"].dtype.kind not in "iu":
        kind = getattr(file["labels"], "dtype", "a group")
        raise ValueError(f"{path}: labels must be integers from 0, got {kind}. Store them as such, e.g. uint16.")
    lists = {"labels": ("iu", "labels"), "extra/speaker": ("iu", "numbers"), "extra/keys": ("OS", "names")}
    for name, (kinds, what) in lists.items():
        if name in file:
            kind, axes = getattr(file[name], "dtype", None), getattr(file[name], "ndim", None)
            if axes != 1 or kind is None or kind.kind not in kinds:
                got = "a group" if kind is None else f"{kind} of shape {file[name].shape}"
                raise ValueError(f"{path}: {name} must be a list of {what}, one axis long, got {got}.")
    sizes = {name: len(file[name]) for name in NEEDED}
    if "extra/speaker" in file:
        sizes["extra/speaker"] = len(file["extra/speaker"])
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{path}: the data sets differ in length: {sizes}.")


def _what_is_missing(path: Path, split: str) -> str:
    names = [f"{name}{split}.h5" for name in _SETS]
    folders = [path] + [path / name for name in _FOLDERS[1:] if (path / name).is_dir()]
    there = sorted(each.name for folder in folders for each in folder.iterdir())
    shown = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    text = f"None of {', '.join(names)} in {', '.join(str(folder.absolute()) for folder in folders)}"
    text += f" (there: {shown or 'nothing'})."
    archives = [name for name in there if name in {f"{each}.zip" for each in names}]
    if archives:
        text += f" {archives[0]} is there: unzip it."
    elif split == "valid" and "shd_train.h5" in there:
        text += " SHD has no validation file: hold out a part of the training set with split_validation."
    else:
        text += f" {_where_from(path, split)}"
    return text


def _where_from(folder: Path, split: str | None, name: str = "") -> str:
    """Where SHD and SSC are to be had, and where to put them."""
    known = name.startswith(_SETS[:2]) and name.endswith(".h5")
    zips = f"{name}.zip" if known else f"shd_{split or 'train'}.h5.zip or ssc_{split or 'train'}.h5.zip"
    if split == "valid" and not known:
        zips = "ssc_valid.h5.zip"  # SHD has none
    return f"SHD and SSC come from {_SOURCE}: download {zips} and unpack it into {folder.absolute()}."


def again(path: Path) -> str:
    """The remedy for a damaged file: what to download, from where, to where."""
    if not path.name.startswith(_SETS[:2]):
        return f"Delete it and fetch it again (SHD and SSC: {_SOURCE})."
    archive = f"{path.name}.zip"
    text = f"Download it again: {archive} from {_SOURCE}, unpacked into {path.parent.absolute()}."
    return f"{text} The archive's MD5 is {ARCHIVE_MD5[archive]}." if archive in ARCHIVE_MD5 else text
