"""``delay_kernel`` as two operators, forward and backward, so that graphs, fake tensors and modes know what it does.

On CPU and CUDA an operator runs a compiled kernel; ``refusal`` says where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from snnkit.ops import _delay_cpu, _delay_cuda, cuda
from snnkit.ops.registered import Registered, gradients_with_graph, wants_graph


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


def refusal(device: torch.device) -> str | None:
    """Why the compiled form is not to be had on a device; None if it is."""
    if device.type == "cpu":
        return _delay_cpu.refusal()
    if device.type == "cuda":
        return cuda.refusal(torch.cuda.current_device() if device.index is None else device.index)
    return f"weight is on {device}"


# torch.compile calls it, instead of tracing its way into a compiler. This is all that torch.compiler's
# assume_constant_result does, but for importing torch._dynamo: 1.3 s at each import of snnkit.
refusal._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _implementation(x: Tensor) -> ModuleType:
    return _delay_cpu if x.is_cpu else _delay_cuda


def _time_slowest(weight: Tensor, size: int) -> Tensor:
    """Memory ``[K, ...]`` seen as ``[..., K]``."""
    return weight.new_empty((size, *weight.shape[:-1])).movedim(0, -1)


def _run_forward(weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float) -> Tensor:
    h = _time_slowest(weight, size)
    weight, position = weight.contiguous(), position.contiguous()
    width = None if width is None else width.contiguous()
    _implementation(weight).forward(h, weight, position, width, size, code, base)
    return h if weight.shape[-1] else h.zero_()


def _run_backward(
    g: Tensor, weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float, wide: bool
) -> tuple[Tensor, Tensor, Tensor]:
    g = g.movedim(-1, 0).contiguous()
    weight, position = weight.contiguous(), position.contiguous()
    width = None if width is None else width.contiguous()
    g_weight, g_position = torch.empty_like(weight), torch.empty_like(weight)
    g_width = torch.empty_like(weight) if wide else weight.new_empty(0)
    gradients = (g_weight, g_position, g_width if wide else None)
    _implementation(weight).backward(g, weight, position, width, gradients, size, code, base)
    return g_weight, g_position, g_width


def _fake_forward(weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float) -> Tensor:
    return _time_slowest(weight, size)


def _fake_backward(
    g: Tensor, weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float, wide: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return weight.new_empty(weight.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape if wide else 0)


_ARGUMENTS = "Tensor weight, Tensor position, Tensor? width, int size, int code, float base"
_forward = Registered(
    f"delay_kernel({_ARGUMENTS}) -> Tensor", _run_forward, _fake_forward, devices=("CPU", "CUDA")
)
_backward = Registered(
    f"delay_kernel_backward(Tensor g, {_ARGUMENTS}, bool wide) -> (Tensor, Tensor, Tensor)",
    _run_backward,
    _fake_backward,
    devices=("CPU", "CUDA"),
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
