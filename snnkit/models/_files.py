"""Files of tensors: safetensors and torch.save, read without running code, written whole or not at all.

What is wrong with a file is told apart: missing, empty, cut short, damaged, holding more than tensors (see
``_pickles.py``), or of another kind.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnkit.models._pickles import read_torch

NESTS = ("state_dict", "model_state_dict", "model", "net")  # where training scripts hide the weights
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel and DDP; torch.compile


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file by name, and the texts of its header (empty unless it is safetensors).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty, cut short, damaged, of another kind, or holds something beside tensors that
            could run code when it is read.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder, expected a file" if path.is_dir() else "not there"
        inside = [file for file in (path / "best" / "model.safetensors", path / "model.safetensors") if file.is_file()]
        what += f" such as {inside[0]}" if inside else ""
        raise FileNotFoundError(f"Checkpoint {path} is {what} (looked for in {path.parent.resolve()}).")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"{path} is empty (0 bytes). Fetch or write it again.")
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        return tensors(read_torch(path), str(path)), {}
    raise ValueError(
        f"{path} is neither a safetensors file nor one of torch.save: it starts with {start[:24]!r}. "
        "A web page or a Git LFS pointer in its place means that the download went wrong."
    )


def tensors(contents: Any, where: str) -> dict[str, Tensor]:
    """Find the state dict in what a file held: unwrap ``{"state_dict": ...}`` and kin, and ``module.`` in the names.

    Raises:
        ValueError: there are no named tensors in it.
    """
    for nest in NESTS:
        while isinstance(contents, Mapping) and isinstance(contents.get(nest), Mapping):
            contents = contents[nest]
    named = contents.items() if isinstance(contents, Mapping) else ()
    found = {key: value for key, value in named if isinstance(key, str) and isinstance(value, Tensor)}
    if not found:
        raise ValueError(f"{where} holds no named tensors, but {_kind(contents)}. Expected a state dict.")
    noted = dict(getattr(contents, "_metadata", {}))
    for wrapper in WRAPPERS * 2:  # torch.compile around DDP, or the reverse
        if all(key.startswith(wrapper) for key in found):
            found = {key.removeprefix(wrapper): value for key, value in found.items()}
            noted = {key.removeprefix(wrapper): value for key, value in noted.items()}
    state: OrderedDict[str, Tensor] = OrderedDict(found)
    state._metadata = noted  # type: ignore[attr-defined]  # where torch keeps what its modules note beside tensors
    return state


def write(state: Mapping[str, Tensor], header: dict[str, str], path: str | os.PathLike[str]) -> None:
    """Write a safetensors file beside the path and rename it, so that a crash leaves the old file or none.

    Raises:
        IsADirectoryError: the path is a folder.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file, e.g. {path / 'model.safetensors'}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # clone: safetensors refuses tensors that share memory
    whole = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.touch()
        mode = aside.stat().st_mode  # what the umask leaves; safetensors makes files that nobody else may read
        save_file(whole, aside, metadata={**header, "sha256": digest(whole)})
        aside.chmod(mode)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut may keep the new name and lose the bytes
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes, in the order of the names."""
    total = hashlib.sha256()
    for key in sorted(state):
        value = state[key].contiguous()
        total.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            raise ValueError(f"{path} is cut short: its header alone has {length} bytes, the file {size}.")
        text = file.read(length)
    try:
        header = json.loads(text)
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: its header can't be read ({error}).") from error
    expected = 8 + length + max(ends, default=0)
    if size < expected:
        raise ValueError(f"{path} is cut short: {size} of {expected} bytes.")
    try:
        state = load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    metadata = header.get("__metadata__") or {}
    if "sha256" in metadata and metadata["sha256"] != digest(state):
        raise ValueError(f"{path} is damaged: its tensors are not those that were written (SHA-256 differs).")
    return state, metadata


def _kind(contents: Any) -> str:
    if isinstance(contents, Mapping):
        names = ", ".join(map(str, list(contents)[:5]))
        return f"a dict with {names or 'nothing'}"
    return f"a {type(contents).__name__}"
