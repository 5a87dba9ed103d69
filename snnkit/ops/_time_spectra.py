"""Causal convolution over time by its spectrum: one batch of matrix products, 1.5 (T + K) of them instead of T K.

A convolution of whole sequences is a product at each frequency. With n points of the circle, X = sum_t x_t e^(-i w t):

    Y_w = H_w X_w,   y_t = 1/n sum_w Y_w e^(i w t)

A complex product is three real ones (P1 = Hr Xr, P2 = Hi Xi, P3 = (Hr + Hi)(Xr + Xi); Yr = P1 - P2, Yi = P3 - P1 - P2),
so with three real rows a frequency the whole is bilinear in real matrices:

    y = C [(A x) * (D h)]     A [P, T], D [P, K], C [T, P],  * : [B, in] x [in, out] at each of P = 1.5 n points

All is matrix products in the layout that time-first data has, at any n, and the gradients are the transposes. It rounds
like a sum in another order, relative to the norm of the sequence (float32: 3e-7; with TF32 7e-4, plain sums 2e-4). So a
silent step is 1e-7 of the loudest one instead of 0, and a NaN fills its sequence, the past too.
A long sequence is cut into blocks of output that join the batch, each with the K - 1 steps of input before it, so that
neither the matrices nor the spectrum of the taps (P times as large as one tap) grow with T.
Taps are ``[K, out, in]``, tap k is the delay K - 1 - k.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

LONGEST_BLOCK = 192  # steps of output of a block; or 6 K, if that is more


def points(steps: int, K: int, start: int, length: int) -> int:
    """Points P at which products are made, for as many points n of the circle as keep what wraps round unread."""
    count, block = _blocks(K, length)
    n = _circle(steps, K, start, length) if count == 1 else block + K - 1
    return (3 * n - 1) // 2


def work(steps: int, K: int, start: int, length: int, batch: int, inputs: int, out: int) -> int:
    """Multiplications of a forward; each of the two gradients takes as many."""
    count, block = _blocks(K, length)
    if count > 1:
        steps, start, length, batch = block + K - 1, K - 1, block, batch * count
    transforms = batch * (steps * inputs + length * out) + K * inputs * out
    return (3 * _circle(steps, K, start, length) - 1) // 2 * (transforms + batch * inputs * out)


def forward(x: Tensor, taps: Tensor, start: int, length: int) -> Tensor:
    """Steps start to start + length of the convolution of x ``[S, B, in]``."""
    K = len(taps)
    count, block = _blocks(K, length)
    if count == 1:
        return _forward(x, taps, start, length)
    y = _forward(_windows(x, K, start, count, block), taps, K - 1, block)
    return y.unflatten(1, (count, -1)).transpose(0, 1).reshape(count * block, x.shape[1], y.shape[2])[:length]


def gradients(g: Tensor, x: Tensor, taps: Tensor | None, out: Tensor | None, start: int) -> Tensor | None:
    """What ``forward`` hands back, given g ``[length, B, out]``.

    Args:
        g: gradient of the answer.
        x: as of ``forward``.
        taps: as of ``forward``; None if no gradient of x is wanted.
        out: memory ``[K, out, in]`` without gaps for the gradient of the taps; None if it is not wanted.
        start: as of ``forward``.

    Returns:
        The gradient of x, or None.
    """
    K = len(taps) if taps is not None else 1 if out is None else len(out)
    count, block = _blocks(K, len(g))
    if count == 1:
        return _gradients(g, x, taps, out, start, K)
    g = F.pad(g, (0, 0, 0, 0, 0, count * block - len(g))).unflatten(0, (count, block)).transpose(0, 1).flatten(1, 2)
    g_windows = _gradients(g, _windows(x, K, start, count, block), taps, out, K - 1, K)
    return None if g_windows is None else _added(g_windows, x, K, start, count, block)


def _forward(x: Tensor, taps: Tensor, start: int, length: int) -> Tensor:
    a, d, c = _matrices(len(x), len(taps), start, length, x)
    products = torch.bmm(_at_points(a, x), _at_points(d, taps).mT, out=_room(x, len(a), x.shape[1], taps.shape[1]))
    return _at_points(c, products)


def _gradients(g: Tensor, x: Tensor, taps: Tensor | None, out: Tensor | None, start: int, K: int) -> Tensor | None:
    a, d, c = _matrices(len(x), K, start, len(g), g)
    g_products = _at_points(c.T, g)
    if out is not None:
        g_spectrum = torch.bmm(g_products.mT, _at_points(a, x), out=_room(g, len(a), *out.shape[1:]))
        torch.mm(d.T, g_spectrum.flatten(1), out=out.flatten(1))
        del g_spectrum
    if taps is None:
        return None
    return _at_points(a.T, torch.bmm(g_products, _at_points(d, taps), out=_room(g, len(a), *x.shape[1:])))


def _blocks(K: int, length: int) -> tuple[int, int]:
    """Number of blocks of output, and their length."""
    longest = max(LONGEST_BLOCK, 6 * K)
    count = max((length + longest - 1) // longest, 1)
    return count, (length + count - 1) // count


def _margins(steps: int, K: int, start: int, count: int, block: int) -> tuple[int, int]:
    """Zeros before and after the input, so that block j reads steps j * block to j * block + block + K - 1."""
    before = K - 1 - start
    return before, count * block + K - 1 - before - steps


def _windows(x: Tensor, K: int, start: int, count: int, block: int) -> Tensor:
    """Input of each block, ``[block + K - 1, count * B, in]``."""
    _, batch, inputs = x.shape
    padded = F.pad(x, (0, 0, 0, 0, *_margins(len(x), K, start, count, block))).contiguous()
    row = batch * inputs
    return padded.as_strided((block + K - 1, count, batch, inputs), (row, block * row, inputs, 1)).flatten(1, 2)


def _added(g_windows: Tensor, x: Tensor, K: int, start: int, count: int, block: int) -> Tensor:
    """Gradient of x from that of its windows."""
    before, after = _margins(len(x), K, start, count, block)
    g_x = x.new_zeros(count * block + K - 1, *x.shape[1:])
    for j, g in enumerate(g_windows.unflatten(1, (count, -1)).unbind(1)):
        g_x[j * block : j * block + len(g)] += g
    return F.pad(g_x, (0, 0, 0, 0, -before, -after)).contiguous()


def _at_points(matrix: Tensor, rows: Tensor) -> Tensor:
    """``matrix @ rows`` over the first axis of rows ``[N, ., .]``. With out=, so that no autocast halves it."""
    made = _room(rows, len(matrix), *rows.shape[1:])
    torch.mm(matrix, rows.flatten(1), out=made.flatten(1))
    return made


def _room(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape)


def _circle(steps: int, K: int, start: int, length: int) -> int:
    """Outputs must not meet: neither with each other, nor with later ones that wrap round to before ``start``."""
    return max(steps + K - 1 - start, start + length, 1)


def _matrices(steps: int, K: int, start: int, length: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The matrices A, D and C, kept for a stream after the first time, unless a CUDA graph owns the memory."""
    sizes = (steps, K, start, length, like.dtype, like.device)
    if not like.is_cuda:
        return _kept(None, *sizes)
    if torch.cuda.is_current_stream_capturing():
        return _make(*sizes)
    return _kept(torch._C._cuda_getCurrentRawStream(like.get_device()), *sizes)


