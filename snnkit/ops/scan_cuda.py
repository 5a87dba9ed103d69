"""The scan on the GPU: generated text, ``cuda/scan.cu`` and ``scan_backward.cu``, compiled for a cut of the work."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnkit.ops import cuda
from snnkit.ops.codegen import divisors, prelude
from snnkit.ops.cuda import Function
from snnkit.ops.division import Division, divisions_of
from snnkit.ops.program import Program
from snnkit.ops.scan_call import Call, compute_dtype
from snnkit.ops.scan_work import Work, backward_work, forward_work
from snnkit.ops.sources import source

IO = {torch.float32: "float", torch.float64: "double", torch.float16: "half", torch.bfloat16: "bfloat16"}
"""What a dtype is called in the texts."""

_PARTS = 1 << 19  # values a lane whose parameter gradients are summed apart: set by the shape alone


def text(program: Program, dtype: torch.dtype, letters: str, record: Sequence[str], work: Work, which: str) -> str:
    """The CUDA text of a kernel, as it is compiled; ``which`` is ``FORWARD`` or ``BACKWARD``."""
    real = "double" if dtype == torch.float64 else "float"
    divisions = work.divisions or (Division.DOUBLE,) * len(divisors(program))
    return "\n".join(
        [
            source("math.h"),
            f"#define SNN_{which}",
            f"constexpr int kWidth = {work.width}, kChunk = {work.chunk};",
            f"constexpr int kThreads = {work.threads}, kResident = {work.resident};",
            f"constexpr bool kOne = {work.one:d}, kStash = {work.stash:d};",
            f"constexpr bool kKeep = {work.keep:d}, kStill = {work.still:d};",
            f"constexpr bool kBare = {work.bare:d}, kAhead = {work.ahead:d};",
            *(
                f"constexpr int kDivision_{program.name_of(i)} = {division:d};"
                for i, division in zip(divisors(program), divisions, strict=True)
            ),
            f"typedef {real} real;",
            source("divide.cuh"),
            source("lanes.cuh"),
            f"typedef {IO[dtype]} io;",
            prelude(program, real, letters, record),
            source("scan.cu"),
            *([source("block_sum.cuh"), source("scan_backward.cu")] if which == "BACKWARD" else []),
        ]
    )


class Kernel:
    """One compiled kernel, and how its arguments are packed (``struct Arguments`` of ``cuda/scan.cu``)."""

    def __init__(
        self, program: Program, dtype: torch.dtype, letters: str, record: Sequence[str], work: Work, which: str,
        device: int,
    ) -> None:  # fmt: skip
        self.function = Function(
            text(program, dtype, letters, record, work, which), f"scan_{which.lower()}", device
        )
        self.work = work
        states, tensors, traces = len(program.states), max(len(letters), 1), max(len(record), 1)
        self.sizes = (tensors, states, states, traces, states, traces, states, tensors)
        numbers = max(len(program.number_coefficients) + states, 1)
        self.pack = struct.Struct(f"{14 + sum(self.sizes)}q{numbers}d").pack
        self.nothing = (0,) * sum(self.sizes)

    def blocks(self, segments: int, lanes: int) -> int:
        """Blocks of a launch."""
        return -(-segments * (lanes // self.work.width) // self.work.threads)

    def pointers(self, *groups: Sequence[Tensor | None]) -> list[int]:
        """Addresses for the arrays of the structure, 0 where there is no tensor."""
        found: list[int] = []
        for size, tensors in zip(self.sizes, groups, strict=True):
            found += [0 if t is None else t.data_ptr() for t in tensors] + [0] * (size - len(tensors))
        return found


_kernels: dict[tuple[Any, ...], Kernel] = {}


def kernel(
    program: Program, dtype: torch.dtype, letters: str, record: tuple[str, ...], work: Work, which: str, device: int
) -> Kernel:
    """The compiled kernel, from memory after the first time."""
    key = (program.key, dtype, letters, record, work, which, device)
    found = _kernels.get(key)
    if found is None:
        found = _kernels[key] = Kernel(program, dtype, letters, record, work, which, device)
    return found


# Most calls are simple: x in one piece, no tensors beside it. A small call is all overhead, so these go a short way.


class _Launch(NamedTuple):
    """All of a simple call's launch that does not change from call to call."""

    function: Function
    blocks: int
    threads: int
    shared: int
    starts: int  # numbers of working memory
    aligned: int  # bytes that x and the gradient must be aligned to
    tail: bytes  # the end of the arguments: no tensors, the numbers


