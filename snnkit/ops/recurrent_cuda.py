"""The recurrent loop on the GPU: ``cuda/recurrent.cu``, all steps in one launch whose blocks wait for each other.

While a CUDA graph is captured, and where blocks cannot wait, a launch takes one step: the same kernel and numbers.
Every call has memory of its own, so nothing of a call is kept but the compiled kernels.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from snnkit.ops import cuda, scan_cuda
from snnkit.ops.cuda import Function
from snnkit.ops.division import Division, divisions_of
from snnkit.ops.program import Program
from snnkit.ops.scan_work import Work
from snnkit.ops.sources import source

_ROWS, _COLUMNS, _BLOCK, _OUTPUTS = 16, 32, 256, 2  # kRows, ... of the text
_LOOP = 18  # numbers and addresses of struct Loop behind those of the scan


def takes(out: Tensor) -> bool:
    """Whether the kernels here run a loop that puts out ``out``."""
    return out.is_cuda and out.numel() > 0 and cuda.refusal(out.get_device()) is None


def step_by_step(device: torch.device) -> bool:
    """Whether a launch takes one step only, since a graph is being captured."""
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def text(program: Program, dtype: torch.dtype, letters: str, divisions: tuple[Division, ...], resident: int) -> str:
    """The CUDA text of the loop's kernels, as it is compiled; ``resident``: blocks that share a multiprocessor."""
    work = Work(width=1, chunk=1, threads=_BLOCK, resident=resident, one=True, divisions=divisions)
    step = scan_cuda.text(program, dtype, letters, (), work, "STEP")
    return "\n".join(["#define SNN_BACKWARD  // the scan's own kernels stay out", step, source("recurrent.cu")])


class Kernels:
    """The compiled kernels of a program on one device, and how their arguments are packed (``struct Loop``)."""

    def __init__(
        self, program: Program, dtype: torch.dtype, letters: str, divisions: tuple[Division, ...], resident: int,
        device: int,
    ) -> None:  # fmt: skip
        code = text(program, dtype, letters, divisions, resident)
        self.pack, self.mix, self.forward, self.backward = (
            Function(code, f"recurrent_{name}", device) for name in ("pack", "mix", "forward", "backward")
        )
        states, tensors = len(program.states), max(len(letters), 1)
        self.numbers = max(len(program.number_coefficients) + states, 1)
        # coefficients, before, after, traces, g_after, g_traces, g_before, g_coefficients
        self.sizes = (tensors, states, states, 1, states, 1, states, tensors)
        self.packed = struct.Struct(f"{14 + sum(self.sizes)}q{self.numbers}d{_LOOP}q").pack
        self._resident: dict[Function, int] = {}

    def resident(self, function: Function) -> int:
        """Blocks of a kernel that the GPU holds at once."""
        if function not in self._resident:
            self._resident[function] = function.resident(_BLOCK)
        return self._resident[function]


@functools.lru_cache(maxsize=1024)
def kernels(
    program: Program, dtype: torch.dtype, letters: str, divisions: tuple[Division, ...], resident: int, device: int
) -> Kernels:
    """The compiled kernels, from memory after the first time."""
    return Kernels(program, dtype, letters, divisions, resident, device)


class _Call(NamedTuple):
    """What a launch is told: the fields of ``struct Loop`` that are not 0, by their names there."""

    kernels: Kernels
    shape: tuple[int, int, int]
    coefficients: Sequence[Tensor]
    numbers: Sequence[float]
    lags: int
    delays: int

    def arguments(
        self, begin: int, end: int, *, x: Tensor | None = None, g_s: Tensor | None = None, g_x: Tensor | None = None,
        g_after: Sequence[Tensor | None] = (), sums: Sequence[Tensor] = (), rows: Sequence[int] = (1, 1, 1),
        delays: int | None = None, samples: int | None = None, weights: Tensor | None = None,
        mask: Tensor | None = None, taps: Tensor | None = None, heard: Tensor | None = None,
        mixed: Tensor | None = None, current: int = 0, history: Tensor | None = None, g_state: Tensor | None = None,
        g_fed: Tensor | None = None, arriving: Tensor | None = None, arrived: Tensor | None = None,
    ) -> bytes:  # fmt: skip
        steps, batch, size = self.shape
        groups = (self.coefficients, (), (), (), g_after, (), (), sums)
        arrays: list[int] = []
        for length, tensors in zip(self.kernels.sizes, groups, strict=True):
            arrays += [_at(t) for t in tensors] + [0] * (length - len(tensors))
        numbers = [*self.numbers] + [0.0] * (self.kernels.numbers - len(self.numbers))
        return self.kernels.packed(
            steps, batch if samples is None else samples, size, 0, _at(x), 0, 0, 0, _at(g_s), 0, 0, _at(g_x), 0, 0,
            *arrays, *numbers,
            begin, end, self.lags, self.delays if delays is None else delays, *rows,
            *map(_at, (weights, mask, taps, heard, mixed)), current,
            *map(_at, (history, g_state, g_fed, arriving, arrived)),
        )  # fmt: skip


