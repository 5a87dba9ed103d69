"""``scan``: run a neuron over a sequence, by the fastest implementation that the tensor allows.

    scan(neuron, x) -> spikes, last state, traces

The compiled kernel keeps only x for the backward pass and computes the states again there. The same call works under
``torch.compile``, autocast, activation checkpointing and ``torch.func``; ``path`` says what a call takes and why.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnkit.equations.equation import Equation
from snnkit.ops import cpu, scan_cpu
from snnkit.ops.layout import like, row_like
from snnkit.ops.program import Plan, Program, plan_of, program_by_key
from snnkit.ops.reference import reference


class Result(NamedTuple):
    """What a scan returns: the output ``[T, B, ...]``, the last state, and the recorded states ``[T, B, ...]``."""

    output: Tensor
    state: dict[str, Tensor]
    traces: dict[str, Tensor]


def scan(
    neuron: Equation,
    x: Tensor,
    state: Mapping[str, Tensor] | None = None,
    record: Sequence[str] = (),
    steps: int | None = None,
) -> Result:
    """Run a neuron over a sequence: ``output[t], state[t] = neuron.step(x[t], state[t - 1])``.

    Args:
        neuron: equation with its parameters, surrogate and reset. Parameters may be tensors: they broadcast,
            right-aligned, to ``x.shape[2:]``.
        x: input, ``[T, B, ...]``, any floating dtype. T may be 0.
        state: where to start, a ``[B, ...]`` tensor for each state. Default: the equation's initial values.
        record: names of states to write down after each step (after the reset).
        steps: read the single row ``x[0]`` this many times (a still image); its gradient is one row, too.

    Returns:
        The output in the shape and dtype of x, the state after the last step (float32 for half inputs), and the
        recorded traces ``[T, B, ...]``.

    Raises:
        ValueError: x has fewer than two axes, ``steps`` is given for more than one row, or a state does not fit.
        TypeError: x is not floating.

    Gradients reach x, the start state and each parameter that is a tensor. The backward keeps one copy of x.

    >>> from snnkit.equations import LIF
    >>> s, state, _ = scan(LIF(tau=2.0), torch.full((4, 1, 1), 1.5))
    >>> s.flatten().tolist(), state["v"].item()
    ([0.0, 1.0, 0.0, 1.0], 0.0)
    """
    plan = plan_of(neuron)
    parameters = neuron.parameters() if plan.program.tensors else {}
    return run(plan, parameters, x, state, tuple(record), steps, final=True)


def run(
    plan: Plan,
    parameters: Mapping[str, Any],
    x: Tensor,
    state: Mapping[str, Tensor] | None,
    record: tuple[str, ...],
    steps: int | None,
    final: bool,
) -> Result:
    """``scan`` for callers that hold a plan; ``parameters`` has at least those that are tensors. No ``final``, no state."""
    program = plan.program
    if x.ndim < 2:
        raise ValueError(f"scan expects x as [T, B, ...], at least 2 axes, got {tuple(x.shape)}.")
    if not x.is_floating_point():
        raise TypeError(f"scan expects a floating x, got {x.dtype}. Convert it: x.float().")
    if steps is not None and (x.shape[0] != 1 or steps < 0):
        raise ValueError(f"steps={steps} reads a single row again and again, but x has {x.shape[0]} rows: give x[:1].")
    for name in record:
        if name not in program.states:
            raise ValueError(f"{program.title} has no state {name!r} to record. It has: {', '.join(program.states)}.")
    if steps is None and state is None and not (final or record or program.tensors) and _is_simple(x):
        if torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0:
            return Result(_Simple.apply(x, program, plan.constants), {}, {})
        return Result(scan_cpu.simple_forward(program, x, plan.constants), {}, {})
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    coefficients: list[Tensor] = []
    if program.tensors:
        coefficients = program.tensor_values({**plan.fixed, **parameters}, dtype)
        _check_broadcast(program, coefficients, x)
    before = _start(plan, parameters, x, state, dtype)
    key = f"{program.key}|{','.join(record)}|{1 if final else 0}" if record or final else program.plain_key
    out = _scan(x, coefficients, before, plan.constants, -1 if steps is None else steps, key)
    if not final and not record:
        return Result(out[0], {}, {})
    count = len(program.states) if final else 0
    return Result(
        out[0],
        dict(zip(program.states, out[1 : 1 + count], strict=True)) if final else {},
        dict(zip(record, out[1 + count :], strict=True)),
    )


def path(neuron: Equation, x: Tensor) -> str:
    """Say in one line which implementation ``scan(neuron, x)`` takes, with each refusal's reason.

    >>> from snnkit.equations import LIF
    >>> path(LIF(), torch.zeros(4, 2, 3, device="meta"))
    'reference (cpu: x is on meta)'
    """
    if x.device.type != "cpu":
        return f"reference (cpu: x is on {x.device})"
    refusal = cpu.refusal()
    return "cpu" if refusal is None else f"reference (cpu: {refusal})"


def _check_broadcast(program: Program, coefficients: Sequence[Tensor], x: Tensor) -> None:
    for coefficient in coefficients:
        try:
            fits = torch.broadcast_shapes(coefficient.shape, x.shape[2:]) == x.shape[2:]
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"{program.title}: a parameter of shape {tuple(coefficient.shape)} does not broadcast to the features "
                f"{tuple(x.shape[2:])} of x. One value a channel is [C] for [T, B, C] and [C, 1, 1] for images."
            )


def _start(
    plan: Plan, parameters: Mapping[str, Any], x: Tensor, state: Mapping[str, Tensor] | None, dtype: torch.dtype
) -> list[Tensor]:
    """The states to start from; none if all of them are the equation's own numbers."""
    names, shape = plan.program.states, x.shape[1:]
    if state is None:
        if not plan.learnt_initial:
            return []
        initial = [parameters[v] if isinstance(v, str) else torch.full((), v, device=x.device) for v in plan.initial]
        return [value.to(dtype).expand(shape) for value in initial]
    if set(state) != set(names):
        raise ValueError(f"{plan.program.title} has the states {', '.join(names)}, got {', '.join(state) or 'none'}.")
    for name in names:
        if state[name].shape != shape:
            raise ValueError(f"state {name!r} must have the shape {tuple(shape)} of x[0], got {tuple(state[name].shape)}.")
    return [state[name].to(dtype) for name in names]