class Return(NamedTuple):
    """What the backward of a simple call needs to know of its forward; in autograd's thread it would cost more."""

    steps: int
    lanes: int
    launch: _Launch


@functools.lru_cache(maxsize=4096)
def _launches(
    program: Program, numbers: tuple[float, ...], dtype: torch.dtype, steps: int, lanes: int, aligned: int, keep: bool,
    device: int,
) -> tuple[_Launch, Return | None]:  # fmt: skip
    """The forward of a simple call, and its backward if the forward shall ``keep`` what that wants."""
    states, divisions = len(program.states), divisions_of(program, numbers, dtype)
    work = forward_work(dtype, states, steps, lanes, aligned, divisions, bare=True)
    back = backward_work(dtype, states, steps, lanes, aligned, "", divisions, bare=True) if keep else work
    starts = back.starts(states, steps, lanes) if keep else 0
    if starts:
        work, back = work.keeping(back), back._replace(keep=True)

    def launch(work: Work, which: str) -> _Launch:
        run = kernel(program, dtype, "", (), work, which, device)
        tail = struct.pack(f"{len(run.nothing)}q{len(numbers)}d", *run.nothing, *numbers)
        blocks, shared = run.blocks(1, lanes), work.shared(dtype, states, steps)
        return _Launch(run.function, blocks, work.threads, shared, starts, work.width * dtype.itemsize, tail)

    return launch(work, "FORWARD"), Return(steps, lanes, launch(back, "BACKWARD")) if keep else None


_ALIGNED = 15  # an address further aligned than to 16 numbers is aligned enough
_pack = struct.Struct("14q").pack  # the start of the arguments


