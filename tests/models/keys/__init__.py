"""State-dict keys, written down: a renamed tensor breaks every checkpoint.

``NAME.txt`` is the list of a small network, one for each structure. ``full_sizes.txt`` has a line for every registered
model at its full size: name, parameters, tensors of the state dict, and a digest of their names and shapes.

    python -m tests.models.keys    writes what is missing; old lines change only if their file is removed before.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from tests.models.shrink import NAMES, STRUCTURES, full_size, small_on_meta, structure

KEYS = Path(__file__).parent
FULL = KEYS / "full_sizes.txt"


def key_lines(model: nn.Module) -> list[str]:
    """Name and shape of each tensor of the state dict."""
    return [f"{key} {tuple(value.shape)}" for key, value in model.state_dict().items()]


def key_file(name: str) -> Path:
    """The list of a small network: that of any variant with the same structure, or else of this name."""
    twins = [KEYS / f"{twin}.txt" for twin in NAMES if structure(twin) == structure(name)]
    return next((path for path in twins if path.exists()), KEYS / f"{name}.txt")


def full_line(name: str) -> str:
    """The line of full_sizes.txt."""
    model = full_size(name)
    lines = key_lines(model)
    parameters = sum(p.numel() for p in model.parameters())
    return f"{name} {parameters} {len(lines)} {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}"


def full_lines() -> dict[str, str]:
    """The lines that are written down, by name."""
    text = FULL.read_text() if FULL.exists() else ""
    return {line.split()[0]: line for line in text.splitlines()}


def write() -> None:
    """Add the lists that are missing."""
    for name in STRUCTURES:
        if not key_file(name).exists():
            key_file(name).write_text("\n".join(key_lines(small_on_meta(name))) + "\n")
    lines = {name: full_line(name) for name in NAMES} | full_lines()
    FULL.write_text("".join(f"{lines[name]}\n" for name in sorted(lines)))
