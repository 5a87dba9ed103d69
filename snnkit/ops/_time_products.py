"""Causal convolution over time-first rows as matrix products, one per delay, and with a quarter less of them.

Rows: the inputs of all steps are one matrix ``[T * B, C]``, and a delay of D steps is the same matrix D * B rows
further down. So ``y = sum_D shift_D(x) h_D`` is a product per delay, on slices without a copy.

Halves: with even and odd steps x0, x1 and even and odd delays h0, h1 the four convolutions of half the length

    y0 = h0 x0 + z h1 x1,   y1 = h1 x0 + h0 x1          (z: one step of the halves later)

need three (Karatsuba; "fast FIR" in signal processing): with A = h0 x0, B = h1 x1, C = (h0 - h1) (x0 - x1)

    y0 = A + z B,           y1 = A + B - C

and again within each. It stays causal to the bit, and rounds like a sum in another order (float32, norm of the error
over norm: 1.7e-7 as plain products, 3.0e-7 halved twice). Taps are ``[K, out, in]``, tap k is the delay K - 1 - k.
"""

from __future__ import annotations

import torch
from torch import Tensor


def depth(rows: int, entries: int, K: int) -> int:
    """How often halving pays, for K products of so many rows (T * B) with matrices of so many entries (out * in).

    Measured, forward and backward: [1600, 512] x [512, 512], K=31: 0.82 of the time once, 0.75 twice; [6400, 256] x
    [256, 256], K=25: 0.78 and 0.70; [1600, 64] x [64, 64]: 1.06. A third time gains a little and costs digits.
    """
    halvings = 0
    while halvings < 2 and K >= 8 and rows >= 512 and entries >= 2**15:
        halvings, rows, K = halvings + 1, rows // 2, K // 2
    return halvings


def forward(x: Tensor, taps: Tensor, start: int, length: int, halvings: int = 0) -> Tensor:
    """Steps start to start + length of the convolution of x ``[S, B, C]``; halvings only with start = 0."""
    if halvings:
        return _forward_by_halves(x, taps, length, halvings - 1)
    steps, batch, _ = x.shape
    y = x.new_zeros(length, batch, taps.shape[1])
    rows_x, rows_y = x.flatten(0, 1), y.flatten(0, 1)
    for k, (i, o) in enumerate(_shifts(len(taps), steps, batch, start, length)):
        if o.stop > o.start:
            rows_y[o].addmm_(rows_x[i], taps[k].T)
    return y


def gradient_of_x(g: Tensor, taps: Tensor, steps: int, start: int, halvings: int = 0) -> Tensor:
    """What ``forward`` hands back to x, given g ``[length, B, out]``."""
    if halvings:
        g_a, g_b, g_c = _gradient_of_products(g)
        h0, h1 = _odd_and_even(taps)
        g_x = g.new_empty(steps, g.shape[1], taps.shape[2])
        x0, x1 = g_x[0::2], g_x[1::2]
        c = gradient_of_x(g_c, _difference(h0, h1), len(x0), 0, halvings - 1)
        torch.add(gradient_of_x(g_a, h0, len(x0), 0, halvings - 1), c, out=x0)
        torch.sub(gradient_of_x(g_b, h1, len(x1), 0, halvings - 1), c[: len(x1)], out=x1)
        return g_x
    length, batch, _ = g.shape
    g_x = g.new_zeros(steps, batch, taps.shape[2])
    rows_g, rows_g_x = g.flatten(0, 1), g_x.flatten(0, 1)
    for k, (i, o) in enumerate(_shifts(len(taps), steps, batch, start, length)):
        if o.stop > o.start:
            rows_g_x[i].addmm_(rows_g[o], taps[k])
    return g_x


def gradient_of_taps(g: Tensor, x: Tensor, out: Tensor, start: int, halvings: int = 0) -> None:
    """What ``forward`` hands back to the taps, written into ``out`` ``[K, out, in]`` (each tap without gaps)."""
    if halvings:
        g_a, g_b, g_c = _gradient_of_products(g)
        h0, h1 = _odd_and_even(out)
        x0, x1 = x[0::2].contiguous(), x[1::2].contiguous()
        gradient_of_taps(g_a, x0, h0, 0, halvings - 1)
        gradient_of_taps(g_b, x1, h1, 0, halvings - 1)
        c = out.new_empty(h0.shape)
        gradient_of_taps(g_c, _difference_of_steps(x0, x1), c, 0, halvings - 1)
        h0 += c
        h1 -= c[len(h0) - len(h1) :]
        return
    (length, batch, _), steps = g.shape, len(x)
    rows_g, rows_x = g.flatten(0, 1), x.flatten(0, 1)
    for k, (i, o) in enumerate(_shifts(len(out), steps, batch, start, length)):
        if o.stop > o.start:
            torch.mm(rows_g[o].T, rows_x[i], out=out[k])
        else:
            out[k].zero_()


def _forward_by_halves(x: Tensor, taps: Tensor, length: int, halvings: int) -> Tensor:
    h0, h1 = _odd_and_even(taps)
    x0, x1 = x[0::2].contiguous(), x[1::2].contiguous()
    y = x.new_empty(length, x.shape[1], taps.shape[1])
    y0, y1 = y[0::2], y[1::2]
    a = forward(x0, h0, 0, len(y0), halvings)
    b = forward(x1, h1, 0, len(y1), halvings)
    c = forward(_difference_of_steps(x0, x1), _difference(h0, h1), 0, len(y1), halvings)
    torch.sub(b, c, out=y1)
    y1 += a[: len(y1)]
    y0.copy_(a)
    y0[1:] += b[: len(y0) - 1]
    return y


def _gradient_of_products(g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of A, B and C from that of y."""
    g0, g1 = g[0::2], g[1::2]
    g_a, g_b = g0.clone(memory_format=torch.contiguous_format), g1.clone(memory_format=torch.contiguous_format)
    g_a[: len(g1)] += g1
    g_b[: len(g0) - 1] += g0[1:]
    return g_a, g_b, -g1.contiguous()


def _odd_and_even(taps: Tensor) -> tuple[Tensor, Tensor]:
    """Taps of the even delays and of the odd ones: views, the last tap is delay 0."""
    last = (len(taps) - 1) % 2
    return taps[last::2], taps[1 - last :: 2]


def _difference(h0: Tensor, h1: Tensor) -> Tensor:
    """h0 - h1; where their numbers differ, h1 lacks the longest delay, which stands first."""
    if len(h0) == len(h1):
        return h0 - h1
    h = torch.empty_like(h0, memory_format=torch.contiguous_format)
    h[0] = h0[0]
    torch.sub(h0[1:], h1, out=h[1:])
    return h


def _difference_of_steps(x0: Tensor, x1: Tensor) -> Tensor:
    """x0 - x1; where x1 is a step shorter, it goes on with zeros."""
    if len(x0) == len(x1):
        return x0 - x1
    return torch.cat([x0[:-1] - x1, x0[-1:]])


def _shifts(K: int, steps: int, batch: int, start: int, length: int) -> list[tuple[slice, slice]]:
    """For each tap the rows of input and of output that its delay connects."""
    found = []
    for D in range(K - 1, -1, -1):
        first = max(0, D - start)
        last = max(first, min(length, steps + D - start))
        found.append(
            (
                slice((first + start - D) * batch, (last + start - D) * batch),
                slice(first * batch, last * batch),
            )
        )
    return found
