"""The traced lists run by torch, forward and backward: for devices without a kernel and machines without a compiler.

The same lists that become kernels, node by node on whole rows. No autograd: it is switched off where operators run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snnkit.ops.layout import like, row_like
from snnkit.ops.program import Program
from snnkit.ops.reference import TensorValue
from snnkit.ops.scan_call import compute_dtype


class Lists:
    """The two lists of a program for one call: a step, and its reverse."""

    def __init__(self, program: Program, x: Tensor, coefficients: Sequence[Tensor], numbers: Sequence[float]) -> None:
        self.program, self.x = program, x
        self.dtype = compute_dtype(x)
        nodes = program.step.trace.nodes
        self.known: dict[int, Any] = {
            i: v != 0.0 if nodes[i].is_condition else float(v)
            for i, v in zip(program.number_coefficients, numbers, strict=False)
        }
        for i, c in zip(program.tensor_coefficients, coefficients, strict=True):
            self.known[i] = TensorValue(c != 0 if nodes[i].is_condition else c, None)
        self.initial = numbers[len(program.number_coefficients) :]

    def lane(self, tensor: Tensor) -> TensorValue:
        """A row as a value of the step."""
        return TensorValue(tensor.to(self.dtype), self.dtype)

    def at(self, t: int, states: dict[str, Tensor], repeated: bool) -> dict[int, Any]:
        """What a step knows: coefficients, its row of x, the states before it."""
        step = self.program.step
        here = {step.before[n]: self.lane(v) for n, v in states.items()}
        return self.known | here | {step.x: self.lane(self.x[0 if repeated else t])}

    def value(self, index: int, known: dict[int, Any]) -> Tensor:
        """The value of a node on a whole row."""
        found = self.program.evaluate(index, known)
        shape = self.x.shape[1:]
        if not isinstance(found, TensorValue):
            return self.x.new_full(shape, float(found), dtype=self.dtype)
        return found.tensor.to(self.dtype).expand(shape)

    def after(self, known: dict[int, Any]) -> dict[str, Tensor]:
        """The states after a step."""
        return {n: self.value(i, known) for n, i in self.program.step.after.items()}

    def start(self, before: Sequence[Tensor]) -> dict[str, Tensor]:
        """The states before the first step."""
        if before:
            return dict(zip(self.program.states, before, strict=True))
        shape = self.x.shape[1:]
        rows = [self.x.new_full(shape, v, dtype=self.dtype) for v in self.initial]
        return dict(zip(self.program.states, rows, strict=True))


@torch.no_grad()
def forward(
    program: Program, record: tuple[str, ...], final: bool,
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int,
) -> list[Tensor]:  # fmt: skip
    """As ``scan_cpu.forward``."""
    lists = Lists(program, x, coefficients, numbers)
    total = len(x) if steps < 0 else steps
    out, traces = like(x, total, x.dtype), [like(x, total, lists.dtype) for _ in record]
    states = lists.start(before)
    for t in range(total):
        known = lists.at(t, states, steps >= 0)
        out[t] = lists.value(program.step.output, known)
        states = lists.after(known)
        for trace, name in zip(traces, record, strict=True):
            trace[t] = states[name]
    after = [row_like(x, lists.dtype).copy_(states[n]) for n in program.states] if final else []
    return [out, *after, *traces]


@torch.no_grad()
def backward(
    program: Program, record: tuple[str, ...], final: bool, gradients: Sequence[Tensor | None],
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int,
) -> list[Tensor]:  # fmt: skip
    """As ``scan_cpu.backward``; keeps the states of all steps."""
    lists = Lists(program, x, coefficients, numbers)
    total, repeated = len(x) if steps < 0 else steps, steps >= 0
    count = len(program.states) if final else 0
    g_output, g_last, g_traces = gradients[0], gradients[1 : 1 + count], gradients[1 + count :]
    history, states = [], lists.start(before)
    for t in range(total):
        history.append(states)
        states = lists.after(lists.at(t, states, repeated))

    zero = x.new_zeros(x.shape[1:], dtype=lists.dtype)
    g = {n: zero for n in program.states}
    g |= {n: v.to(lists.dtype) for n, v in zip(program.states, g_last, strict=False) if v is not None}
    g_x = like(x, len(x), lists.dtype).zero_()
    sums = {i: x.new_zeros(x.shape[1:], dtype=torch.float64) for i in program.g_coefficients}
    for t in range(total - 1, -1, -1):
        for name, trace in zip(record, g_traces, strict=True):
            g[name] = g[name] if trace is None else g[name] + trace[t]
        known = lists.at(t, history[t], repeated)
        known[program.g_output] = lists.lane(zero if g_output is None else g_output[t])
        known |= {i: lists.lane(g[n]) for n, i in program.g_after.items()}
        g_x[0 if repeated else t] += lists.value(program.g_x, known)
        for i, index in program.g_coefficients.items():
            sums[i] += lists.value(index, known)
        g = {n: lists.value(i, known) for n, i in program.g_before.items()}

    found = [c.new_zeros(c.shape) for c in coefficients]
    for k, i in enumerate(program.tensor_coefficients):
        if i in sums:
            found[k] += sums[i].sum(0).sum_to_size(coefficients[k].shape).to(found[k].dtype)
    g_before = [row_like(x, lists.dtype).copy_(g[n]) for n in program.states] if before else []
    return [g_x.to(x.dtype), *found, *g_before]