def _tiles(batch: int, size: int) -> int:
    return -(-batch // _ROWS) * -(-size // _COLUMNS)


def _at(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _call(
    program: Program, coefficients: Sequence[Tensor], numbers: Sequence[float], out: Tensor, weight: Tensor,
    taps: Tensor | None,
) -> tuple[_Call, str]:  # fmt: skip
    steps, batch, size = out.shape
    letters = "".join("s" if c.numel() == 1 else "l" for c in coefficients)
    held = [c.reshape(-1).contiguous() if c.numel() == 1 else c.expand(size).contiguous() for c in coefficients]
    divisions = divisions_of(program, tuple(numbers), out.dtype)
    device = out.get_device()
    resident = 1 if _tiles(batch, size) <= cuda.multiprocessors(device) else 2  # alone, a block may take all registers
    found = kernels(program, out.dtype, letters, divisions, resident, device)
    lags, delays = len(weight) if weight.ndim == 3 else 1, 0 if taps is None else len(taps)
    return _Call(found, (steps, batch, size), held, numbers, lags, delays), letters


def _packed(call: _Call, weight: Tensor, back: bool) -> Tensor:
    """The weights as a tile reads them; in reverse the sources and targets change places, and the lags their order."""
    size, lags = weight.shape[-1], call.lags
    target, source_ = weight.stride(-1 if back else -2), weight.stride(-2 if back else -1)
    lag = weight.stride(0) if weight.ndim == 3 else 0
    first = weight.data_ptr() + (0 if back else (lags - 1) * lag * weight.itemsize)
    count = -(-size // _COLUMNS) * _COLUMNS * lags * -(-size // 4) * 4
    packed = weight.new_empty(count)
    arguments = call.arguments(target, source_, samples=1, delays=lag if back else -lag, mixed=packed, current=first)
    call.kernels.pack(-(-count // _BLOCK), _BLOCK, 0, arguments)
    return packed


def _launch(call: _Call, function: Function, begin: int, end: int, back: bool, like: Tensor, told: Callable) -> None:
    """All steps at once, or one after the other."""
    samples, tiles = -(-call.shape[1] // _ROWS), _tiles(*call.shape[1:])
    if end - begin > 1 and not step_by_step(like.device):
        blocks = min(tiles, call.kernels.resident(function))
        if blocks:
            arrived = like.new_zeros(samples, dtype=torch.int32)
            function(blocks, _BLOCK, 0, told(begin, end, arrived), True)
            return
    for t in reversed(range(begin, end)) if back else range(begin, end):
        function(tiles, _BLOCK, 0, told(t, t + 1, None))


def forward(
    program: Program, coefficients: Sequence[Tensor], numbers: Sequence[float], x: Tensor, weight: Tensor,
    taps: Tensor | None, mask: Tensor | None, outputs: Tensor, current: Tensor | None, history: Tensor, mixed: Tensor,
) -> None:  # fmt: skip
    """Fill outputs (behind the past that they hold), current, history (behind its first row) and, with taps, mixed.

    Args:
        outputs: ``[L + T, B, N]``, with the past in its first rows.
        current: ``[T, B, N]``, or None if nobody asks.
        history: ``[T + 1, B, S, N]``, or two rows that take turns; the first states in its first row.
        mixed: ``[T, B, N]``, or two rows that take turns; not read without taps.
    """
    call, _ = _call(program, coefficients, numbers, x, weight, taps)
    x, mask = x.contiguous(), None if mask is None else mask.contiguous()
    taps = None if taps is None else taps.contiguous()
    weights = _packed(call, weight, False)
    rows = (1 if current is None else len(current), len(mixed), len(history))

    def told(begin: int, end: int, arrived: Tensor | None) -> bytes:
        return call.arguments(
            begin, end, x=x, rows=rows, weights=weights, mask=mask, taps=taps, heard=outputs, mixed=mixed,
            current=_at(current), history=history, arrived=arrived,
        )  # fmt: skip

    if taps is not None:
        call.kernels.mix(-(-x[0].numel() // _BLOCK), _BLOCK, 0, told(0, 0, None))
    _launch(call, call.kernels.forward, 0, len(x), False, x, told)


def backward(
    program: Program, coefficients: Sequence[Tensor], numbers: Sequence[float], g_out: Tensor | None,
    g_traces: Sequence[Tensor | None], weight: Tensor, taps: Tensor | None, mask: Tensor | None, current: Tensor,
    history: Tensor, g_state: Tensor, g_current: Tensor, arriving: Tensor,
) -> list[Tensor]:  # fmt: skip
    """Fill g_current, g_state and arriving; return the gradients of the coefficients.

    Args:
        g_traces: for each state, the gradient of its trace, ``[T, B, N]``, or None.
        g_state: ``[B, S, N]``: gradients of the last states, then of the first.
        g_current: ``[T, B, N]``; the first rows of arriving itself if there are neither taps nor mask.
        arriving: ``[T + L, B, N]``, zeros from row T on.
    """
    call, letters = _call(program, coefficients, numbers, current, weight, taps)
    mask, taps = (None if part is None else part.contiguous() for part in (mask, taps))
    g_out = None if g_out is None else g_out.contiguous()
    g_after = [None if g is None else g.contiguous() for g in g_traces]
    weights = _packed(call, weight, True)
    steps, batch, size = call.shape
    g_fed = arriving if taps is None else g_current if mask is None else torch.empty_like(g_current)
    parts = -(-batch // _ROWS) * (_ROWS // _OUTPUTS)
    sums = [current.new_zeros(parts, size, dtype=torch.float64) for _ in coefficients]

    def told(begin: int, end: int, arrived: Tensor | None) -> bytes:
        return call.arguments(
            begin, end, g_s=g_out, g_x=g_current, g_after=g_after, sums=sums, rows=(steps, 1, steps),
            weights=weights, mask=mask, taps=taps, current=_at(current), history=history, g_state=g_state,
            g_fed=g_fed, arriving=arriving, arrived=arrived,
        )  # fmt: skip

    _launch(call, call.kernels.backward, 0 if taps is None else -1, steps, True, current, told)
    return [
        (total.sum() if letter == "s" else total.sum(0)).to(c.dtype).reshape(c.shape)
        for c, letter, total in zip(coefficients, letters, sums, strict=True)
    ]
