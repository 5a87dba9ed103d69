"""The scan of a neuron with learnt parameters of one value each, on a GPU: four kernels a training step, and no more.

Its coefficients are computed in one kernel, and the gradients of all parameters in another (``coefficients_cuda.py``).
Other calls, and all that somebody watches, take the way of ``scan_gradient.py``, with the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snnkit.ops import coefficients_cuda, cuda, scan_cuda
from snnkit.ops.program import Plan
from snnkit.ops.registered import is_plain
from snnkit.ops.scan_call import Call, compute_dtype
from snnkit.ops.scan_gradient import once_differentiable
from snnkit.ops.scan_operator import scan_backward


def is_learnt(plan: Plan, parameters: Mapping[str, Any], x: Tensor) -> bool:
    """Whether ``learnt_scan`` takes the call."""
    if not (x.is_cuda and is_plain(x) and x.dtype in scan_cuda.IO and x.numel() > 0) or plan.learnt_initial:
        return False
    for name in plan.program.tensors:
        p = parameters[name]
        if not (is_plain(p) and p.numel() == 1 and p.ndim <= x.ndim - 2 and p.device == x.device):
            return False
        if p.dtype != torch.float32 and p.dtype != torch.float64:
            return False
    return not torch._C._are_functorch_transforms_active() and cuda.refusal(x.get_device()) is None


def learnt_scan(plan: Plan, parameters: Mapping[str, Any], x: Tensor) -> Tensor:
    """The output of a scan from the initial state; ``is_learnt`` must hold."""
    return _Learnt.apply(x, plan, *(parameters[name] for name in plan.program.tensors))


class _Learnt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, *given: Tensor) -> Tensor:
        program, lane = plan.program, compute_dtype(x)
        kernels = coefficients_cuda.kernels(program, tuple(p.dtype for p in given), lane, x.get_device())
        numbers = coefficients_cuda.numbers(program, plan.fixed)
        values = kernels.values(given, numbers)
        ctx.save_for_backward(x, values, *given)
        ctx.rest = plan, kernels, numbers
        return scan_cuda.forward(program, (), False, x, values.unbind(), (), plan.constants, -1)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        x, values, *given = ctx.saved_tensors
        plan, kernels, numbers = ctx.rest
        program, wanted = plan.program, ctx.needs_input_grad[2:]
        if not is_plain(g):
            return _watched(plan, x, values, given, wanted, g)
        call = Call(x, values.unbind(), (), -1, x.dtype)
        g_x, sums, _ = scan_cuda.backward_sums(program, (), False, [g], call, (), plan.constants)
        return g_x, None, *kernels.gradients(given, wanted, sums, numbers)


def _watched(
    plan: Plan, x: Tensor, values: Tensor, given: Sequence[Tensor], wanted: Sequence[bool], g: Tensor
) -> Any:
    """The same by the registered operator and torch's own operations: a mode or a transform came in between."""
    program = plan.program
    found = scan_backward.op([g], x, values.unbind(), (), plan.constants, -1, program.plain_key)
    with torch.enable_grad():
        leaves = [p.detach().requires_grad_() for p in given]
        coefficients = program.tensor_values(
            {**plan.fixed, **dict(zip(program.tensors, leaves, strict=True))}, values.dtype
        )
    gradients = torch.autograd.grad(coefficients, leaves, found[1:], allow_unused=True)
    return found[0], None, *(g_p if w else None for g_p, w in zip(gradients, wanted, strict=True))
