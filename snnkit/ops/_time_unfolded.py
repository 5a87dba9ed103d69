"""Causal convolution over time as one matrix product: the K steps that a step hears stand side by side.

    y = U(x) W      U(x) [L * B, K * C]: row (t, b) holds x[t - K + 1, b] ... x[t, b];  W [K * C, out]: the taps

The sum over delays and inputs then happens inside the product, in float32 for half numbers too, and each number of the
answer is rounded once; K products that add into y would round K times. The gradient of x is the same form, of g with
the taps in opposite order. That of the taps is U(x)^T g for small taps; for others a product per tap, of g with rows of
x that begin a step later each time: one batch of products on overlapping memory, which copies nothing.

U(x) is K times as large as x, so it is made for some steps at a time, and copied 16 bytes at a time. For this, and for
the fast products, channels are filled up with zeros to a multiple of 16 bytes.
Taps are ``[K, out, in]``, tap k is the delay K - 1 - k. (Where cuBLAS splits the sum of a half product, it may round
the parts too: ``torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction``, which torch turns on.)
"""

from __future__ import annotations

import torch
from torch import Tensor, bmm, mm
from torch.nn import functional as F

LARGEST_PIECE = 2**28  # bytes of U(x) at a time, unless one step needs more
SMALL_TAPS = 2**12  # out * in up to which a product per tap keeps too little of a GPU busy


def forward(x: Tensor, taps: Tensor, start: int, length: int) -> Tensor:
    """Steps start to start + length of the convolution of x ``[S, B, in]``."""
    K, out, _ = taps.shape
    matrix = _filled(taps).transpose(0, 1).flatten(1).T
    return _product(_heard(x, K - 1 - start, length + K - 1), matrix, K)[..., :out].contiguous()


def gradient_of_x(g: Tensor, taps: Tensor, steps: int, start: int) -> Tensor:
    """What ``forward`` hands back to x, given g ``[length, B, out]``."""
    K, _, inputs = taps.shape
    matrix = _filled(taps).flip(0).flatten(0, 1)
    return _product(_heard(g, start, steps + K - 1), matrix, K)[..., :inputs].contiguous()


def gradient_of_taps(g: Tensor, x: Tensor, out: Tensor, start: int) -> None:
    """What ``forward`` hands back to the taps, written into ``out`` ``[K, out, in]`` without gaps."""
    K, outputs, inputs = out.shape
    heard = _heard(x, K - 1 - start, len(g) + K - 1)
    rows = F.pad(g, (0, _missing(g, 2))).flatten(0, 1) if _missing(g, 2) else g.flatten(0, 1)
    _, batch, row = heard.shape
    if outputs * inputs <= SMALL_TAPS and len(g) <= _steps_at_once(heard, K):
        found = mm(rows.T, _unfolded(heard, K)).unflatten(1, (K, row)).transpose(0, 1)
    else:
        later = heard.as_strided((K, len(rows), row), (batch * row, row, 1))
        taps = rows.T.expand(K, -1, -1)
        if out.shape[1:] == (rows.shape[1], row):
            bmm(taps, later, out=out)
            return
        found = bmm(taps, later)
    out.copy_(found[:, :outputs, :inputs])


def _product(heard: Tensor, matrix: Tensor, K: int) -> Tensor:
    """U(x) times matrix ``[K * in, out]``, in pieces of about the same number of steps."""
    length = len(heard) - K + 1
    y = heard.new_empty(length, heard.shape[1], matrix.shape[1])
    most = _steps_at_once(heard, K)
    count = max((length + most - 1) // most, 1)
    block = max((length + count - 1) // count, 1)
    for first in range(0, length, block):
        piece = y[first : first + block]
        mm(_unfolded(heard[first : first + len(piece) + K - 1], K), matrix, out=piece.flatten(0, 1))
    return y


def _steps_at_once(heard: Tensor, K: int) -> int:
    _, batch, row = heard.shape
    return max(LARGEST_PIECE // max(batch * K * row * heard.element_size(), 1), 1)


def _unfolded(heard: Tensor, K: int) -> Tensor:
    """U(x) of all steps but the first K - 1, which are heard alone."""
    wide = heard.view(torch.complex128)  # for the copy, any number of 16 bytes
    steps, batch, row = wide.shape
    step = batch * row
    windows = wide.as_strided((steps - K + 1, batch, K, row), (step, row, step, 1))
    return windows.contiguous().view(heard.dtype).flatten(2).flatten(0, 1)


def _heard(x: Tensor, before: int, steps: int) -> Tensor:
    """A copy of x with so many zero steps before it, cut or filled up to so many in all, and channels filled up."""
    return F.pad(x, (0, _missing(x, 2), 0, 0, before, steps - before - len(x))).contiguous()


def _filled(taps: Tensor) -> Tensor:
    sides = (0, _missing(taps, 2), 0, _missing(taps, 1))
    return F.pad(taps, sides) if any(sides) else taps


def _missing(x: Tensor, axis: int) -> int:
    return -x.shape[axis] % (16 // x.element_size())
