"""Checkpoint folders: written aside and renamed, read without running code, random generators included.

Tensors are stored by safetensors or read with ``weights_only``, the rest is JSON.
"""

import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _settings import refuse


def seed_all(seed: int) -> None:
    """Seed python's, numpy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_states() -> dict[str, Any]:
    """The states of python's, numpy's and torch's global generators, of types that ``weights_only`` reads."""
    kind, words, *rest = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(words.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    return states | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def set_random_states(states: dict[str, Any]) -> None:
    """Set the global generators to what ``random_states`` returned."""
    kind, words, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((kind, words.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():  # this machine may have another number of GPUs, or the other one had none
        for device, state in zip(range(torch.cuda.device_count()), states.get("cuda", []), strict=False):
            torch.cuda.set_rng_state(state, device)


def rename_folder(aside: Path, final: Path) -> None:
    """Put a finished folder in the old one's place; a kill in between leaves ``final.old``, which ``whole`` finds."""
    for file in aside.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    old = final.with_name(final.name + ".old")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    aside.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def whole(folder: Path) -> Path | None:
    """The folder, or the older one that a kill left beside it, or None."""
    old = folder.with_name(folder.name + ".old")
    return folder if folder.exists() else old if old.exists() else None


def empty_folder(path: Path) -> Path:
    """A new, empty folder; what a killed run left of it is removed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def write_file(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let ``write`` make the file under another name, then rename it."""
    aside = path.with_name(f"writing-{path.name}")
    write(aside)
    os.replace(aside, path)
    return path


def load_tensors(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors and plain values only; a missing and a damaged file are told apart."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        refuse(f"{path} is missing: the checkpoint is not whole.")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as problem:
        reason = (str(problem).splitlines() or ["the file ends too early"])[0]
        refuse(f"{path} is damaged: {reason.rstrip('.')}. Start a new run, or put a whole checkpoint there.")
