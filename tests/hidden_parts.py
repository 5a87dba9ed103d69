"""Machines with other parts than this one: CuPy hidden, broken or made for another CUDA, a PyTorch of another CUDA."""

from __future__ import annotations

import sys
import types
from importlib import metadata

import pytest
import torch

from snnkit.ops import cuda

_DRIVER = "cupy_backends.cuda.api.driver"


class _Refusing:
    """Raises where CuPy would be looked for."""

    def __init__(self, error: ImportError) -> None:
        self.error = error

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] in ("cupy", "cupy_backends"):
            raise self.error


def _forget_cupy(patch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupy_backends")]:
        patch.delitem(sys.modules, name)


def torch_for_cuda(patch: pytest.MonkeyPatch, version: str | None = "13.0") -> None:
    """A PyTorch built for that CUDA, in which no GPU was asked yet."""
    patch.setattr(torch.version, "cuda", version)
    patch.setattr(cuda, "_troubles", {})


def cupy_raises(patch: pytest.MonkeyPatch, error: ImportError, version: str = "13.0") -> None:
    """Importing CuPy raises the error, beside a PyTorch for CUDA ``version``."""
    torch_for_cuda(patch, version)
    _forget_cupy(patch)
    patch.setattr(sys, "meta_path", [_Refusing(error), *sys.meta_path])


def cupy_for_cuda(patch: pytest.MonkeyPatch, built: int, version: str | None = "13.0") -> None:
    """A CuPy that imports and says that it was built for the CUDA ``built``, such as 12090."""
    torch_for_cuda(patch, version)
    _forget_cupy(patch)
    wheel = types.SimpleNamespace(name=f"cupy-cuda{built // 1000}x")
    patch.setattr(metadata, "distributions", lambda: iter([wheel]))
    parts = _DRIVER.split(".")
    for name in ("cupy", "cupy.cuda", "cupy.cuda.function", *(".".join(parts[: k + 1]) for k in range(len(parts)))):
        patch.setitem(sys.modules, name, types.ModuleType(name))
    driver, cupy = sys.modules[_DRIVER], sys.modules["cupy"]
    vars(driver)["get_build_version"] = lambda: built
    vars(sys.modules[_DRIVER.rpartition(".")[0]])["driver"] = driver
    vars(cupy).update(__file__="somewhere/cupy/__init__.py", __version__="14.0.0")
