"""The compiled CPU form of ``delay_kernel``: the calls into ``delay_host.cpp``."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from snnkit.ops import cpu
from snnkit.ops.sources import source

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


@functools.cache
def refusal() -> str | None:
    """Why the compiled form is not to be had here; None if it is."""
    reason = cpu.refusal()
    if reason is None:
        try:
            _functions()
        except RuntimeError as error:
            return str(error).splitlines()[0]
    return reason


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Any]:
    """The C functions by name and dtype, with their argument types."""
    library = cpu.library(source("math.h") + source("delay.h") + source("delay_host.cpp"))
    found = {}
    for dtype, real, suffix in ((torch.float32, ctypes.c_float, "float"), (torch.float64, ctypes.c_double, "double")):
        for name, pointers in (("delay_kernel", 4), ("delay_kernel_backward", 7)):
            function = getattr(library, f"{name}_{suffix}")
            function.argtypes = [_POINTER] * pointers + [_LONG, _LONG, _LONG, _INT, real, _INT]
            function.restype = None
            found[name, dtype] = function
    return found


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def forward(
    h: Tensor, weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float
) -> None:
    """Fill h, ``[..., K]`` with time slowest in memory; the other tensors are without gaps."""
    elements = h.numel() // size
    _functions()["delay_kernel", weight.dtype](
        *map(_pointer, (weight, position, width, h)),
        elements, weight.shape[-1], size, code, base, cpu.threads() if elements > 4096 else 1,
    )  # fmt: skip


def backward(
    g: Tensor, weight: Tensor, position: Tensor, width: Tensor | None, gradients: tuple[Tensor, Tensor, Tensor | None],
    size: int, code: int, base: float,
) -> None:  # fmt: skip
    """Fill the gradients of weight, position and width (None: not wanted), given that of h as ``[K, ...]``."""
    elements = g.numel() // size
    _functions()["delay_kernel_backward", weight.dtype](
        *map(_pointer, (g, weight, position, width, *gradients)),
        elements, weight.shape[-1], size, code, base, cpu.threads() if elements > 4096 else 1,
    )  # fmt: skip
