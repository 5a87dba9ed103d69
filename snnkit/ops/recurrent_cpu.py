"""The recurrent loop on the CPU: ``cuda/recurrent_host.cpp``, on memory that lasts for the loop.

Where what comes back is one product of the last output, the whole loop is compiled, product and all
(``cuda/product_host.cpp``); else a step of the neuron is, and the products are torch's.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from snnkit.ops import cpu, scan_cpu
from snnkit.ops.program import Program
from snnkit.ops.sources import source

_pack = struct.Struct("14q").pack  # struct StepArguments
_pack_mix = struct.Struct("8q").pack  # struct MixArguments
_pack_loop = struct.Struct("27q").pack  # struct LoopArguments
_SEGMENTS = 16  # parts of the batch whose parameter gradients are summed apart: set by the shape, not by the threads


class _Kernel:
    """The compiled step of a program, for a number type and a layout of the coefficients."""

    def __init__(self, program: Program, dtype: torch.dtype, layout: str) -> None:
        texts = scan_cpu.text(program, dtype, layout, ()), source("product_host.cpp"), source("recurrent_host.cpp")
        library = cpu.library("\n".join(texts))
        self.forward, self.backward = library.step_forward, library.step_backward
        self.loop_forward, self.loop_backward = library.loop_forward, library.loop_backward
        self.mix = library.loop_mix
        for function in (self.forward, self.backward, self.loop_forward, self.loop_backward, self.mix):
            function.argtypes = [ctypes.c_void_p]
            function.restype = None
        self.packed, self.pages = library.loop_packed, library.loop_pages
        self.packed.argtypes, self.packed.restype = [ctypes.c_int64], ctypes.c_int64
        self.pages.argtypes, self.pages.restype = [ctypes.c_void_p, ctypes.c_int64], None


@functools.lru_cache(maxsize=1024)
def _kernel(program: Program, dtype: torch.dtype, layout: str) -> _Kernel:
    return _Kernel(program, dtype, layout)


def _at(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


class CompiledStep:
    """``recurrent_step.Step``, compiled. Arguments as there; all tensors are contiguous and of one dtype."""

    def __init__(
        self, program: Program, coefficients: Sequence[Tensor], numbers: Sequence[float], current: Tensor,
        history: Tensor, out: Tensor, g_state: Tensor | None = None, g_current: Tensor | None = None,
    ) -> None:  # fmt: skip
        rows, lanes = out.shape[1:]
        letters = "".join("s" if c.numel() == 1 else "l" for c in coefficients)
        held = [c.reshape(-1).contiguous() if c.numel() == 1 else c.expand(lanes).contiguous() for c in coefficients]
        values = (ctypes.c_double * len(numbers))(*numbers)
        table = (ctypes.c_int64 * len(held))(*[c.data_ptr() for c in held])
        segments = min(rows, _SEGMENTS)
        self._letters, self._sums = letters, out.new_zeros(segments, len(held), lanes, dtype=torch.float64)
        threads = cpu.threads() if rows * lanes > scan_cpu._SMALL else 1
        self._head = (rows, lanes, segments, threads, ctypes.addressof(values), ctypes.addressof(table))
        self._to = self._sums.data_ptr()
        self._held = (held, values, table, current, history, out, g_state, g_current)  # while pointers are used
        self._row = rows * lanes * out.element_size()
        self._rows, self._rounds = len(current), len(history)
        self._current, self._history, self._out = current.data_ptr(), history.data_ptr(), out.data_ptr()
        self._states = self._row * history.shape[2]
        self._g_state = 0 if g_state is None else g_state.data_ptr()
        self._g_current = 0 if g_current is None else g_current.data_ptr()
        self._kernel = _kernel(program, out.dtype, letters)
        for large in (current, history, out) if g_state is None else (g_current,):
            if large is not None:  # fresh pages cost more than the arithmetic: ask for large ones before writing
                self._kernel.pages(large.data_ptr(), large.numel() * large.element_size())

    def forward(self, t: int) -> None:
        """out[t], history[t + 1] = step(current[t], history[t])."""
        before = self._history + t % self._rounds * self._states
        after = self._history + (t + 1) % self._rounds * self._states
        x, s = self._current + t % self._rows * self._row, self._out + t * self._row
        self._kernel.forward(_pack(*self._head, x, s, before, after, 0, 0, 0, self._to))

    def backward(self, t: int, g_s: Tensor) -> None:
        """g_current[t] and g_state from the gradient of out[t] and g_state; adds up those of the coefficients."""
        x, before = self._current + t * self._row, self._history + t * self._states
        g = (g_s.data_ptr(), self._g_state, self._g_current + t * self._row)
        self._kernel.backward(_pack(*self._head, x, 0, before, 0, *g, self._to))

    def mix(self, window: Tensor, taps: Tensor, add: Tensor | None, out: Tensor) -> None:
        """out = add + sum_k taps[k] window[k], in one pass; all contiguous."""
        (rows, lanes), threads = out.shape, self._head[3]
        self._kernel.mix(_pack_mix(len(window), rows, lanes, threads, *map(_at, (window, taps, add, out))))

    def whole_forward(self, x: Tensor, weight: Tensor, mask: Tensor | None, heard: Tensor) -> None:
        """All steps, with ``feedback[t] = mask * W heard[t]``; heard is the past, then the outputs to be filled."""
        x, weight, mask = x.contiguous(), weight.contiguous(), None if mask is None else mask.contiguous()
        packed = x.new_empty(self._kernel.packed(x.shape[2]))
        step = (*self._head, 0, 0, 0, 0, 0, 0, 0, self._to)
        places = *map(_at, (weight, mask, packed, x, heard)), self._current, self._history
        self._kernel.loop_forward(_pack_loop(*step, len(x), self._rows, self._rounds, *places, 0, 0, 0))

    def whole_backward(self, g_out: Tensor | None, weight: Tensor, mask: Tensor | None, arriving: Tensor) -> None:
        """All steps in reverse; arriving, ``[T + 1, B, N]``, zeros at its end, gets the gradients of the feedback."""
        g_out = None if g_out is None else g_out.contiguous()
        weight, mask = weight.contiguous(), None if mask is None else mask.contiguous()
        packed = arriving.new_empty(self._kernel.packed(arriving.shape[2]))
        step = (*self._head, 0, 0, 0, 0, 0, self._g_state, 0, self._to)
        head = (len(arriving) - 1, self._rows, self._rounds, *map(_at, (weight, mask, packed)), 0, 0)
        self._kernel.loop_backward(
            _pack_loop(*step, *head, self._current, self._history, _at(g_out), self._g_current, _at(arriving))
        )

    def coefficient_gradients(self, coefficients: Sequence[Tensor]) -> list[Tensor]:
        """Their sums over all steps so far."""
        totals = self._sums.sum(0)
        found = []
        for k, (c, letter) in enumerate(zip(coefficients, self._letters, strict=True)):
            total = totals[k, 0] if letter == "s" else totals[k]
            found.append(total.reshape(c.shape).to(c.dtype, copy=True))
        return found