def simple_forward(
    program: Program, x: Tensor, numbers: tuple[float, ...], keep: bool
) -> tuple[Tensor, Tensor | None, Return | None]:
    """The output of a simple call; to ``keep`` for a backward, the states before each chunk, if many, and its way."""
    out, total, at = torch.empty_like(x), x.shape[0], x.data_ptr()
    lanes = x.numel() // total
    aligned = (lanes | at // x.itemsize) & _ALIGNED
    (run, blocks, threads, shared, starts, _, tail), back = _launches(
        program, numbers, x.dtype, total, lanes, aligned, keep, x.get_device()
    )  # fmt: skip
    kept = x.new_empty(starts, dtype=compute_dtype(x)) if starts else None
    memory = 0 if kept is None else kept.data_ptr()
    run(blocks, threads, shared, _pack(total, 1, lanes, 1, at, lanes, 0, out.data_ptr(), 0, 0, 0, 0, 0, memory) + tail)
    return out, kept, back


def simple_backward(g: Tensor, x: Tensor, kept: Tensor | None, back: Return) -> Tensor:
    """The gradient of a simple call; g lies like x, which may have moved since the forward."""
    total, lanes, (run, blocks, threads, shared, _, width, tail) = back
    g_x, at, g_at = torch.empty_like(x), x.data_ptr(), g.data_ptr()
    if at % width:
        x = x.clone()
        at = x.data_ptr()
    if g_at % width:
        g = g.clone()
        g_at = g.data_ptr()
    memory = 0 if kept is None else kept.data_ptr()
    head = _pack(total, 1, lanes, 1, at, lanes, 0, 0, g_at, lanes, 0, g_x.data_ptr(), lanes, memory)
    run(blocks, threads, shared, head + tail)
    return g_x


def forward(
    program: Program, record: tuple[str, ...], final: bool,
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int,
) -> list[Tensor]:  # fmt: skip
    """As ``scan_cpu.forward``."""
    call = Call(x, coefficients, before, steps, x.dtype)
    out = call.sequence_like(call.total)
    after = [call.row_like() for _ in program.states] if final else []
    traces = [call.trace_like() for _ in record]
    if not out.numel() and not (after and after[0].numel()):
        return [out, *after, *traces]
    rows, lanes = call.rows_and_lanes()
    aligned = lanes | call.x_step | (call.x.stride(1) if rows > 1 else 0) | _alignment(call.x, *call.before)
    divisions, bare = divisions_of(program, tuple(numbers), x.dtype), rows == 1 and not before and not final
    work = forward_work(x.dtype, len(program.states), call.total, rows * lanes, aligned, divisions, bare)
    run = kernel(program, x.dtype, call.letters, record, work, "FORWARD", x.get_device())
    arguments = run.pack(
        call.total, rows, lanes, rows, call.x.data_ptr(), call.x_step, call.x.stride(1), out.data_ptr(),
        0, 0, 0, 0, 0, 0,
        *run.pointers(call.coefficients, call.before, after, traces, (), (), (), ()), *numbers,
    )  # fmt: skip
    run.function(run.blocks(rows, lanes), work.threads, 0, arguments)
    return [out, *after, *traces]


def backward(
    program: Program, record: tuple[str, ...], final: bool, gradients: Sequence[Tensor | None],
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int,
) -> list[Tensor]:  # fmt: skip
    """As ``scan_cpu.backward``."""
    call = Call(x, coefficients, before, steps, x.dtype)
    g_x, sums, g_before = backward_sums(program, record, final, gradients, call, before, numbers)
    return [g_x, *call.coefficient_gradients(coefficients, sums), *g_before]


def backward_sums(
    program: Program, record: tuple[str, ...], final: bool, gradients: Sequence[Tensor | None],
    call: Call, before: Sequence[Tensor], numbers: Sequence[float],
) -> tuple[Tensor, list[Tensor | None], list[Tensor]]:  # fmt: skip
    """The gradient of x, float64 sums for those of the coefficients (None where there is none), those of the states."""
    x, states = call.given, len(program.states)
    g_x = call.sequence_like(len(x))
    g_before = [call.row_like() for _ in before]
    g_s, g_after, g_traces = call.arriving(program, final, gradients)
    rows, lanes = call.rows_and_lanes(g_s)
    if g_s is None:  # one row of zeros is enough
        g_s = x.new_zeros(lanes).expand(call.total, rows, lanes)
    aligned = lanes | call.x_step | (call.x.stride(1) if rows > 1 else 0)
    aligned |= _alignment(call.x, g_s, *call.before, *g_after, *g_traces)
    aligned |= g_s.stride(0) | (g_s.stride(1) if rows > 1 else 0)
    divisions = divisions_of(program, tuple(numbers), x.dtype)
    bare = rows == 1 and not before and all(g is None for g in g_after)
    work = backward_work(x.dtype, states, call.total, rows * lanes, aligned, call.letters, divisions, bare)
    work = work._replace(still=call.repeated)
    run = kernel(program, x.dtype, call.letters, record, work, "BACKWARD", x.get_device())
    segments = min(rows, max(_PARTS // lanes, 1)) if "l" in call.letters and lanes else rows
    blocks = run.blocks(segments, lanes)
    if "s" in call.letters:
        blocks = min(blocks, _most_blocks(work, x.get_device()))
    sums: list[Tensor | None] = []
    for index, letter in zip(program.tensor_coefficients, call.letters, strict=True):
        shape = (segments, lanes) if letter == "l" else (blocks,)
        wanted = index in program.g_coefficients
        sums.append(x.new_empty(shape, dtype=torch.float64) if wanted else None)
    if call.total == 0:
        g_x.zero_()
    memory = x.new_empty(work.starts(states, call.total, rows * lanes), dtype=call.dtype)
    arguments = run.pack(
        call.total, rows, lanes, segments, call.x.data_ptr(), call.x_step, call.x.stride(1), 0,
        g_s.data_ptr(), g_s.stride(0), g_s.stride(1), g_x.data_ptr(), 0 if call.repeated else rows * lanes,
        memory.data_ptr(),
        *run.pointers(call.coefficients, call.before, (), (), g_after, g_traces, g_before, sums), *numbers,
    )  # fmt: skip
    run.function(blocks, work.threads, work.shared(x.dtype, states, call.total), arguments)
    return g_x, sums, g_before


def _most_blocks(work: Work, device: int) -> int:
    """Blocks of a backward that sums over lanes: each leaves one number. Where threads ask ahead, all run at once."""
    return work.resident * cuda.multiprocessors(device) if work.ahead else 1 << 12


def _alignment(*tensors: Tensor | None) -> int:
    """The addresses in numbers, or-ed: its lowest bit bounds the width of a load."""
    found = 0
    for tensor in tensors:
        if tensor is not None:
            found |= tensor.data_ptr() // tensor.dtype.itemsize
    return found
