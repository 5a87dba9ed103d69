"""The recurrent scan: what a neuron puts out comes back to its layer through weights, in later steps.

    cur[t] = x[t] + mask * feedback[t];   out[t], state[t] = step(cur[t], state[t - 1])

| ``weight`` | ``taps`` | ``feedback[t]`` |
|---|---|---|
| ``[N, N]`` | None | ``W out[t - 1]`` |
| ``[N, N]`` | ``[L, N]`` | ``W sum_k taps[k] out[t - 1 - k]``: each source has its own delays (axonal) |
| ``[L, N, N]`` | None | ``sum_k W[k] out[t - 1 - k]``: each synapse has (synaptic) |

A step is one matrix product and one run of the neuron's compiled step. There is no autograd graph of T nodes: the
backward walks through the same loop in reverse, and takes the gradient of the weights in one product over all steps.
``path`` says how the loop runs: compiled on the CPU; on a GPU as one launch, with products in full float32, whatever
torch is told of TF32; elsewhere step by step with torch's products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snnkit.ops import cpu, cuda, recurrent_cuda
from snnkit.ops.program import Plan
from snnkit.ops.recurrent_operator import recurrent_backward, recurrent_forward
from snnkit.ops.registered import no_forward_mode
from snnkit.ops.scan import Result
from snnkit.ops.scan_call import compute_dtype
from snnkit.ops.scan_gradient import once_differentiable
from snnkit.ops.scan_operator import with_gradient
from snnkit.ops.scan_tensors import coefficients_of, start_of


def recurrent_scan(
    plan: Plan,
    parameters: Mapping[str, Any],
    x: Tensor,
    weight: Tensor,
    past: Tensor,
    *,
    taps: Tensor | None = None,
    mask: Tensor | None = None,
    state: Mapping[str, Tensor] | None = None,
    record: tuple[str, ...] = (),
    final: bool = False,
) -> Result:
    """Run a layer of neurons that hear each other.

    Args:
        plan, parameters: the neuron's (see ``program.plan_of``); ``parameters`` has at least its tensors.
        x: input, ``[T, B, N]``, any floating dtype. T may be 0.
        weight: ``[N, N]`` as (target, source), or ``[L, N, N]``: the matrix of lag k + 1 at k.
        past: output before the first step, ``[L, B, N]``, the oldest first; L = 1 where nothing is delayed.
        taps: ``[L, N]``, strength of the output of k + 1 steps ago at k.
        mask: ``[B, N]``, multiplies what comes back (dropout); without gradient.
        state: where the neuron starts, ``[B, N]`` each. Default: its initial values.
        record: states to write down after each step.
        final: return the last state, too.

    Returns:
        Output ``[T, B, N]`` in the dtype of x, the last state (of the neuron alone) and the traces. Half inputs are
        computed in float32, the products, too.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    _check_shapes(x, weight, past, taps)
    dtype = compute_dtype(x)
    program = plan.program
    for name in record:
        if name not in program.states:
            raise ValueError(f"{program.title} has no state {name!r} to record. It has: {', '.join(program.states)}.")
    coefficients = coefficients_of(plan, parameters, x, dtype)
    before = start_of(plan, parameters, x, state, dtype)
    if not before:  # the equation's own numbers
        before = [x.new_full(x.shape[1:], float(v), dtype=dtype) for v in plan.initial]
    key = f"{program.key}|{','.join(record)}|{1 if final else 0}"
    mask = None if mask is None else mask.to(dtype)
    taps = None if taps is None else taps.to(dtype)
    given = x.to(dtype), weight.to(dtype), taps, mask, past.to(dtype)
    out = _differentiable(*given, plan.constants, key, coefficients, before)
    count = len(program.states) if final else 0
    return Result(
        out[0].to(x.dtype),
        dict(zip(program.states, out[1 : 1 + count], strict=True)) if final else {},
        dict(zip(record, out[1 + count : 1 + count + len(record)], strict=True)),
    )


def path(x: Tensor) -> str:
    """Say in one line how ``recurrent_scan`` of x walks through the steps, with each refusal's reason.

    >>> path(torch.zeros(4, 2, 3, device="meta"))
    'step by step in torch (cpu, cuda: x is on meta)'
    """
    device = x.device.type
    if device not in ("cpu", "cuda"):
        return f"step by step in torch (cpu, cuda: x is on {x.device})"
    refusal = cpu.refusal() if device == "cpu" else cuda.refusal(x.get_device())
    if refusal is not None:
        return f"step by step in torch ({device}: {refusal})"
    if device == "cpu":
        return "cpu: a compiled loop"
    return f"cuda: {'a launch a step, into the graph' if recurrent_cuda.step_by_step(x.device) else 'one launch'}"