class _Kind(NamedTuple):
    """What a key stands for: the program, the states that are recorded, and whether the last state is returned."""

    program: Program
    record: tuple[str, ...]
    final: bool


@functools.cache
def _kind(key: str) -> _Kind:
    """Read a key: program, recorded states, 1 or 0 for the last state."""
    name, record, final = key.split("|")
    return _Kind(program_by_key[name], tuple(record.split(",")) if record else (), final == "1")


# --- the kernels: real and fake ---------------------------------------------------------------------------------


def _forward(
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int, key: str
) -> list[Tensor]:
    kind = _kind(key)
    if x.is_cpu and cpu.refusal() is None:
        return scan_cpu.forward(kind.program, kind.record, kind.final, x, coefficients, before, numbers, steps)
    with torch.no_grad():
        return _by_reference(kind, x, coefficients, before, numbers, steps)


def _backward(
    gradients: Sequence[Tensor | None], x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor],
    numbers: Sequence[float], steps: int, key: str,
) -> list[Tensor]:  # fmt: skip
    kind = _kind(key)
    if x.is_cpu and cpu.refusal() is None:
        return scan_cpu.backward(
            kind.program, kind.record, kind.final, gradients, x, coefficients, before, numbers, steps
        )
    inputs = [t.detach().requires_grad_() for t in (x, *coefficients, *before)]
    with torch.enable_grad():
        end = 1 + len(coefficients)
        outputs = _by_reference(kind, inputs[0], inputs[1:end], inputs[end:], numbers, steps)
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad]
    found = torch.autograd.grad([o for o, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True)
    return [torch.zeros_like(i) if g is None else g.contiguous() for g, i in zip(found, inputs, strict=True)]


def _by_reference(
    kind: _Kind, x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int
) -> list[Tensor]:
    """The traced step in torch, for devices without a kernel and machines without a compiler."""
    program = kind.program
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if not before:
        initial = numbers[len(program.number_coefficients) :]
        before = [torch.full_like(x[0] if len(x) else x.new_empty(x.shape[1:]), v, dtype=dtype) for v in initial]
    step = program.step_on_tensors(coefficients, numbers)
    output, state, traces = reference(
        step, x, dict(zip(program.states, before, strict=True)), kind.record, None if steps < 0 else steps
    )
    return [output, *([v.clone() for v in state.values()] if kind.final else []), *traces.values()]


def _fake_forward(
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int, key: str
) -> list[Tensor]:
    kind, dtype = _kind(key), torch.float64 if x.dtype == torch.float64 else torch.float32
    total = x.shape[0] if isinstance(steps, int) and steps < 0 else steps
    after = [row_like(x, dtype) for _ in kind.program.states] if kind.final else []
    return [like(x, total, x.dtype), *after, *(like(x, total, dtype) for _ in kind.record)]


def _fake_backward(
    gradients: Sequence[Tensor | None], x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor],
    numbers: Sequence[float], steps: int, key: str,
) -> list[Tensor]:  # fmt: skip
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return [like(x, x.shape[0], x.dtype), *map(torch.empty_like, coefficients), *(row_like(x, dtype) for _ in before)]