def _make(
    steps: int, K: int, start: int, length: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    n = _circle(steps, K, start, length)

    def row(first: int, count: int, step: int = 1) -> Tensor:
        return torch.arange(first, first + step * count, step, device=device)

    frequency, even = row(1, (n - 1) // 2), n % 2 == 0

    def waves(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # the alternating wave of an even n; cos, sin
        turn = (frequency[:, None] * t % n).double() * (2 * math.pi / n)  # whole numbers: no digits are lost
        return (1 - 2 * (t % 2)).double()[None][: int(even)], turn.cos(), turn.sin()

    def analysis(t: Tensor) -> Tensor:
        half, cos, sin = waves(t)
        return torch.cat([torch.ones_like(t, dtype=torch.float64)[None], half, cos, -sin, cos - sin]).to(dtype)

    t = row(start, length)
    half, cos, sin = waves(t)
    constant = torch.ones_like(t, dtype=torch.float64)[None]
    synthesis = torch.cat([constant, half, 2 * (cos + sin), 2 * (sin - cos), -2 * sin]) / n
    return analysis(row(0, steps)), analysis(row(K - 1, K, -1)), synthesis.T.to(dtype).contiguous()


@functools.lru_cache(maxsize=64)
def _kept(
    stream: int | None, steps: int, K: int, start: int, length: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    return _make(steps, K, start, length, dtype, device)