def _check_shapes(x: Tensor, weight: Tensor, past: Tensor, taps: Tensor | None) -> None:
    if x.ndim != 3:
        raise ValueError(f"recurrent_scan expects x as [T, B, N], got {tuple(x.shape)}.")
    size = x.shape[2]
    lags = len(taps) if taps is not None else len(weight) if weight.ndim == 3 else 1
    if weight.shape[-2:] != (size, size) or weight.ndim > 3 or (taps is not None and weight.ndim != 2):
        kind = "[N, N]" if taps is not None else "[N, N] or [L, N, N]"
        raise ValueError(f"weight must be {kind} with N = {size}, got {tuple(weight.shape)}.")
    if taps is not None and taps.shape[1:] != (size,):
        raise ValueError(f"taps must be [L, {size}], got {tuple(taps.shape)}.")
    if past.shape != (lags, *x.shape[1:]):
        raise ValueError(f"past must be [L, B, N] = {(lags, *x.shape[1:])}, got {tuple(past.shape)}.")


def _differentiable(
    x: Tensor, weight: Tensor, taps: Tensor | None, mask: Tensor | None, past: Tensor, numbers: Sequence[float],
    key: str, coefficients: Sequence[Tensor], before: Sequence[Tensor],
) -> Sequence[Tensor]:  # fmt: skip
    count = len(coefficients)
    if torch._C._are_functorch_transforms_active():
        if torch.compiler.is_compiling():
            raise RuntimeError("torch.compile over torch.func is not supported here; compile the inner function.")
        return _Functional.apply(x, weight, taps, mask, past, numbers, key, count, *coefficients, *before)
    if torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0:  # a jvp must fail, not be zero
        return _Eager.apply(x, weight, taps, mask, past, numbers, key, count, *coefficients, *before)
    run = recurrent_forward.way(x)
    return _behind(past, run(x, weight, taps, mask, past, coefficients, before, numbers, key, False))


def _behind(past: Tensor, results: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The operator's results with the output alone: it returns it behind the past."""
    both, *rest = results
    return both[len(past) :], *rest


def _gradients(ctx: Any, *gradients: Tensor | None) -> Any:
    return _found(ctx, False, gradients)


def _gradients_by_operator(ctx: Any, *gradients: Tensor | None) -> Any:
    return _found(ctx, True, gradients)


def _found(ctx: Any, by_operator: bool, gradients: Sequence[Tensor | None]) -> Any:
    numbers, key, count, has_taps, has_mask = ctx.rest
    weight, past, out, current, history, mixed, *rest = ctx.saved_tensors  # once: checkpointing unpacks them
    tensors = [*rest]  # torch 2.9 traces it as a tuple
    backward = recurrent_backward.op if by_operator else recurrent_backward.way(out)
    taps = tensors.pop(0) if has_taps else None
    mask = tensors.pop(0) if has_mask else None
    coefficients, before = tensors[:count], tensors[count:]
    found = backward(
        list(gradients[: len(gradients) - 3]), weight, taps, mask, past, out, current, history, mixed, coefficients,
        before, numbers, key,
    )  # fmt: skip
    g_x, g_weight, g_taps, g_past, *rest = found
    g_coefficients: list[Tensor | None] = [*rest[:count]]
    if count and not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()):
        g_coefficients = [g if w else None for g, w in zip(g_coefficients, with_gradient(key), strict=True)]
    return g_x, g_weight, g_taps if has_taps else None, None, g_past, None, None, None, *g_coefficients, *rest[count:]


def _note(ctx: Any, inputs: Any, output: Any) -> None:
    _, weight, taps, mask, past, numbers, key, count, *tensors = inputs
    *_, current, history, mixed = output
    extra = [t for t in (taps, mask) if t is not None]
    ctx.save_for_backward(weight, past, output[0], current, history, mixed, *extra, *tensors)
    ctx.rest = numbers, key, count, taps is not None, mask is not None
    ctx.mark_non_differentiable(current, history, mixed)
    ctx.set_materialize_grads(False)


class _Eager(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        x, weight, taps, mask, past, numbers, key, count, *tensors = arguments
        way = recurrent_forward.way(x)
        out = _behind(past, way(x, weight, taps, mask, past, tensors[:count], tensors[count:], numbers, key, True))
        _note(ctx, arguments, out)
        return out

    backward = staticmethod(once_differentiable(_gradients))


class _Functional(torch.autograd.Function):
    """The spelling that torch.func asks for."""

    generate_vmap_rule = True
    jvp = no_forward_mode

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, taps: Tensor | None, mask: Tensor | None, past: Tensor, numbers: Any, key: str,
        count: int, *tensors: Tensor,
    ) -> Any:  # fmt: skip
        given = (x, weight, taps, mask, past, tensors[:count], tensors[count:], numbers, key, True)
        return _behind(past, recurrent_forward.op(*given))

    setup_context = staticmethod(_note)
    backward = staticmethod(once_differentiable(_gradients_by_operator))
