"""How the scan's work on a GPU is cut: what a thread does, and what the compiler is told of it. Measured, on Hopper."""

from __future__ import annotations

from typing import NamedTuple

import torch

from snnkit.ops.division import Division

_FEW_LANES = 1 << 17  # below that, narrower groups: more threads hide more of the memory's latency
_SHARED = 46 << 10  # bytes of a block: what every GPU grants unasked, less the sums' own
_SHORT = 16  # steps that a backward holds in registers all at once
_HELD = 32  # lanes x steps that it holds
_LONG = 64  # more steps than that: more of them at once pay off where there are few lanes


class Work(NamedTuple):
    """How the work is cut, and what the compiler may know of it.

    A kernel is compiled for one of these, so the fewer there are the better: up to ``_SHORT`` steps each number of
    steps is one, any more are one or two together.
    """

    width: int  # lanes of a thread
    chunk: int  # steps of a chunk
    threads: int  # of a block
    resident: int = 1  # blocks that a multiprocessor should hold at once: bounds the registers
    one: bool = False  # there is one chunk, of all steps
    stash: bool = False  # x and the states of the earlier chunks wait in shared memory
    keep: bool = False  # the forward leaves the states before each chunk to the backward
    still: bool = False  # one row of x is read at every step
    bare: bool = False  # there is one row, and no states are given or asked for, nor their gradients
    ahead: bool = False  # a thread asks for what it reads next before it computes
    divisions: tuple[Division, ...] = ()  # for each divisor of the step: how it is divided by

    def shared(self, dtype: torch.dtype, states: int, steps: int) -> int:
        """Bytes of shared memory of a block."""
        return _kept(dtype, states, steps, self.width, self.chunk) * self.threads if self.stash else 0

    def starts(self, states: int, steps: int, size: int) -> int:
        """Numbers of memory for the states of ``size`` lanes at the start of each chunk; 0 if they wait elsewhere."""
        return 0 if self.one or self.stash else -(-steps // self.chunk) * states * size

    def keeping(self, backward: Work) -> Work:
        """This forward, leaving the states to a backward that would compute them."""
        return self._replace(chunk=backward.chunk, one=False, keep=True)


_NOTHING = Work(width=1, chunk=1, threads=64)  # states pass by


def forward_work(
    dtype: torch.dtype, states: int, steps: int, lanes: int, aligned: int, divisions: tuple[Division, ...] = (),
    bare: bool = False,
) -> Work:  # fmt: skip
    """The cut of a forward: 16 bytes a thread, unless there are few lanes. ``aligned`` bounds the width."""
    cut = _forward_cut(dtype, states, steps, lanes, aligned, divisions)
    return cut._replace(divisions=divisions, bare=bare)


def _forward_cut(
    dtype: torch.dtype, states: int, steps: int, lanes: int, aligned: int, divisions: tuple[Division, ...]
) -> Work:
    if steps == 0:
        return _NOTHING
    width = _width(16 // dtype.itemsize, lanes, aligned)
    threads = _threads(lanes // width)
    half = dtype.itemsize == 2 and threads == 128
    if steps <= _SHORT // 2:
        # Unasked, the compiler takes more registers for two states than leave room for enough threads.
        return Work(width, steps, threads, 8 if half else 1, one=True)
    if width > 1:
        return Work(width, 4, threads, 6 if half and states > 1 else 1)
    if _in_pairs(dtype, steps, lanes, aligned):
        return Work(2, 8, _threads(lanes // 2))
    return Work(1, _steps_of_few(dtype, 1, steps, divisions), threads)  # loads alone take registers: as of one state


def backward_work(
    dtype: torch.dtype, states: int, steps: int, lanes: int, aligned: int, letters: str = "",
    divisions: tuple[Division, ...] = (), bare: bool = False,
) -> Work:  # fmt: skip
    """The cut of a backward, as measured on Hopper. ``letters``: of coefficients whose gradients it sums.

    Arithmetic, not memory, is what half precision waits for, and it wants many threads: few lanes each, and a bound on
    the registers. Up to ``_SHORT`` steps stand in registers; some more wait in shared memory; else x is read twice.
    Sums take registers: fewer blocks at once, or, for more than half of ``_SHORT``, shared memory from there on. Then
    there are too few threads to hide that each waits for its loads: bare ones ask for the next early. The two parts of
    an inverse take registers, too: of few steps, the 64 that eight blocks leave hold all but those.
    """
    cut = _backward_cut(dtype, states, steps, lanes, aligned, letters, divisions, bare)
    return cut._replace(divisions=divisions, bare=bare)


def _backward_cut(
    dtype: torch.dtype, states: int, steps: int, lanes: int, aligned: int, letters: str,
    divisions: tuple[Division, ...], bare: bool,
) -> Work:  # fmt: skip
    if steps == 0:
        return _NOTHING
    widest = 16 // dtype.itemsize
    summing = _summing(dtype, states, steps) if bare and set(letters) == {"s"} else None
    if summing and lanes // _width(summing.width, lanes, aligned) >= _FEW_LANES:
        return summing._replace(width=_width(summing.width, lanes, aligned))
    crowded = steps > _SHORT // 2 and _crowded(dtype, states, letters)
    if steps <= _SHORT and not (crowded and _width(widest, lanes, aligned) == widest):
        width = _width(max(min(8 // dtype.itemsize, 1 << (_HELD // steps).bit_length() - 1), 1), lanes, aligned)
        if lanes // width < _FEW_LANES:
            return Work(width, steps, _threads(lanes // width), one=True)
        few = steps <= _SHORT // 4
        resident = 8 if states == 1 or (not few and states == 2) else 6
        if letters and not (few and states == 1 and dtype == torch.float32 and "l" not in letters):
            resident = 2 * resident // 3
        if few and Division.TWO_PRODUCTS in divisions:
            resident = min(resident, 7)
        return Work(width, steps, 128 if few else 64, resident, one=True)
    width = _width(widest, lanes, aligned)
    if width == 1:
        if _in_pairs(dtype, steps, lanes, aligned):
            return Work(2, 16, _threads(lanes // 2))
        return Work(1, _steps_of_few(dtype, states, steps, divisions), _threads(lanes))
    while width > 2 and _kept(dtype, states, steps, width, chunk=4) * 128 > _SHARED:
        width //= 2
    threads = _threads(lanes // width)
    if width > 1 and _kept(dtype, states, steps, width, chunk=4) * threads <= _SHARED:
        resident = 4 if states == 1 or steps <= _SHORT else 3
        resident = resident if steps <= _SHORT or not letters else 2 * resident // 3
        return Work(width, 4, threads, resident, stash=True)
    return Work(width, 8, threads)


def _summing(dtype: torch.dtype, states: int, steps: int) -> Work | None:
    """The cut of a backward that sums over all lanes, where another than without sums is faster.

    A fourth of a multiprocessor has 16,384 registers: the blocks below are 2, 3 or 4 warps there, of 255, 168 or 128.
    """
    few, half = steps <= _SHORT // 4, dtype.itemsize == 2
    if steps > _SHORT or dtype == torch.float64 or (states == 1 and not half):
        return None
    if few:
        width, threads, resident = (2, 128, 4) if not half else (4, 128, 4) if states == 1 else (4, 64, 8)
    elif steps <= _SHORT // 2:
        width, threads, resident = (2, 128, 4) if half else (2, 64, 6)
    else:
        width, threads, resident = (1, 128, 2) if not half else (2, 128, 3) if states < 3 else (2, 64, 4)
    return Work(width, steps, threads, resident, one=True, ahead=True)


def _in_pairs(dtype: torch.dtype, steps: int, lanes: int, aligned: int) -> bool:
    """Whether few lanes in half precision go two by two through many steps: one by one they took half as long again."""
    return dtype.itemsize == 2 and steps > _LONG and lanes % 2 == aligned % 2 == 0


def _steps_of_few(dtype: torch.dtype, states: int, steps: int, divisions: tuple[Division, ...]) -> int:
    """Steps of a chunk for a lane a thread: as many loads are on their way. Divisions in double want registers, too."""
    many = dtype == torch.float32 and states == 1 and steps > _LONG and Division.DOUBLE not in divisions
    return 32 if many else 16


def _crowded(dtype: torch.dtype, states: int, letters: str) -> bool:
    """Whether ``_SHORT`` steps in registers leave too few threads: one state and its sums, or two float32 states."""
    if dtype == torch.float64:
        return False
    return (states == 1 and set(letters) == {"s"}) or (states == 2 and dtype == torch.float32 and not letters)


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
