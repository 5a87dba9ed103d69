"""``scan``: run a neuron over a sequence, by the fastest implementation that the tensor allows.

    scan(neuron, x) -> spikes, last state, traces

The compiled kernel keeps only x for the backward pass and computes the states again there. (A layer's plain call of a
long sequence also keeps the states before each chunk of 8 steps or more.) The same call works under ``torch.compile``,
autocast, activation checkpointing and ``torch.func``; ``path`` says what a call takes and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnkit.equations.equation import Equation
from snnkit.ops import cpu, cuda
from snnkit.ops.program import Plan, plan_of
from snnkit.ops.scan_call import compute_dtype
from snnkit.ops.scan_gradient import differentiable_scan, is_simple, simple_scan
from snnkit.ops.scan_learnt import is_learnt, learnt_scan
from snnkit.ops.scan_tensors import coefficients_of, require_device, start_of


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
        ValueError: x has fewer than two axes, ``steps`` is given for more than one row, a state or a parameter does not
            fit, or lies on another device.
        TypeError: x is not floating or not dense, a state is complex, or the step cannot be traced.

    Gradients reach x, the start state and each parameter that is a tensor. The backward keeps one copy of x.

    >>> from snnkit.equations import LIF
    >>> s, state, _ = scan(LIF(tau=2.0), torch.full((4, 1, 1), 1.5))
    >>> s.flatten().tolist(), state["v"].item()
    ([0.0, 1.0, 0.0, 1.0], 0.0)
    """
    _check_neuron(neuron)
    plan = plan_of(neuron)
    parameters = neuron.parameters() if plan.program.tensors else {}
    return run(plan, parameters, x, state, names(record), steps, final=True)


def names(record: Sequence[str]) -> tuple[str, ...]:
    """The names to record, as a tuple. A string would be taken for its letters, so it is refused."""
    if isinstance(record, str):
        raise TypeError(f"record expects names of states, got the string {record!r}. Write record=({record!r},).")
    if isinstance(record, bool) or not isinstance(record, Iterable):
        raise TypeError(f'record expects names of states, such as ("v",), got {record!r}.')
    return tuple(record)


_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def run(
    plan: Plan,
    parameters: Mapping[str, Any],
    x: Tensor,
    state: Mapping[str, Tensor] | None,
    record: tuple[str, ...],
    steps: int | None,
    final: bool,
) -> Result:
    """``scan`` for callers that hold a plan; ``parameters`` has at least the tensors. No ``final``, no last state."""
    program = plan.program
    _check_input(x)
    if steps is not None:
        _check_steps(steps, x)
    for name in record:
        if name not in program.states:
            raise ValueError(f"{program.title} has no state {name!r} to record. It has: {', '.join(program.states)}.")
    if steps is None and state is None and not (final or record):
        output = short_scan(plan, parameters, x)
        if output is not None:
            return Result(output, {}, {})
    dtype = compute_dtype(x)
    coefficients = coefficients_of(plan, parameters, x, dtype)
    before = start_of(plan, parameters, x, state, dtype)
    require_device(program.title, x, parameter=coefficients, state=before)
    key = f"{program.key}|{','.join(record)}|{1 if final else 0}" if record or final else program.plain_key
    out = differentiable_scan(x, coefficients, before, plan.constants, -1 if steps is None else steps, key)
    if not final and not record:
        return Result(out[0], {}, {})
    count = len(program.states) if final else 0
    return Result(
        out[0],
        dict(zip(program.states, out[1 : 1 + count], strict=True)) if final else {},
        dict(zip(record, out[1 + count :], strict=True)),
    )


def short_scan(plan: Plan, parameters: Mapping[str, Any], x: Tensor) -> Tensor | None:
    """The output of a call of x alone, from the initial state; None where no short way is open."""
    if plan.program.tensors:
        return learnt_scan(plan, parameters, x) if is_learnt(plan, parameters, x) else None
    return simple_scan(x, plan.program, plan.constants) if is_simple(x) else None


def path(neuron: Equation, x: Tensor) -> str:
    """Say in one line which implementation ``scan(neuron, x)`` takes, with each refusal's reason.

    Raises:
        ValueError, TypeError: a neuron or an x that ``scan`` refuses.

    >>> from snnkit.equations import LIF
    >>> path(LIF(), torch.zeros(4, 2, 3, device="meta"))
    'reference (cpu, cuda: x is on meta)'
    """
    neuron = getattr(neuron, "neuron", neuron)  # of a layer its equation
    _check_neuron(neuron)
    _check_input(x)
    plan = plan_of(neuron)  # traces the step
    coefficients = coefficients_of(plan, neuron.parameters(), x, compute_dtype(x))
    require_device(plan.program.title, x, parameter=coefficients)
    device = x.device.type
    if device not in ("cpu", "cuda"):
        return f"reference (cpu, cuda: x is on {x.device})"
    refusal = cpu.refusal() if device == "cpu" else cuda.refusal(x.get_device())
    return device if refusal is None else f"reference ({device}: {refusal})"


def _check_neuron(neuron: Equation) -> None:
    if not isinstance(neuron, Equation):
        remedy = "A layer is called: layer(x, return_state=True). A class is made: LIF()."
        raise TypeError(f"scan takes an equation of snnkit.equations, got {type(neuron).__name__}. {remedy}")


def _check_input(x: Tensor) -> None:
    if not isinstance(getattr(x, "dtype", None), torch.dtype):
        raise TypeError(f"scan expects a tensor x, got {type(x).__name__}. Write torch.as_tensor(x).")
    if x.ndim < 2:
        raise ValueError(f"scan expects x as [T, B, ...], at least 2 axes, got {tuple(x.shape)}.")
    if x.dtype not in _DTYPES:
        raise TypeError(f"scan expects a floating x, got {x.dtype}. Convert it: x.float().")
    if x.layout != torch.strided:
        raise TypeError(f"scan expects a dense x, got one of {x.layout}. Convert it: x.to_dense().")


def _check_steps(steps: Any, x: Tensor) -> None:
    if isinstance(steps, bool) or not isinstance(steps, (int, torch.SymInt)):
        raise TypeError(f"steps must be a whole number or None, got {steps!r}.")
    if steps < 0:
        raise ValueError(f"steps must be >= 0, got {steps}.")
    if x.shape[0] != 1:
        raise ValueError(f"steps={steps} reads a single row again and again, but x has {x.shape[0]} rows: give x[:1].")
