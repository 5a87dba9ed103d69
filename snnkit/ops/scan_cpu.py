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
from snnkit.ops.division import Division, divisions_of
from snnkit.ops.program import Program
from snnkit.ops.scan_call import Call, compute_dtype
from snnkit.ops.sources import source

_FIELDS = (
    "steps", "rows", "lanes", "segments", "threads", "numbers", "coefficients", "x", "x_step", "x_row", "before", "s",
    "after", "traces", "g_s", "g_step", "g_row", "g_after", "g_traces", "g_x", "g_x_step", "g_before", "g_coefficients",
    "starts",
)  # fmt: skip
_pack = struct.Struct(f"{len(_FIELDS)}q").pack  # three times as quick as filling a ctypes array
_SMALL = 1 << 15  # lanes x steps below which waking the second thread costs more than it saves
_SEGMENTS = 16  # parts of the batch whose parameter gradients are summed apart: set by the shape, not by the threads


def _arguments(**given: int) -> bytes:
    """``struct Arguments`` of ``cuda/scan_host.cpp``; what is not given is 0."""
    return _pack(*[given.get(name, 0) for name in _FIELDS])


def text(program: Program, dtype: torch.dtype, layout: str, record: Sequence[str], products: bool = False) -> str:
    """The C++ text of a kernel, as it is compiled; with ``products`` where all its divisors are powers of two."""
    real = "double" if dtype == torch.float64 else "float"
    parts = source("math.h"), prelude(program, real, layout, record), source("scan_host.cpp")
    return "\n".join([*(["#define SNN_PRODUCTS"] if products else []), *parts])


class Kernel:
    """One compiled kernel: forward and backward for a program, a number type and a layout of the coefficients.

    ``products``: all divisors are powers of two, and it multiplies with their inverses.
    """

    def __init__(
        self, program: Program, dtype: torch.dtype, layout: str, record: Sequence[str], products: bool
    ) -> None:
        library = cpu.library(text(program, dtype, layout, record, products))
        self.forward, self.backward, self.blocks = library.scan_forward, library.scan_backward, library.scan_blocks
        for function in (self.forward, self.backward, self.blocks):
            function.argtypes = [ctypes.c_void_p]
            function.restype = None
        self.blocks.restype = ctypes.c_int64
        library.scan_chunks.argtypes, library.scan_chunks.restype = [ctypes.c_int64], ctypes.c_int64
        states = len(program.states)
        self.starts = functools.cache(lambda steps: states * library.scan_chunks(steps))  # numbers a lane


class _Constants:
    """Numbers as the kernel reads them. They are only read, so calls may share them."""

    def __init__(self, numbers: tuple[float, ...]) -> None:
        self.values = (ctypes.c_double * len(numbers))(*numbers)
        self.address = ctypes.addressof(self.values)


_constants = functools.lru_cache(maxsize=1024)(_Constants)


_kernels: dict[tuple[Any, ...], Kernel] = {}


def kernel(
    program: Program, numbers: tuple[float, ...], dtype: torch.dtype, layout: str, record: tuple[str, ...]
) -> Kernel:
    """The compiled kernel, from memory after the first time."""
    products = {*divisions_of(program, numbers, dtype)} == {Division.PRODUCT}
    key = (program.key, dtype, layout, record, products)
    found = _kernels.get(key)
    if found is None:
        found = _kernels[key] = Kernel(program, dtype, layout, record, products)
    return found


def _pointers(tensors: Sequence[Tensor | None]) -> Any:
    return (ctypes.c_int64 * len(tensors))(*[0 if t is None else t.data_ptr() for t in tensors])


# Most calls are simple: x in one piece, no tensors beside it. A small call is all overhead, so these go a short way.


@functools.lru_cache(maxsize=1024)
def _prepared(program: Program, numbers: tuple[float, ...], dtype: torch.dtype) -> tuple[Kernel, _Constants]:
    return kernel(program, numbers, dtype, "", ()), _constants(numbers)


def simple_forward(
    program: Program, x: Tensor, numbers: tuple[float, ...], keep: bool
) -> tuple[Tensor, Tensor | None, tuple[Kernel, _Constants]]:
    """The output of a simple call; to ``keep`` for a backward, the states before each chunk, if many, and its way."""
    out, total, size = torch.empty_like(x), x.shape[0], x.numel()
    lanes, threads, prepared = size // total, _threads(size), _prepared(program, numbers, x.dtype)
    run, constants = prepared
    starts = run.starts(total) if keep else 0
    kept = x.new_empty(starts * lanes) if starts else None
    arguments = _pack(
        total, 1, lanes, 1, threads, constants.address, 0, x.data_ptr(), lanes, 0, 0, out.data_ptr(), 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0 if kept is None else kept.data_ptr(),
    )  # fmt: skip
    run.forward(arguments)
    return out, kept, prepared


