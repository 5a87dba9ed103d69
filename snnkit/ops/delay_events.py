"""Delayed sums event by event, for streams: each input that is not 0 adds its delayed weights to the sums to come.

The delay line holds what is still to come out, instead of what came in. A step scatters the columns of its active
inputs into the line and takes the sum that is due: at 5 % spikes and one tap a synapse that is a five-hundredth of the
multiplications of a convolution of K = 25, and a kernel that is never read as a whole. Sums of an output are taken in
the order of steps, then of inputs, so chunks of any length give the same bits.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnkit.ops import cpu
from snnkit.ops.sources import source


class Columns(NamedTuple):
    """The taps of a kernel that are not 0, input by input.

    Attributes:
        first: ``[in + 1]`` int64: input i has the entries from ``first[i]`` to before ``first[i + 1]``.
        place: int32, lag * out + o of each entry, ascending for each input.
        weight: value of each entry.
        out: number of outputs.
        size: K, number of taps.
    """

    first: Tensor
    place: Tensor
    weight: Tensor
    out: int
    size: int


class Line(NamedTuple):
    """What inputs so far still give: a ring buffer of sums, each sample at its own place in it.

    Attributes:
        sums: ``[B, 2 K, out]``: ``sums[b, at[b] + lag]`` comes out in lag steps; rows not in use are 0.
        at: ``[B]`` int64.
    """

    sums: Tensor
    at: Tensor

    def pending(self, size: int) -> Tensor:
        """The next K - 1 = size - 1 sums, ``[K - 1, B, out]``."""
        rows = torch.arange(size - 1)[:, None] + self.at
        return self.sums[torch.arange(len(self.at)), rows]


def delay_line(pending: Tensor) -> Line:
    """A line with these sums to come, ``[K - 1, B, out]``."""
    later, batch, out = pending.shape
    sums = torch.cat([pending.transpose(0, 1), pending.new_zeros(batch, later + 2, out)], 1)
    return Line(sums, torch.zeros(batch, dtype=torch.int64))


def columns(kernel: Tensor, inputs: int) -> Columns:
    """Sort a dense kernel ``[out, inputs / groups, K]`` (see ``delay_kernel``) by inputs; no gradient.

    >>> kernel = torch.zeros(2, 1, 3)
    >>> kernel[1, 0, 0] = 5.0  # the first of K = 3 taps: two steps later
    >>> columns(kernel, 1).place.tolist()
    [5]
    """
    out, per_group, size = kernel.shape
    taps = kernel.detach().movedim(-1, 0).contiguous()  # no copy if ``delay_kernel`` made it
    if refusal() is not None:
        return plain_columns(taps, inputs)
    sizes = (size, out, per_group, inputs // per_group)
    functions = _functions(taps.dtype)
    first = torch.zeros(inputs + 1, dtype=torch.int64)
    functions["count"](taps.data_ptr(), first[1:].data_ptr(), *sizes)
    first = first.cumsum(0)
    place, weight = torch.empty(int(first[-1]), dtype=torch.int32), taps.new_empty(int(first[-1]))
    functions["fill"](taps.data_ptr(), first.data_ptr(), place.data_ptr(), weight.data_ptr(), *sizes)
    return Columns(first, place, weight, out, size)


def plain_columns(taps: Tensor, inputs: int) -> Columns:
    """What ``columns`` makes, in plain PyTorch, of taps ``[K, out, inputs / groups]``."""
    size, out, per_group = taps.shape
    groups = inputs // per_group
    by_input = taps.unflatten(1, (groups, out // groups)).permute(1, 3, 0, 2).flatten(0, 1).flip(1)
    i, lag, o = by_input.nonzero(as_tuple=True)  # of [in, K, out / groups]
    first = torch.zeros(inputs + 1, dtype=torch.int64)
    first[1:] = torch.bincount(i, minlength=inputs).cumsum(0)
    place = lag * out + i // per_group * (out // groups) + o
    return Columns(first, place.to(torch.int32), by_input[i, lag, o], out, size)


def delayed_events(x: Tensor, taps: Columns, line: Line) -> Tensor:
    """``delayed_sum`` of a chunk on the CPU, at a cost that grows with the inputs that are not 0; no gradient.

    Args:
        x: ``[T, B, in]`` of the dtype of the weights; any value (a count, a current), of which zeros cost nothing.
        taps: of ``columns(kernel, in)``.
        line: what earlier inputs still give, changed in place: what all inputs so far still give.

    Returns:
        ``[T, B, out]``.

    A NaN or infinity reaches the taps that exist, and no others.

    >>> kernel = torch.tensor([[[5.0, 0.0, 1.0]]])  # 1 at once, 5 two steps later
    >>> empty = delay_line(torch.zeros(2, 1, 1))
    >>> delayed_events(torch.ones(1, 1, 1), columns(kernel, 1), empty).tolist(), empty.pending(3).flatten().tolist()
    ([[[1.0]]], [0.0, 5.0])
    """
    if refusal() is not None:
        return reference(x, taps, line)
    return Chunks(x, taps, line)(x.contiguous())


class Chunks:
    """``delayed_events`` for chunk after chunk of one shape ``[T, B, in]``; where ``refusal()`` is None.

    The kernel takes 3 us a step, and its thirteen arguments two: of these only x and y change from chunk to chunk. The
    others are written down once, and the chunks must be contiguous, of the shape and the dtype of the x given here.
    """

    def __init__(self, x: Tensor, taps: Columns, line: Line) -> None:
        (T, B, inputs), (first, place, weight, out, size) = x.shape, taps
        self._held = taps, line  # their memory is what the addresses mean
        addresses = (part.data_ptr() for part in (first, place, weight, *line))
        self._stream = _Stream(*addresses, T, B, inputs, out, size, line.sums.shape[1])
        self._address, self._shape = ctypes.addressof(self._stream), (T, B, out)
        self._events = _functions(x.dtype)["events"]

    def __call__(self, x: Tensor) -> Tensor:
        """``[T, B, out]``, and the line brought up to date."""
        y = x.new_empty(*self._shape)  # a third quicker than of a tuple
        self._events(self._address, x.data_ptr(), y.data_ptr())
        return y


class _Stream(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("first", "place", "weight", "sums", "at")] + [
        (name, ctypes.c_int64) for name in ("T", "B", "C", "out", "K", "rows")
    ]


def reference(x: Tensor, taps: Columns, line: Line) -> Tensor:
    """What ``delayed_events`` computes, in plain PyTorch."""
    (T, B, _), later = x.shape, taps.size - 1
    sums = torch.cat([line.pending(taps.size).transpose(0, 1), x.new_zeros(B, T, taps.out)], 1)
    t, b, i = x.nonzero(as_tuple=True)
    number = taps.first[i + 1] - taps.first[i]
    event = torch.arange(len(i)).repeat_interleave(number)
    entry = taps.first[i][event] + torch.arange(len(event)) - (number.cumsum(0) - number)[event]
    place = ((b * (T + later) + t) * taps.out)[event] + taps.place[entry]
    sums.view(-1).index_add_(0, place, taps.weight[entry] * x[t, b, i][event])
    line.at.zero_()
    line.sums.zero_()[:, :later] = sums[:, T:]
    return sums[:, :T].transpose(0, 1).contiguous()


@functools.cache
def refusal() -> str | None:
    """Why the compiled form is not to be had here; None if it is."""
    reason = cpu.refusal()
    if reason is None:
        try:
            _functions(torch.float32)
        except RuntimeError as error:
            return str(error).splitlines()[0]
    return reason


@functools.cache
def _functions(dtype: torch.dtype) -> dict[str, Any]:
    """The C functions of a dtype by name, with their argument types."""
    library, found = cpu.library(source("delay_events_host.cpp")), {}
    real = {torch.float32: "float", torch.float64: "double"}[dtype]
    for name, pointers, sizes in (("count", 2, 4), ("fill", 4, 4), ("events", 3, 0)):
        found[name] = getattr(library, f"delay_{name}_{real}")
        found[name].argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * sizes
        found[name].restype = None
    return found
