"""snnkit: spiking neural networks on PyTorch.

``import snnkit`` loads torch, the equations, the ops and the layers. What needs timm, tonic or h5py
(``snnkit.models``, ``snnkit.data``, ``snnkit.create_model``) is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from snnkit import equations, nn, ops
from snnkit._suggest import nearest

__version__ = "0.1.0"

# name -> module that has it; a name without a module of its own is that subpackage
_LAZY = {
    "models": "snnkit.models",
    "data": "snnkit.data",
    "analysis": "snnkit.analysis",
    "interop": "snnkit.interop",
    "create_model": "snnkit.models",
    "fold": "snnkit.models",
    "list_models": "snnkit.models",
    "load_checkpoint": "snnkit.models",
    "load_model": "snnkit.models",
    "save_checkpoint": "snnkit.models",
    "carry": "snnkit.nn",
    "firing_rates": "snnkit.nn",
    "relaxed": "snnkit.nn",
}

__all__ = ["equations", "nn", "ops", *_LAZY]  # noqa: PLE0604
_LAYERS = [f"nn.{name}" for name in nn.__all__]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'snnkit' has no attribute {name!r}.{nearest(name, [*__all__, *_LAYERS])}")
    module = importlib.import_module(_LAZY[name])
    value = module if _LAZY[name] == f"snnkit.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
