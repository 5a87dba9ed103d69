"""The recurrent scan as two operators, forward and backward, which graphs, fake tensors and transforms know.

The forward returns the output behind the past that it was given (a view of it would have an offset that graphs of
torch 2.9 cannot follow), last states, traces, and three tensors for the backward: the current of each step, the
states before each step, and (with taps) what went into the products. Without ``keep`` these three are empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snnkit.ops.recurrent_loop import backward_loop, forward_loop
from snnkit.ops.registered import Registered
from snnkit.ops.scan_operator import kind_of

Kept = tuple[Tensor, Tensor, Tensor]


def _fake_forward(
    x: Tensor, weight: Tensor, taps: Tensor | None, mask: Tensor | None, past: Tensor, coefficients: Sequence[Tensor],
    before: Sequence[Tensor], numbers: Sequence[float], key: str, keep: bool,
) -> list[Tensor]:  # fmt: skip
    kind, (steps, batch, size) = kind_of(key), x.shape
    after = [x.new_empty(batch, size) for _ in kind.program.states] if kind.final else []
    traces = [x.new_empty(x.shape) for _ in kind.record]
    kept = steps if keep else 0
    current, mixed = x.new_empty(kept, batch, size), x.new_empty(0 if taps is None else kept, batch, size)
    out = x.new_empty(len(past) + steps, batch, size)
    return [out, *after, *traces, current, x.new_empty(kept, batch, len(before), size), mixed]


def _fake_backward(
    gradients: Sequence[Tensor | None], weight: Tensor, taps: Tensor | None, mask: Tensor | None, past: Tensor,
    out: Tensor, current: Tensor, history: Tensor, mixed: Tensor, coefficients: Sequence[Tensor],
    before: Sequence[Tensor], numbers: Sequence[float], key: str,
) -> list[Tensor]:  # fmt: skip
    g_taps = out.new_empty(0 if taps is None else taps.shape)
    found = [out.new_empty(out.shape), out.new_empty(weight.shape), g_taps, out.new_empty(past.shape)]
    return [*found, *(c.new_empty(c.shape) for c in coefficients), *(out.new_empty(b.shape) for b in before)]


def _taking_turns(name: str) -> Any:
    """The rule of vmap: the samples take turns, since each may have weights, or a gradient of them, of its own."""

    def rule(info: Any, dims: Any, *arguments: Any) -> Any:
        op = getattr(torch.ops.snnkit, name).default
        rows = [op(*[_at(a, d, i) for a, d in zip(arguments, dims, strict=True)]) for i in range(info.batch_size)]
        out = [torch.stack(column) for column in zip(*rows, strict=True)]
        return out, [0] * len(out)

    return rule


def _at(value: Any, dim: Any, i: int) -> Any:
    if isinstance(value, (list, tuple)) and isinstance(dim, (list, tuple)):
        return [_at(v, d, i) for v, d in zip(value, dim, strict=True)]
    return value.select(dim, i) if isinstance(value, Tensor) and dim is not None else value


_COMMON = "Tensor weight, Tensor? taps, Tensor? mask, Tensor past"
_REST = "Tensor[] coefficients, Tensor[] before, float[] numbers, str key"
_KEPT = "Tensor out, Tensor current, Tensor history, Tensor mixed"
recurrent_forward = Registered(
    f"recurrent(Tensor x, {_COMMON}, {_REST}, bool keep) -> Tensor[]",
    forward_loop, _fake_forward, _taking_turns("recurrent"), ("CPU", "CUDA"),
)  # fmt: skip
"""Past and output, last states if the key asks for them, traces, and what the backward needs."""
recurrent_backward = Registered(
    f"recurrent_backward(Tensor?[] gradients, {_COMMON}, {_KEPT}, {_REST}) -> Tensor[]",
    backward_loop, _fake_backward, _taking_turns("recurrent_backward"), ("CPU", "CUDA"),
)  # fmt: skip
"""Gradients of x, weight, taps (empty without), past, the coefficients and the first states."""