# --- vmap: the batch joins the rows, or, where a coefficient differs from sample to sample, a loop ---------------


def _forward_vmap(info: Any, dims: Any, x: Any, coefficients: Any, before: Any, numbers: Any, steps: int, key: str) -> Any:
    x_dim, c_dims, b_dims, *_ = dims
    if any(d is not None for d in c_dims):
        rows = [
            _forward_op(_at(x, x_dim, i), _all_at(coefficients, c_dims, i), _all_at(before, b_dims, i), numbers, steps, key)
            for i in range(info.batch_size)
        ]
        out = [torch.stack(column) for column in zip(*rows, strict=True)]
        return out, [0] * len(out)
    n = info.batch_size
    folded = _forward_op(
        _folded(x, x_dim, n, 1), coefficients, [_folded(b, d, n, 0) for b, d in zip(before, b_dims, strict=True)],
        numbers, steps, key,
    )  # fmt: skip
    kind = _kind(key)
    count = len(kind.program.states) if kind.final else 0
    axes = [1] + [0] * count + [1] * len(kind.record)
    return [t.unflatten(axis, (n, -1)) for t, axis in zip(folded, axes, strict=True)], axes


def _backward_vmap(
    info: Any, dims: Any, gradients: Any, x: Any, coefficients: Any, before: Any, numbers: Any, steps: int, key: str
) -> Any:
    g_dims, x_dim, c_dims, b_dims, *_ = dims
    n = info.batch_size
    if coefficients:  # each sample has its own gradient of the coefficients
        rows = [
            _backward_op(
                _all_at(gradients, g_dims, i), _at(x, x_dim, i), _all_at(coefficients, c_dims, i),
                _all_at(before, b_dims, i), numbers, steps, key,
            )
            for i in range(n)
        ]  # fmt: skip
        out = [torch.stack(column) for column in zip(*rows, strict=True)]
        return out, [0] * len(out)
    kind = _kind(key)
    count = len(kind.program.states) if kind.final else 0
    axes = [1] + [0] * count + [1] * len(kind.record)
    folded = _backward_op(
        [g if g is None else _folded(g, d, n, axis) for g, d, axis in zip(gradients, g_dims, axes, strict=True)],
        _folded(x, x_dim, n, 1), [], [_folded(b, d, n, 0) for b, d in zip(before, b_dims, strict=True)],
        numbers, steps, key,
    )  # fmt: skip
    back = [1] + [0] * len(before)
    return [t.unflatten(axis, (n, -1)) for t, axis in zip(folded, back, strict=True)], back


def _at(tensor: Any, dim: int | None, i: int) -> Any:
    return tensor if dim is None or tensor is None else tensor.select(dim, i)


def _all_at(tensors: Any, dims: Any, i: int) -> list[Any]:
    return [_at(t, d, i) for t, d in zip(tensors, dims, strict=True)]


def _folded(tensor: Tensor, dim: int | None, n: int, axis: int) -> Tensor:
    """The vmapped axis merged into the batch axis ``axis``."""
    moved = tensor.unsqueeze(axis).expand(*tensor.shape[:axis], n, *tensor.shape[axis:]) if dim is None else tensor.movedim(dim, axis)
    return moved.flatten(axis, axis + 1)


# --- registration: both directions are operators, so that graphs, fake tensors and transforms know them ----------

_library = torch.library.Library("snnkit", "DEF")
_COMMON = "Tensor x, Tensor[] coefficients, Tensor[] before, float[] numbers, SymInt steps, str key"
for _name, _schema, _kernel, _fake, _rule in (
    ("scan", f"scan({_COMMON}) -> Tensor[]", _forward, _fake_forward, _forward_vmap),
    ("scan_backward", f"scan_backward(Tensor?[] gradients, {_COMMON}) -> Tensor[]", _backward, _fake_backward, _backward_vmap),
):
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
    for _device in ("CPU", "CUDA"):
        _library.impl(_name, _kernel, _device)
    torch.library.register_fake(f"snnkit::{_name}", _fake, lib=_library)
    torch.library.register_vmap(f"snnkit::{_name}", _rule, lib=_library)
