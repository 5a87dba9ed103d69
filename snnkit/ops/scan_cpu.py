"""The scan on the CPU: generated text and ``cuda/scan_host.cpp``, compiled once and called through one pointer."""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snnkit.ops import cpu
from snnkit.ops.codegen import prelude
from snnkit.ops.layout import Layout, like, row_like
from snnkit.ops.program import Program
from snnkit.ops.sources import source

_FIELDS = (
    "steps", "rows", "lanes", "segments", "threads", "numbers", "coefficients", "x", "x_step", "x_row", "before", "s",
    "after", "traces", "g_s", "g_step", "g_row", "g_after", "g_traces", "g_x", "g_x_step", "g_before", "g_coefficients",
)  # fmt: skip
_pack = struct.Struct(f"{len(_FIELDS)}q").pack  # three times as quick as filling a ctypes array
_SMALL = 1 << 15  # lanes x steps below which waking the second thread costs more than it saves
_SEGMENTS = 16  # parts of the batch whose parameter gradients are summed apart: set by the shape, not by the threads


def _arguments(**given: int) -> bytes:
    """``struct Arguments`` of ``cuda/scan_host.cpp``; what is not given is 0."""
    return _pack(*[given.get(name, 0) for name in _FIELDS])


def text(program: Program, dtype: torch.dtype, layout: str, record: Sequence[str]) -> str:
    """The C++ text of a kernel, as it is compiled."""
    real = "double" if dtype == torch.float64 else "float"
    return source("math.h") + "\n" + prelude(program, real, layout, record) + "\n" + source("scan_host.cpp")


class Kernel:
    """One compiled kernel: forward and backward for a program, a number type and a layout of the coefficients."""

    def __init__(self, program: Program, dtype: torch.dtype, layout: str, record: Sequence[str]) -> None:
        library = cpu.library(text(program, dtype, layout, record))
        self.forward, self.backward, self.blocks = library.scan_forward, library.scan_backward, library.scan_blocks
        for function in (self.forward, self.backward, self.blocks):
            function.argtypes = [ctypes.c_void_p]
            function.restype = None
        self.blocks.restype = ctypes.c_int64


class _Constants:
    """Numbers as the kernel reads them. They are only read, so calls may share them."""

    def __init__(self, numbers: tuple[float, ...]) -> None:
        self.values = (ctypes.c_double * len(numbers))(*numbers)
        self.address = ctypes.addressof(self.values)


_constants = functools.lru_cache(maxsize=1024)(_Constants)


_kernels: dict[tuple[Any, ...], Kernel] = {}


def kernel(program: Program, dtype: torch.dtype, layout: str, record: tuple[str, ...]) -> Kernel:
    """The compiled kernel, from memory after the first time."""
    key = (program.key, dtype, layout, record)
    found = _kernels.get(key)
    if found is None:
        found = _kernels[key] = Kernel(program, dtype, layout, record)
    return found


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the states: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _pointers(tensors: Sequence[Tensor | None]) -> Any:
    return (ctypes.c_int64 * len(tensors))(*[0 if t is None else t.data_ptr() for t in tensors])


def _coefficients(coefficients: Sequence[Tensor], layout: Layout, dtype: torch.dtype) -> tuple[str, list[Tensor]]:
    """Which coefficients are one value and which a value a lane, and both ready for the kernel."""
    letters = "".join("s" if c.numel() == 1 else "l" for c in coefficients)
    ready = [
        (c if letter == "s" else layout.lane_values(c)).to(dtype).contiguous()
        for c, letter in zip(coefficients, letters, strict=True)
    ]
    return letters, ready


def _rows_and_lanes(layout: Layout, letters: str, rows_are_dense: bool) -> tuple[int, int]:
    """Rows that lie side by side are one long row, unless a coefficient differs from lane to lane."""
    if rows_are_dense and "l" not in letters:
        return 1, layout.rows * layout.lanes
    return layout.rows, layout.lanes


# Most calls are simple: x in one piece, no tensors beside it. A small call is all overhead, so these go a short way.