def simple_backward(g: Tensor, x: Tensor, kept: Tensor | None, back: tuple[Kernel, _Constants]) -> Tensor:
    """The gradient of a simple call; g lies like x."""
    g_x, total, size, (run, constants) = torch.empty_like(x), x.shape[0], x.numel(), back
    lanes = size // total
    arguments = _pack(
        total, 1, lanes, 1, _threads(size), constants.address, 0, x.data_ptr(), lanes, 0, 0, 0, 0, 0, g.data_ptr(),
        lanes, 0, 0, 0, g_x.data_ptr(), lanes, 0, 0, 0 if kept is None else kept.data_ptr(),
    )  # fmt: skip
    run.backward(arguments)
    return g_x


def forward(
    program: Program, record: tuple[str, ...], final: bool,
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int,
) -> list[Tensor]:  # fmt: skip
    """Output, last states (if ``final``) and traces; ``steps`` < 0 takes a row of x for each step."""
    call = Call(x, coefficients, before, steps, compute_dtype(x))
    out = call.sequence_like(call.total)
    after = [call.row_like() for _ in program.states] if final else []
    traces = [call.trace_like() for _ in record]
    rows, lanes = call.rows_and_lanes()
    numbers = tuple(numbers)
    constants = _constants(numbers)
    tables = [_pointers(t) for t in (call.coefficients, call.before, after, traces)]
    at = ctypes.addressof
    arguments = _arguments(
        steps=call.total, rows=rows, lanes=lanes, threads=_threads(rows * lanes * call.total),
        numbers=constants.address, coefficients=at(tables[0]), x=call.x.data_ptr(),
        x_step=call.x_step, x_row=call.x.stride(1), before=at(tables[1]) if call.before else 0,
        s=out.data_ptr(), after=at(tables[2]) if after else 0, traces=at(tables[3]) if traces else 0,
    )  # fmt: skip
    if out.numel() or (after and after[0].numel()):
        kernel(program, numbers, call.dtype, call.letters, record).forward(arguments)
    return [call.returned(out), *after, *traces]


def backward(
    program: Program, record: tuple[str, ...], final: bool, gradients: Sequence[Tensor | None],
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int,
) -> list[Tensor]:  # fmt: skip
    """Gradients of x, of the coefficients and of the first states, from those of what ``forward`` returned."""
    call = Call(x, coefficients, before, steps, compute_dtype(x))
    g_x = call.sequence_like(len(x))
    g_before = [call.row_like() for _ in before]
    g_s, g_after, g_traces = call.arriving(program, final, gradients)
    rows, lanes = call.rows_and_lanes(g_s)
    segments = min(rows, _SEGMENTS) if "l" in call.letters else rows
    numbers = tuple(numbers)
    constants = _constants(numbers)
    tables = [_pointers(t) for t in (call.coefficients, call.before, g_after, g_traces, g_before)]
    at = ctypes.addressof
    given = dict(
        steps=call.total, rows=rows, lanes=lanes, segments=segments, threads=_threads(rows * lanes * call.total),
        numbers=constants.address, coefficients=at(tables[0]), x=call.x.data_ptr(), x_step=call.x_step,
        x_row=call.x.stride(1), before=at(tables[1]) if call.before else 0, g_after=at(tables[2]) if g_after else 0,
        g_traces=at(tables[3]) if g_traces else 0, g_x=g_x.data_ptr(),
        g_x_step=0 if call.repeated else rows * lanes, g_before=at(tables[4]) if g_before else 0,
    )  # fmt: skip
    if g_s is not None:
        given |= dict(g_s=g_s.data_ptr(), g_step=g_s.stride(0), g_row=g_s.stride(1))
    run = kernel(program, numbers, call.dtype, call.letters, record)
    sums: list[Tensor | None] = []
    if coefficients:
        blocks = run.blocks(_arguments(**given))
        for index, letter in zip(program.tensor_coefficients, call.letters, strict=True):
            shape = (segments, lanes) if letter == "l" else (segments * blocks,)
            wanted = index in program.g_coefficients
            sums.append(x.new_zeros(shape, dtype=torch.float64) if wanted else None)
    g_coefficients = _pointers(sums)
    if call.total == 0:
        g_x.zero_()
    if x.numel() or g_before:
        run.backward(_arguments(**given, g_coefficients=at(g_coefficients)))
    return [call.returned(g_x), *call.coefficient_gradients(coefficients, sums), *g_before]


def _threads(size: int) -> int:
    return cpu.threads() if size > _SMALL else 1
