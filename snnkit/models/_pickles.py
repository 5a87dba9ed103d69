"""Files of torch.save, which are pickles: read without running code, and what is wrong with one told apart.

A pickle is a program: it can call any function that it names. ``weights_only=True`` runs the part that builds tensors
and plain values, nothing else. What a file asks for beyond that is either a plain record that people often keep beside
their weights, or code. Of the records, argparse's Namespace is read; numpy's scalars need torch's opt-in.
"""

from __future__ import annotations

import argparse
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

MAGIC = 0x1950A86A20F9469CFC6C  # the first object in files of torch < 1.6, before the weights
# Names that only make plain records.
HARMLESS = re.compile(r"argparse\.Namespace|numpy\._?core\.multiarray\.scalar|numpy\.dtype|_codecs\.encode")


def read_torch(path: Path) -> Any:
    """Return what ``torch.save`` wrote: tensors and plain values.

    Raises:
        ValueError: the file is cut short or damaged, a plain pickle, or asks for something that could run code.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if zipped:
        _check_archive(path)
    elif _is_plain_pickle(path):
        raise ValueError(
            f"{path} is a pickle of Python objects, not a file of torch.save; reading that could run code, so nothing "
            "was read. Open it where it was made, and write torch.save(model.state_dict(), path) there."
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # training scripts keep their options there
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = _foreign(path, error)
        if not foreign:
            raise ValueError(f"{path} is damaged: {_first_line(error)}") from error
        raise ValueError(_refusal(path, foreign)) from error
    except Exception as error:  # torch's readers raise whatever they stumble over: struct.error, KeyError, ...
        raise ValueError(f"{path} is damaged or cut short: {_first_line(error)}") from error


def _refusal(path: Path, foreign: list[str]) -> str:
    text = f"{path} holds {', '.join(foreign)} beside its tensors; reading that could run code, so nothing was read. "
    if all(HARMLESS.fullmatch(name) for name in foreign):
        if any(name.startswith("numpy") for name in foreign):
            # Old files name one thing at a time; numpy.dtypes.* stand in no file, but torch asks for them.
            foreign = [*sorted({*foreign, "numpy.dtype"}), "*{type(numpy.dtype(c)) for c in '?bhilBHILefd'}"]
        return f"{text}If you trust the file: with torch.serialization.safe_globals([{', '.join(foreign)}]): ..."
    return (
        f"{text}Do not open it in another way: ask for a file of the weights alone, "
        "torch.save(model.state_dict(), path) or safetensors."
    )


def _check_archive(path: Path) -> None:
    """The archive's end and the checksums of its parts: torch.load itself does not look at these."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is cut short: a file of torch.save without its end ({path.stat().st_size} bytes).")
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {_first_line(error)}.") from error
    if wrong is not None:
        raise ValueError(f"{path} is damaged: the checksum of {wrong} is wrong.")


def _is_plain_pickle(path: Path) -> bool:
    """Whether a file is one whole pickle that does not start with torch's magic number; nothing is run."""
    try:
        with path.open("rb") as file:
            return all(argument != MAGIC for _, argument, _ in pickletools.genops(file))
    except (ValueError, EOFError, IndexError, OverflowError):
        return False  # damaged: torch's own message follows


def _foreign(path: Path, error: Exception) -> list[str]:
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not a zip archive: older than torch 1.6
        return re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