_forward_op, _backward_op = torch.ops.snnkit.scan.default, torch.ops.snnkit.scan_backward.default


def _is_plain(x: Tensor) -> bool:
    """Whether the kernel may be called itself: no graph is being made and no mode wants to see the operator."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (Tensor, torch.nn.Parameter)
        and (x.is_cpu or x.is_cuda)
        and torch._C._len_torch_dispatch_stack() == 0
    )


def _is_simple(x: Tensor) -> bool:
    """Whether the compiled kernel takes x as it is, and nobody looks on."""
    return (
        _is_plain(x)
        and not torch._C._are_functorch_transforms_active()
        and x.is_cpu
        and x.is_contiguous()
        and (x.dtype == torch.float32 or x.dtype == torch.float64)
        and x.numel() > 0
        and cpu.refusal() is None
    )


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


def _once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
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
        for k, g in zip(places, _Undifferentiable.apply(len(places), *(found[k] for k in places), *causes), strict=True):
            found[k] = g
        return tuple(found)

    return wrapped


@_once_differentiable
def _gradients(ctx: Any, *gradients: Tensor | None) -> Any:
    x, *tensors = ctx.saved_tensors
    numbers, steps, key, coefficients = ctx.rest
    operator = _backward if _is_plain(x) else _backward_op
    found = operator(gradients, x, tensors[:coefficients], tensors[coefficients:], numbers, steps, key)
    return found[0], None, None, None, None, *found[1:]


class _Eager(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        # Not spelt out: where nothing needs a gradient, torch.compile counts the names to see if there is a ctx.
        x, numbers, steps, key, coefficients, *tensors = arguments
        ctx.save_for_backward(x, *tensors)
        ctx.rest = numbers, steps, key, coefficients
        ctx.set_materialize_grads(False)
        operator = _forward if _is_plain(x) else _forward_op
        return tuple(operator(x, tensors[:coefficients], tensors[coefficients:], numbers, steps, key))

    backward = staticmethod(_gradients)


class _Simple(torch.autograd.Function):
    """The short way of small calls: x alone, in one piece, by the compiled kernel. Half of such a call is overhead."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, program: Program, numbers: tuple[float, ...]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rest = program, numbers
        return scan_cpu.simple_forward(program, x, numbers)

    @staticmethod
    @_once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        program, numbers = ctx.rest
        (x,) = ctx.saved_tensors
        if g.is_contiguous() and _is_plain(g):
            return scan_cpu.simple_backward(program, g, x, numbers), None, None
        operator = _backward if _is_plain(g) else _backward_op
        return operator([g], x, (), (), numbers, -1, program.plain_key)[0], None, None


class _Functional(torch.autograd.Function):
    """The spelling that torch.func asks for; slower to call."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, numbers: Any, steps: int, key: str, coefficients: int, *tensors: Tensor) -> Any:
        return tuple(_forward_op(x, tensors[:coefficients], tensors[coefficients:], numbers, steps, key))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, *ctx.rest, tensors = *inputs[:5], inputs[5:]
        ctx.save_for_backward(x, *tensors)

    @staticmethod
    @_once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, *tensors = ctx.saved_tensors
        numbers, steps, key, coefficients = ctx.rest
        found = _backward_op(list(gradients), x, tensors[:coefficients], tensors[coefficients:], numbers, steps, key)
        return found[0], None, None, None, None, *found[1:]


def _scan(
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int, key: str
) -> Sequence[Tensor]:
    if torch._C._are_functorch_transforms_active():
        if torch.compiler.is_compiling():  # compile(func.grad(f)) would return silent zeros
            raise RuntimeError("torch.compile over torch.func is not supported here; compile the inner function.")
        return _Functional.apply(x, numbers, steps, key, len(coefficients), *coefficients, *before)
    if torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0:  # a jvp must fail, not be zero
        return _Eager.apply(x, numbers, steps, key, len(coefficients), *coefficients, *before)
    operator = _forward if _is_plain(x) else _forward_op
    return operator(x, coefficients, before, numbers, steps, key)
