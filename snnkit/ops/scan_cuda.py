"""The scan on the GPU: generated text and ``cuda/scan.cu``, compiled for a shape of work and launched."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnkit.ops.codegen import divisors, prelude
from snnkit.ops.cuda import Function
from snnkit.ops.program import Program
from snnkit.ops.scan_call import Call, compute_dtype, split
from snnkit.ops.sources import source

IO = {torch.float32: "float", torch.float64: "double", torch.float16: "half", torch.bfloat16: "bfloat16"}
"""What a dtype is called in the texts."""

_FEW_LANES = 1 << 17  # below that, narrower groups: more threads hide more of the memory's latency
_PARTS = 1 << 19  # values a lane whose parameter gradients are summed apart: set by the shape alone
_SHARED = 46 << 10  # bytes of a block: what every GPU grants unasked, less the sums' own
_SHORT = 16  # steps that a backward holds in registers all at once
_HELD = 32  # lanes x steps that it holds


class Work(NamedTuple):
    """How the work is cut, and what the compiler may know of it.

    A kernel is compiled for one of these, so the fewer there are the better: up to ``_SHORT`` steps each number of
    steps is one, any more are one together.
    """

    width: int  # lanes of a thread
    chunk: int  # steps of a chunk
    threads: int  # of a block
    resident: int = 1  # blocks that a multiprocessor should hold at once: bounds the registers
    one: bool = False  # there is one chunk, of all steps
    stash: bool = False  # x and the states of the earlier chunks wait in shared memory
    still: bool = False  # one row of x is read at every step
    powers: tuple[bool, ...] = ()  # for each divisor of the step: a power of two, so that its inverse is exact


def forward_work(dtype: torch.dtype, states: int, steps: int, lanes: int, aligned: int) -> Work:
    """The cut of a forward: 16 bytes a thread, unless there are few lanes. ``aligned`` bounds the width."""
    width = _width(16 // dtype.itemsize, lanes, aligned)
    threads = _threads(lanes // width)
    if steps <= _SHORT // 2:
        return Work(width, steps, threads, one=True)
    return Work(width, 32 if width == 1 else 4, threads)


def backward_work(dtype: torch.dtype, states: int, steps: int, lanes: int, aligned: int) -> Work:
    """The cut of a backward, as measured on Hopper.

    Arithmetic, not memory, is what half precision waits for, and it wants many threads: few lanes each, and a bound on
    the registers. Up to ``_SHORT`` steps stand in registers; some more wait in shared memory; else x is read twice.
    """
    if steps <= _SHORT:
        width = _width(max(min(8 // dtype.itemsize, 1 << (_HELD // max(steps, 1)).bit_length() - 1), 1), lanes, aligned)
        if lanes // width < _FEW_LANES:
            return Work(width, steps, _threads(lanes // width), one=True)
        if steps <= _SHORT // 4:
            return Work(width, steps, 128, 8 if states == 1 else 6, one=True)
        return Work(width, steps, 64, 8 if states <= 2 else 6, one=True)
    width = _width(16 // dtype.itemsize, lanes, aligned)
    while width > 2 and _kept(dtype, states, steps, width, chunk=4) * 128 > _SHARED:
        width //= 2
    threads = _threads(lanes // width)
    if width > 1 and _kept(dtype, states, steps, width, chunk=4) * threads <= _SHARED:
        return Work(width, 4, threads, 4 if states == 1 else 3, stash=True)
    return Work(width, 32 if width == 1 else 8, threads)


def _kept(dtype: torch.dtype, states: int, steps: int, width: int, chunk: int) -> int:
    """Bytes that a thread keeps of its earlier chunks: x, and the states before each."""
    return (steps - 1) // chunk * width * (chunk * dtype.itemsize + states * max(dtype.itemsize, 4))


def _width(widest: int, lanes: int, aligned: int) -> int:
    width = min(widest, aligned & -aligned) if aligned else widest
    while width > 1 and lanes // width < _FEW_LANES:
        width //= 2
    return width


def _threads(groups: int) -> int:
    return 128 if groups >= _FEW_LANES // 4 else 64


@functools.lru_cache(maxsize=1024)
def _powers(program: Program, numbers: tuple[float, ...]) -> tuple[bool, ...]:
    """Which divisors are numbers and powers of two, as tau = 2 is: then a / b is a (1 / b) to the last bit."""
    values = dict(zip(program.number_coefficients, numbers, strict=False))

    def is_power(value: float) -> bool:
        fraction, exponent = math.frexp(value)
        return abs(fraction) == 0.5 and abs(exponent) < 126  # its inverse is a normal float, too

    return tuple(i in values and is_power(values[i]) for i in divisors(program))


def text(program: Program, dtype: torch.dtype, letters: str, record: Sequence[str], work: Work, which: str) -> str:
    """The CUDA text of a kernel, as it is compiled; ``which`` is ``FORWARD`` or ``BACKWARD``."""
    real = "double" if dtype == torch.float64 else "float"
    powers = work.powers or (False,) * len(divisors(program))
    return "\n".join(
        [
            source("math.h"),
            f"#define SNN_{which}",
            f"constexpr int kWidth = {work.width}, kChunk = {work.chunk};",
            f"constexpr int kThreads = {work.threads}, kResident = {work.resident};",
            f"constexpr bool kOne = {work.one:d}, kStash = {work.stash:d}, kStill = {work.still:d};",
            *(
                f"constexpr bool kPower_{program.name_of(i)} = {power:d};"
                for i, power in zip(divisors(program), powers, strict=True)
            ),
            f"typedef {real} real;",
            source("divide.cuh"),
            source("lanes.cuh"),
            f"typedef {IO[dtype]} io;",
            prelude(program, real, letters, record),
            source("scan.cu"),
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

    def shared(self, dtype: torch.dtype, states: int, steps: int) -> int:
        """Bytes of shared memory of a block."""
        w = self.work
        return _kept(dtype, states, steps, w.width, w.chunk) * w.threads if w.stash else 0

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


def simple_forward(program: Program, x: Tensor, numbers: Sequence[float]) -> Tensor:
    """The output of a simple call."""
    out, total = torch.empty_like(x), x.shape[0]
    lanes = x.numel() // total
    work = forward_work(x.dtype, len(program.states), total, lanes, lanes | x.data_ptr() // x.dtype.itemsize)
    work = work._replace(powers=_powers(program, numbers))
    run = kernel(program, x.dtype, "", (), work, "FORWARD", x.get_device())
    arguments = run.pack(
        total, 1, lanes, 1, x.data_ptr(), lanes, 0, out.data_ptr(), 0, 0, 0, 0, 0, 0, *run.nothing, *numbers
    )
    run.function(run.blocks(1, lanes), work.threads, 0, arguments)
    return out


def simple_backward(program: Program, g: Tensor, x: Tensor, numbers: Sequence[float]) -> Tensor:
    """The gradient of a simple call; g lies like x."""
    g_x, total, states = torch.empty_like(x), x.shape[0], len(program.states)
    lanes = x.numel() // total
    work = backward_work(x.dtype, states, total, lanes, lanes | (x.data_ptr() | g.data_ptr()) // x.dtype.itemsize)
    work = work._replace(powers=_powers(program, numbers))
    run = kernel(program, x.dtype, "", (), work, "BACKWARD", x.get_device())
    starts = _starts(run, program, total, lanes, compute_dtype(x), x)
    arguments = run.pack(
        total, 1, lanes, 1, x.data_ptr(), lanes, 0, 0, g.data_ptr(), lanes, 0, g_x.data_ptr(), lanes,
        0 if starts is None else starts.data_ptr(), *run.nothing, *numbers,
    )  # fmt: skip
    run.function(run.blocks(1, lanes), work.threads, run.shared(x.dtype, states, total), arguments)
    return g_x


def _starts(run: Kernel, program: Program, steps: int, size: int, dtype: torch.dtype, x: Tensor) -> Tensor | None:
    """Memory for the states at the start of each chunk, where shared memory does not hold them."""
    if run.work.one or run.work.stash:
        return None
    chunks = -(-steps // run.work.chunk)
    return x.new_empty(chunks * len(program.states) * size, dtype=dtype)


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
    work = forward_work(x.dtype, len(program.states), call.total, rows * lanes, aligned)
    work = work._replace(powers=_powers(program, tuple(numbers)))
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
    call, states = Call(x, coefficients, before, steps, x.dtype), len(program.states)
    g_x = call.sequence_like(len(x))
    g_before = [call.row_like() for _ in before]
    g_output, g_last, g_traces = split(program, final, gradients)
    g_s = call.sequence(x.new_zeros(()).expand(call.total, *x.shape[1:]) if g_output is None else g_output)
    g_after, g_traces = call.states(g_last, 1), call.states(g_traces, 2)
    rows, lanes = call.rows_and_lanes(g_s)
    aligned = lanes | call.x_step | (call.x.stride(1) if rows > 1 else 0)
    aligned |= _alignment(call.x, g_s, *call.before, *g_after, *g_traces)
    aligned |= g_s.stride(0) | (g_s.stride(1) if rows > 1 else 0)
    work = backward_work(x.dtype, states, call.total, rows * lanes, aligned)
    work = work._replace(still=call.repeated, powers=_powers(program, tuple(numbers)))
    run = kernel(program, x.dtype, call.letters, record, work, "BACKWARD", x.get_device())
    segments = min(rows, max(_PARTS // lanes, 1)) if "l" in call.letters and lanes else rows
    blocks = run.blocks(segments, lanes)
    sums: list[Tensor | None] = []
    for index, letter in zip(program.tensor_coefficients, call.letters, strict=True):
        shape = (segments, lanes) if letter == "l" else (blocks,)
        wanted = index in program.g_coefficients
        sums.append(x.new_empty(shape, dtype=torch.float64) if wanted else None)
    if call.total == 0:
        g_x.zero_()
    starts = _starts(run, program, call.total, rows * lanes, call.dtype, x)
    arguments = run.pack(
        call.total, rows, lanes, segments, call.x.data_ptr(), call.x_step, call.x.stride(1), 0,
        g_s.data_ptr(), g_s.stride(0), g_s.stride(1), g_x.data_ptr(), 0 if call.repeated else rows * lanes,
        0 if starts is None else starts.data_ptr(),
        *run.pointers(call.coefficients, call.before, (), (), g_after, g_traces, g_before, sums), *numbers,
    )  # fmt: skip
    run.function(blocks, work.threads, run.shared(x.dtype, states, call.total), arguments)
    return [g_x, *call.coefficient_gradients(coefficients, sums), *g_before]


def _alignment(*tensors: Tensor | None) -> int:
    """The addresses in numbers, or-ed: its lowest bit bounds the width of a load."""
    found = 0
    for tensor in tensors:
        if tensor is not None:
            found |= tensor.data_ptr() // tensor.dtype.itemsize
    return found
