"""The scan as two operators, forward and backward, so that graphs, fake tensors and transforms know what it does.

An operator takes tensors, numbers and a key; the key names the program, what is recorded, and whether the last state is
returned. On CPU and CUDA it runs a compiled kernel; elsewhere, and where nothing can be compiled, the lists in torch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnkit.ops import cpu, cuda, played_back, scan_cpu, scan_cuda
from snnkit.ops.layout import like, row_like
from snnkit.ops.program import Program, program_by_key
from snnkit.ops.registered import Registered
from snnkit.ops.scan_call import compute_dtype


class _Kind(NamedTuple):
    """What a key stands for: the program, the states that are recorded, and whether the last state is returned."""

    program: Program
    record: tuple[str, ...]
    final: bool


@functools.cache
def kind_of(key: str) -> _Kind:
    """Read a key: program, recorded states, 1 or 0 for the last state."""
    name, record, final = key.split("|")
    return _Kind(program_by_key[name], tuple(record.split(",")) if record else (), final == "1")


@functools.cache
def with_gradient(key: str) -> tuple[bool, ...]:
    """For each coefficient, whether a gradient reaches it; of the others the operator returns zeros."""
    program = kind_of(key).program
    return tuple(i in program.g_coefficients for i in program.tensor_coefficients)


def implementation(x: Tensor) -> ModuleType:
    """The file whose forward and backward a call with x takes."""
    if x.is_cpu:
        return scan_cpu if cpu.refusal() is None else played_back
    return scan_cuda if x.is_cuda and cuda.refusal(x.get_device()) is None else played_back


def _forward(
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int, key: str
) -> list[Tensor]:
    kind = kind_of(key)
    return implementation(x).forward(kind.program, kind.record, kind.final, x, coefficients, before, numbers, steps)


def _backward(
    gradients: Sequence[Tensor | None], x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor],
    numbers: Sequence[float], steps: int, key: str,
) -> list[Tensor]:  # fmt: skip
    kind = kind_of(key)
    run = implementation(x).backward
    return run(kind.program, kind.record, kind.final, gradients, x, coefficients, before, numbers, steps)


def _fake_forward(
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int, key: str
) -> list[Tensor]:
    kind, dtype = kind_of(key), compute_dtype(x)
    total = x.shape[0] if isinstance(steps, int) and steps < 0 else steps
    after = [row_like(x, dtype) for _ in kind.program.states] if kind.final else []
    return [like(x, total, x.dtype), *after, *(like(x, total, dtype) for _ in kind.record)]


def _fake_backward(
    gradients: Sequence[Tensor | None], x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor],
    numbers: Sequence[float], steps: int, key: str,
) -> list[Tensor]:  # fmt: skip
    dtype = compute_dtype(x)
    g_coefficients = [c.new_empty(c.shape) for c in coefficients]
    return [like(x, x.shape[0], x.dtype), *g_coefficients, *(row_like(x, dtype) for _ in before)]


# vmap: the batch joins the rows, or, where a coefficient has a value or a gradient a sample, the samples take turns.


def _forward_vmap(
    info: Any, dims: Any, x: Any, coefficients: Any, before: Any, numbers: Any, steps: int, key: str
) -> Any:
    x_dim, c_dims, b_dims, *_ = dims
    if any(d is not None for d in c_dims):
        rows = [
            scan_forward.op(
                _at(x, x_dim, i), _all_at(coefficients, c_dims, i), _all_at(before, b_dims, i), numbers, steps, key
            )
            for i in range(info.batch_size)
        ]
        out = [torch.stack(column) for column in zip(*rows, strict=True)]
        return out, [0] * len(out)
    n = info.batch_size
    folded = scan_forward.op(
        _folded(x, x_dim, n, 1), coefficients, [_folded(b, d, n, 0) for b, d in zip(before, b_dims, strict=True)],
        numbers, steps, key,
    )  # fmt: skip
    kind = kind_of(key)
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
            scan_backward.op(
                _all_at(gradients, g_dims, i), _at(x, x_dim, i), _all_at(coefficients, c_dims, i),
                _all_at(before, b_dims, i), numbers, steps, key,
            )
            for i in range(n)
        ]  # fmt: skip
        out = [torch.stack(column) for column in zip(*rows, strict=True)]
        return out, [0] * len(out)
    kind = kind_of(key)
    count = len(kind.program.states) if kind.final else 0
    axes = [1] + [0] * count + [1] * len(kind.record)
    folded = scan_backward.op(
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
    if dim is None:
        tensor = tensor.unsqueeze(axis).expand(*tensor.shape[:axis], n, *tensor.shape[axis:])
    else:
        tensor = tensor.movedim(dim, axis)
    return tensor.flatten(axis, axis + 1)


_COMMON = "Tensor x, Tensor[] coefficients, Tensor[] before, float[] numbers, SymInt steps, str key"
scan_forward = Registered(f"scan({_COMMON}) -> Tensor[]", _forward, _fake_forward, _forward_vmap, ("CPU", "CUDA"))
"""Output, last states if the key asks for them, and traces."""
scan_backward = Registered(
    f"scan_backward(Tensor?[] gradients, {_COMMON}) -> Tensor[]",
    _backward, _fake_backward, _backward_vmap, ("CPU", "CUDA"),
)
"""Gradients of x, the coefficients, and the states to start from, given those of what ``scan_forward`` returned."""