def simple_forward(program: Program, x: Tensor, numbers: Sequence[float]) -> Tensor:
    """The output of a simple call."""
    out, total, size = torch.empty_like(x), x.shape[0], x.numel()
    lanes, threads, constants = size // total, cpu.threads() if size > _SMALL else 1, _constants(tuple(numbers))
    arguments = _pack(
        total, 1, lanes, 1, threads, constants.address, 0, x.data_ptr(), lanes, 0, 0, out.data_ptr(), 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    kernel(program, x.dtype, "", ()).forward(arguments)
    return out


def simple_backward(program: Program, g: Tensor, x: Tensor, numbers: Sequence[float]) -> Tensor:
    """The gradient of a simple call; g lies like x."""
    g_x, total, size = torch.empty_like(x), x.shape[0], x.numel()
    lanes, threads, constants = size // total, cpu.threads() if size > _SMALL else 1, _constants(tuple(numbers))
    arguments = _pack(
        total, 1, lanes, 1, threads, constants.address, 0, x.data_ptr(), lanes, 0, 0, 0, 0, 0, g.data_ptr(), lanes, 0,
        0, 0, g_x.data_ptr(), lanes, 0, 0,
    )  # fmt: skip
    kernel(program, x.dtype, "", ()).backward(arguments)
    return g_x


def forward(
    program: Program, record: tuple[str, ...], final: bool,
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int,
) -> list[Tensor]:  # fmt: skip
    """Output, last states (if ``final``) and traces; ``steps`` < 0 takes a row of x for each step."""
    dtype = compute_dtype(x)
    total = len(x) if steps < 0 else steps
    out = like(x, total, dtype)
    after = [row_like(x, dtype) for _ in program.states] if final else []
    traces = [like(x, total, dtype) for _ in record]
    layout = Layout.of(x if x.dtype == dtype else x.to(dtype))
    row = layout.x
    letters, ready = _coefficients(coefficients, layout, dtype)
    start = [layout.aligned(state, 1, dtype) for state in before]
    rows, lanes = _rows_and_lanes(layout, letters, layout.rows < 2 or row.stride(1) == layout.lanes)
    constants = _constants(tuple(numbers))
    tables = [_pointers(t) for t in (ready, start, after, traces)]
    at = ctypes.addressof
    arguments = _arguments(
        steps=total, rows=rows, lanes=lanes, threads=cpu.threads() if rows * lanes * total > _SMALL else 1,
        numbers=constants.address, coefficients=at(tables[0]), x=row.data_ptr(),
        x_step=0 if steps >= 0 else row.stride(0), x_row=row.stride(1), before=at(tables[1]) if start else 0,
        s=out.data_ptr(), after=at(tables[2]) if after else 0, traces=at(tables[3]) if traces else 0,
    )  # fmt: skip
    if out.numel() or (after and after[0].numel()):
        kernel(program, dtype, letters, record).forward(arguments)
    return [out if x.dtype == dtype else out.to(x.dtype), *after, *traces]


def backward(
    program: Program, record: tuple[str, ...], final: bool, gradients: Sequence[Tensor | None],
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int,
) -> list[Tensor]:  # fmt: skip
    """Gradients of x, of the coefficients and of the first states, from those of what ``forward`` returned."""
    dtype = compute_dtype(x)
    total = len(x) if steps < 0 else steps
    g_x = like(x, len(x), dtype)
    g_before = [row_like(x, dtype) for _ in before]
    layout = Layout.of(x if x.dtype == dtype else x.to(dtype))
    row = layout.x
    letters, ready = _coefficients(coefficients, layout, dtype)
    start = [layout.aligned(state, 1, dtype) for state in before]
    count = len(program.states) if final else 0
    g_s = gradients[0] if gradients[0] is None else _sequence(gradients[0], layout, dtype)
    g_after = [g if g is None else layout.aligned(g, 1, dtype) for g in gradients[1 : 1 + count]]
    g_traces = [g if g is None else layout.aligned(g, 2, dtype) for g in gradients[1 + count :]]
    dense = layout.rows < 2 or (row.stride(1) == layout.lanes and (g_s is None or g_s.stride(1) == layout.lanes))
    rows, lanes = _rows_and_lanes(layout, letters, dense)
    segments = min(rows, _SEGMENTS) if "l" in letters else rows
    constants = _constants(tuple(numbers))
    tables = [_pointers(t) for t in (ready, start, g_after, g_traces, g_before)]
    at = ctypes.addressof
    given = dict(
        steps=total, rows=rows, lanes=lanes, segments=segments,
        threads=cpu.threads() if rows * lanes * total > _SMALL else 1, numbers=constants.address,
        coefficients=at(tables[0]), x=row.data_ptr(), x_step=0 if steps >= 0 else row.stride(0), x_row=row.stride(1),
        before=at(tables[1]) if start else 0, g_after=at(tables[2]) if g_after else 0,
        g_traces=at(tables[3]) if g_traces else 0, g_x=g_x.data_ptr(),
        g_x_step=0 if steps >= 0 else rows * lanes, g_before=at(tables[4]) if g_before else 0,
    )  # fmt: skip
    if g_s is not None:
        given |= dict(g_s=g_s.data_ptr(), g_step=g_s.stride(0), g_row=g_s.stride(1))
    run = kernel(program, dtype, letters, record)
    sums: list[Tensor | None] = []
    if coefficients:
        blocks = run.blocks(_arguments(**given))
        for index, letter in zip(program.tensor_coefficients, letters, strict=True):
            shape = (segments, lanes) if letter == "l" else (segments * blocks,)
            wanted = index in program.g_coefficients
            sums.append(x.new_zeros(shape, dtype=torch.float64) if wanted else None)
    g_coefficients = _pointers(sums)
    if total == 0:
        g_x.zero_()
    if x.numel() or g_before:
        run.backward(_arguments(**given, g_coefficients=at(g_coefficients)))
    found = []
    for coefficient, letter, values in zip(coefficients, letters, sums, strict=True):
        if values is None:
            found.append(coefficient.new_zeros(coefficient.shape))
        else:
            total_g = values.sum() if letter == "s" else layout.from_lanes(values.sum(0), coefficient.shape)
            found.append(total_g.to(coefficient.dtype).reshape(coefficient.shape).contiguous())
    return [g_x if x.dtype == dtype else g_x.to(x.dtype), *found, *g_before]


def _sequence(g: Tensor, layout: Layout, dtype: torch.dtype) -> Tensor:
    """A gradient ``[T, B, ...]`` with its features in the layout's order, side by side; copied only if they are not."""
    if g.is_contiguous() and layout.order == tuple(range(2, g.ndim)):
        return g if g.dtype == dtype else g.to(dtype)
    return layout.aligned(g, 2, dtype)
