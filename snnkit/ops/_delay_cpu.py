"""The compiled CPU form of ``delay_kernel``: the calls into ``delay_host.cpp``, and what torch must know of them."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnkit.ops import cpu
from snnkit.ops.registered import Registered, gradients_with_graph, wants_graph
from snnkit.ops.sources import source

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


def delay_kernel(
    weight: Tensor,
    position: Tensor,
    width: Tensor | None,
    size: int,
    code: int,
    base: float,
    reference: Callable[[Tensor, Tensor, Tensor | None], Tensor],
) -> Tensor:
    """The kernel, with gradients; float32 or float64 tensors of one shape. The reference serves second derivatives."""
    if torch.is_grad_enabled():
        return _DelayKernel.apply(weight, position, width, reference, size, code, base)
    return _forward(weight, position, width, size, code, base)


def refusal() -> str | None:
    """Why the compiled form is not to be had here; None if it is."""
    return _refusal()


# torch.compile calls it, instead of tracing its way into a compiler. This is all that torch.compiler's
# assume_constant_result does, but for importing torch._dynamo: 1.3 s at each import of snnkit.
refusal._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _refusal() -> str | None:
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
    library = cpu.library(source("math.h") + source("delay_host.cpp"))
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


def _time_slowest(weight: Tensor, size: int) -> Tensor:
    """Memory ``[K, ...]`` seen as ``[..., K]``."""
    return weight.new_empty((size, *weight.shape[:-1])).movedim(0, -1)


def _run_forward(weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float) -> Tensor:
    h = _time_slowest(weight, size)
    weight, position = weight.contiguous(), position.contiguous()
    width = None if width is None else width.contiguous()
    elements = h.numel() // size
    _functions()["delay_kernel", weight.dtype](
        *map(_pointer, (weight, position, width, h)),
        elements, weight.shape[-1], size, code, base, cpu.threads() if elements > 4096 else 1,
    )  # fmt: skip
    return h if weight.shape[-1] else h.zero_()


def _run_backward(
    g: Tensor, weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float, wide: bool
) -> tuple[Tensor, Tensor, Tensor]:
    g = g.movedim(-1, 0).contiguous()
    weight, position = weight.contiguous(), position.contiguous()
    width = None if width is None else width.contiguous()
    g_weight, g_position = torch.empty_like(weight), torch.empty_like(weight)
    g_width = torch.empty_like(weight) if wide else weight.new_empty(0)
    elements = g.numel() // size
    _functions()["delay_kernel_backward", weight.dtype](
        *map(_pointer, (g, weight, position, width, g_weight, g_position, g_width if wide else None)),
        elements, weight.shape[-1], size, code, base, cpu.threads() if elements > 4096 else 1,
    )  # fmt: skip
    return g_weight, g_position, g_width


def _fake_forward(weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float) -> Tensor:
    return _time_slowest(weight, size)


def _fake_backward(
    g: Tensor, weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float, wide: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return weight.new_empty(weight.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape if wide else 0)


_ARGUMENTS = "Tensor weight, Tensor position, Tensor? width, int size, int code, float base"
_forward = Registered(f"delay_kernel({_ARGUMENTS}) -> Tensor", _run_forward, _fake_forward)
_backward = Registered(
    f"delay_kernel_backward(Tensor g, {_ARGUMENTS}, bool wide) -> (Tensor, Tensor, Tensor)",
    _run_backward,
    _fake_backward,
)


class _DelayKernel(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, position: Tensor, width: Tensor | None, reference: Any, *constants: Any
    ) -> Tensor:
        ctx.save_for_backward(weight, position, width)
        ctx.reference, ctx.constants = reference, constants
        return _forward(weight, position, width, *constants)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        weight, position, width = ctx.saved_tensors
        if wants_graph():
            found = gradients_with_graph(ctx.reference, (weight, position, width), g)
            return *found, None, None, None, None
        wide = width is not None and ctx.needs_input_grad[2]
        g_weight, g_position, g_width = _backward(g, weight, position, width, *ctx.constants, wide)
        return g_weight, g_position, g_width if wide else None, None, None, None, None
