"""The gradient of the scan: its two operators under autograd, spelt for eager mode and for torch.func."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from snnkit.ops import cpu, cuda, scan_cpu, scan_cuda
from snnkit.ops.program import Program
from snnkit.ops.registered import is_plain, no_forward_mode, watching
from snnkit.ops.scan_call import compute_dtype
from snnkit.ops.scan_operator import scan_backward, scan_forward, with_gradient


def differentiable_scan(
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int, key: str
) -> Sequence[Tensor]:
    """``scan_forward`` with its gradient."""
    if torch._C._are_functorch_transforms_active():
        if torch.compiler.is_compiling():  # compile(func.grad(f)) would return silent zeros
            raise RuntimeError("torch.compile over torch.func is not supported here; compile the inner function.")
        return _Functional.apply(x, numbers, steps, key, len(coefficients), *coefficients, *before)
    if torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0:  # a jvp must fail, not be zero
        return _Eager.apply(x, numbers, steps, key, len(coefficients), *coefficients, *before)
    return scan_forward.way(x)(x, coefficients, before, numbers, steps, key)


def simple_scan(x: Tensor, program: Program, numbers: tuple[float, ...]) -> Tensor:
    """``differentiable_scan`` of x alone; ``is_simple(x)`` must hold."""
    if torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0:
        return _Simple.apply(x, program, numbers)
    return _short_way(x).simple_forward(program, x, numbers, False)[0]


def is_simple(x: Tensor) -> bool:
    """Whether the compiled kernel takes x as it is, and nobody looks on."""
    if not is_plain(x) or torch._C._are_functorch_transforms_active() or not x.is_contiguous() or x.numel() == 0:
        return False
    if x.is_cpu:  # half goes through torch's conversion there
        return (x.dtype == torch.float32 or x.dtype == torch.float64) and cpu.refusal() is None
    return x.is_cuda and x.dtype in scan_cuda.IO and cuda.refusal(x.get_device()) is None


def _short_way(x: Tensor) -> ModuleType:
    return scan_cpu if x.is_cpu else scan_cuda


class _Undifferentiable(torch.autograd.Function):
    """The first tensors as they are, in a graph that hangs on all of them: a derivative that comes by raises."""

    generate_vmap_rule = True

    @staticmethod
    def forward(count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError("scan cannot be differentiated twice: its kernels have no second derivative.")


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a second derivative raise, always, and cost nothing where none is asked for.

    Torch's own decorator raises only where the gradient that arrives has a graph of its own: in ``gradient + x ** 2``,
    and under ``torch.func``, the scan's part of the second derivative would be zero without a word.
    """

    @functools.wraps(backward)
    def wrapped(ctx: Any, *gradients: Tensor | None) -> Any:
        if not torch.is_grad_enabled():  # no create_graph
            return backward(ctx, *gradients)
        with torch.no_grad():
            found = list(backward(ctx, *gradients))
        places = [k for k, g in enumerate(found) if g is not None]
        causes = [t for t in (*gradients, *ctx.saved_tensors) if t is not None]
        marked = _Undifferentiable.apply(len(places), *(found[k] for k in places), *causes)
        for k, g in zip(places, marked, strict=True):
            found[k] = g
        return tuple(found)

    return wrapped


@once_differentiable
def _gradients(ctx: Any, *gradients: Tensor | None) -> Any:
    x, *tensors = ctx.saved_tensors
    numbers, steps, key, coefficients = ctx.rest
    found = scan_backward.way(x)(gradients, x, tensors[:coefficients], tensors[coefficients:], numbers, steps, key)
    g_coefficients = found[1 : 1 + coefficients]
    if coefficients and not torch.compiler.is_compiling():  # none instead of zeros: torch does not go on from there
        g_coefficients = [g if w else None for g, w in zip(g_coefficients, with_gradient(key), strict=True)]
    return found[0], None, None, None, None, *g_coefficients, *found[1 + coefficients :]


class _Eager(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        # Not spelt out: where nothing needs a gradient, torch.compile counts the names to see if there is a ctx.
        x, numbers, steps, key, coefficients, *tensors = arguments
        ctx.save_for_backward(x, *tensors)
        ctx.rest = numbers, steps, key, coefficients
        ctx.set_materialize_grads(False)
        return tuple(scan_forward.way(x)(x, tensors[:coefficients], tensors[coefficients:], numbers, steps, key))

    backward = staticmethod(_gradients)


class _Simple(torch.autograd.Function):
    """The short way of small calls: x alone, in one piece, by the compiled kernel. Half of such a call is overhead."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, program: Program, numbers: tuple[float, ...]) -> Tensor:
        way, wanted = _short_way(x), ctx.needs_input_grad[0]
        out, kept, back = way.simple_forward(program, x, numbers, wanted)
        if wanted:
            ctx.save_for_backward(x) if kept is None else ctx.save_for_backward(x, kept)
            ctx.rest = program, numbers, way.simple_backward, back
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        program, numbers, short, back = ctx.rest
        x, *kept = ctx.saved_tensors
        plain = type(g) is Tensor and g.dtype is x.dtype and not (g.is_neg() or watching())
        same = x.device == g.device and x.is_contiguous() and not x.is_neg()  # a hook may have given x back otherwise
        if kept:
            k = kept[0]
            same &= k.device == g.device and k.is_contiguous() and k.dtype is compute_dtype(x) and not k.is_neg()
        if plain and same and g.is_contiguous():
            return short(g, x, kept[0] if kept else None, back), None, None
        return scan_backward.way(x)([g], x, (), (), numbers, -1, program.plain_key)[0], None, None


class _Functional(torch.autograd.Function):
    """The spelling that torch.func asks for; slower to call."""

    generate_vmap_rule = True
    jvp = no_forward_mode

    @staticmethod
    def forward(x: Tensor, numbers: Any, steps: int, key: str, coefficients: int, *tensors: Tensor) -> Any:
        return tuple(scan_forward.op(x, tensors[:coefficients], tensors[coefficients:], numbers, steps, key))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.rest = inputs[1:5]
        ctx.save_for_backward(inputs[0], *inputs[5:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, *tensors = ctx.saved_tensors
        numbers, steps, key, coefficients = ctx.rest
        coefficients_, before = tensors[:coefficients], tensors[coefficients:]
        found = scan_backward.op(list(gradients), x, coefficients_, before, numbers, steps, key)
        return found[0], None, None, None, None, *found[1:]


