"""Delayed synaptic input: ``y[t] = sum_D h_D x[t - D]`` over a sequence ``[T, B, C]``, a causal convolution in time.

Time comes first, so the inputs of all steps are the rows of one matrix, and a delay of D steps is the same matrix D * B
rows further down: K matrix products that add into y, without columns, padding or a copy, and without the part of the
past that is zero anyway; large layers need three products in four (``_time_products``). On CUDA, where products are
cheap and memory is wide, large layers go by their spectrum, which needs a tenth of the products (``_time_spectra``),
half numbers and small layers by one product with all delays side by side (``_time_unfolded``). Groups, and on a CPU
half numbers and the smallest layers, go by ``conv1d``. ``path`` says which way a call takes.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from snnkit.ops import _time_products, _time_spectra, _time_unfolded
from snnkit.ops.registered import Registered, gradients_with_graph, transformed, wants_graph


def delayed_sum(x: Tensor, kernel: Tensor, *, tail: int = 0, past: Tensor | None = None) -> Tensor:
    """Sum of delayed inputs: ``y[t, b, o] = sum_{D, i} kernel[o, i, K - 1 - D] x[t - D, b, i]``.

    Args:
        x: input, ``[T, B, C]``. T may be 0.
        kernel: ``[out, C / groups, K]`` as of ``delay_kernel``; the number of groups follows from the shapes.
        tail: further steps of output, in which only delayed input arrives (K - 1 of them empty the line).
        past: what came before x, ``[S, B, C]`` with any S; default zeros.

    Returns:
        ``[T + tail, B, out]``, in the wider dtype of the two (under autocast: in its dtype).

    Raises:
        ValueError: shapes do not fit.

    >>> x, kernel = torch.zeros(4, 1, 1), torch.zeros(1, 1, 3)
    >>> x[0], kernel[..., 0] = 1.0, 5.0  # an impulse at t = 0; the first of K = 3 taps is the delay of two steps
    >>> delayed_sum(x, kernel).flatten().tolist()
    [0.0, 0.0, 5.0, 0.0]
    """
    _require(x, kernel, tail, past)
    dtype = _dtype(x, kernel)
    x, kernel = x.to(dtype), kernel.to(dtype)
    start = 0
    if past is not None and len(past):
        start = min(len(past), kernel.shape[-1] - 1)
        x = torch.cat([past[len(past) - start :].to(dtype), x])
    length = len(x) - start + tail
    if _by_products(x, kernel) and not transformed():
        if torch.is_grad_enabled():
            return _DelayedSum.apply(x, kernel, start, length)
        return _forward(x, kernel, start, length)
    return reference(x, kernel, start, length)


def reference(x: Tensor, kernel: Tensor, start: int, length: int) -> Tensor:
    """Steps start to start + length of the sum, by torch's convolution: any device, dtype, groups and derivative."""
    steps, K = len(x), kernel.shape[-1]
    if length == 0 or x.shape[1] == 0:  # torch's convolution refuses these
        return x.new_zeros(length, x.shape[1], len(kernel)) + 0 * (x.sum() + kernel.sum())
    padded = F.pad(x.permute(1, 2, 0), (K - 1 - start, length + start - steps))
    y = F.conv1d(padded, kernel, groups=x.shape[2] // kernel.shape[1])
    return y.permute(2, 0, 1).contiguous()


def path(x: Tensor, kernel: Tensor, *, tail: int = 0) -> str:
    """Say in one line which way ``delayed_sum`` takes for such a call, without a past.

    >>> path(torch.zeros(100, 2, 512), torch.zeros(512, 512, 31))
    'products over time (one a delay)'
    """
    dtype, length = _dtype(x, kernel), len(x) + tail
    x, kernel = x.to(dtype), kernel.to(dtype)
    way = None if transformed() else _way(x, kernel, 0, length)
    if way is _time_spectra:
        return f"spectra ({_time_spectra.points(len(x), kernel.shape[2], 0, length)} products)"
    if way is _time_unfolded:
        return "one product"
    if way is None:
        return "conv1d"
    return f"products over time ({('one a delay', 'halved', 'halved twice')[_halvings(x, kernel, 0)]})"


def _dtype(x: Tensor, kernel: Tensor) -> torch.dtype:
    dtype = torch.promote_types(x.dtype, kernel.dtype)
    if torch.is_autocast_enabled(x.device.type) and dtype != torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return dtype


# From where a way is the faster one. Work is counted in multiplications; plain work is T * K * B * in * out.
LEAST_MATRIX = 256  # CPU: out * in of products over time (measured for B from 1 to 256, T to 100)
# CUDA, float32: the least plain work of spectra, and the least plain work for each multiplication of theirs.
SPECTRA = (2**32, 1.5)
SPECTRA_TF32 = (2**34, 3.0)  # the tensor cores make one product cheaper, and spectra are bytes


def _by_products(x: Tensor, kernel: Tensor) -> bool:
    """Whether matrix products are the faster way, and a right one: sums of K roundings to half would be no good.

    Else torch's convolution. On CUDA only groups go there: it is now and then twice as fast, but in 12 of 54 measured
    cases cuDNN took 5 to 70 times as long as one product, by a choice that nobody can foresee.
    """
    (out, inputs, _), exact = kernel.shape, x.dtype in (torch.float32, torch.float64)
    if inputs != x.shape[2]:
        return False
    if x.device.type != "cpu":
        return x.device.type == "cuda"
    # Inductor compiles a convolution once for each T, a product of the smallest layers but for any.
    return exact and (inputs * out >= LEAST_MATRIX or torch.compiler.is_compiling())


def _way(x: Tensor, kernel: Tensor, start: int, length: int) -> ModuleType | None:
    """The file whose matrix products run; None: torch's convolution."""
    if not _by_products(x, kernel):
        return None
    if not x.is_cuda:
        return _time_products
    if x.dtype not in (torch.float32, torch.float64):
        return _time_unfolded
    (steps, batch, inputs), (out, _, K) = x.shape, kernel.shape
    plain, (least, saving) = steps * K * batch * inputs * out, SPECTRA_TF32 if _tf32(x) else SPECTRA
    if plain >= least and plain >= saving * _time_spectra.work(steps, K, start, length, batch, inputs, out):
        return _time_spectra
    return _time_unfolded


def _tf32(x: Tensor) -> bool:
    return x.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"


def _halvings(x: Tensor, kernel: Tensor, start: int) -> int:
    rows, entries = x.shape[0] * x.shape[1], kernel.shape[0] * kernel.shape[1]
    return 0 if start else _time_products.depth(rows, entries, kernel.shape[2])


def _taps(kernel: Tensor) -> Tensor:
    """``[K, out, in]``, each tap a matrix without gaps; no copy if ``delay_kernel`` made it."""
    return kernel.movedim(-1, 0).contiguous()


def _run_forward(x: Tensor, kernel: Tensor, start: int, length: int) -> Tensor:
    way, x, taps = _way(x, kernel, start, length), x.contiguous(), _taps(kernel)
    if way is _time_spectra:
        return _time_spectra.forward(x, taps, start, length)
    if way is _time_unfolded:
        return _time_unfolded.forward(x, taps, start, length)
    return _time_products.forward(x, taps, start, length, _halvings(x, kernel, start))


def _run_backward(
    g: Tensor, x: Tensor, kernel: Tensor, start: int, to_x: bool, to_kernel: bool
) -> tuple[Tensor, Tensor]:
    way, g, x = _way(x, kernel, start, len(g)), g.contiguous(), x.contiguous()
    g_x, g_kernel = _gradients(x, kernel, False, to_kernel)
    if way is _time_unfolded:
        if to_x:
            g_x = _time_unfolded.gradient_of_x(g, _taps(kernel), len(x), start)
        if to_kernel:
            _time_unfolded.gradient_of_taps(g, x, g_kernel.movedim(-1, 0), start)
        return g_x, g_kernel
    if way is _time_spectra:
        taps = _taps(kernel) if to_x else None
        found = _time_spectra.gradients(g, x, taps, g_kernel.movedim(-1, 0) if to_kernel else None, start)
        return g_x if found is None else found, g_kernel
    halvings = _halvings(x, kernel, start)
    if to_x:
        g_x = _time_products.gradient_of_x(g, _taps(kernel), len(x), start, halvings)
    if to_kernel:
        _time_products.gradient_of_taps(g, x, g_kernel.movedim(-1, 0), start, halvings)
    return g_x, g_kernel


def _gradients(x: Tensor, kernel: Tensor, to_x: bool, to_kernel: bool) -> tuple[Tensor, Tensor]:
    """Memory for the two gradients, empty for one that nobody asked for."""
    out, per_group, K = kernel.shape if to_kernel else (0, 0, 0)
    return x.new_empty(x.shape if to_x else (0, 0, 0)), x.new_empty(K, out, per_group).movedim(0, -1)


_forward = Registered(
    "delayed_sum(Tensor x, Tensor kernel, SymInt start, SymInt length) -> Tensor",
    _run_forward,
    lambda x, kernel, start, length: x.new_empty(length, x.shape[1], kernel.shape[0]),
    devices=("CPU", "CUDA"),
)
_backward = Registered(
    "delayed_sum_backward(Tensor g, Tensor x, Tensor kernel, SymInt start, bool to_x, bool to_kernel)"
    " -> (Tensor, Tensor)",
    _run_backward,
    lambda g, x, kernel, start, to_x, to_kernel: _gradients(x, kernel, to_x, to_kernel),
    devices=("CPU", "CUDA"),
)


class _DelayedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, start: int, length: int) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.start = start
        return _forward(x, kernel, start, length)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        if wants_graph():
            plain = functools.partial(reference, start=ctx.start, length=len(g))
            found = gradients_with_graph(plain, (x, kernel), g)
            return *found, None, None
        to_x, to_kernel = ctx.needs_input_grad[:2]
        g_x, g_kernel = _backward(g, x, kernel, ctx.start, to_x, to_kernel)
        return g_x if to_x else None, g_kernel if to_kernel else None, None, None


def _require(x: Tensor, kernel: Tensor, tail: int, past: Tensor | None) -> None:
    """Refuse what has no meaning."""
    if x.ndim != 3 or kernel.ndim != 3:
        raise ValueError(
            f"delayed_sum expects x [T, B, C] and kernel [out, C / groups, K], got {tuple(x.shape)} and "
            f"{tuple(kernel.shape)}. For a single step: x[None]."
        )
    out, per_group, _ = kernel.shape
    if per_group == 0 or x.shape[2] % per_group or out % (x.shape[2] // per_group):
        raise ValueError(
            f"delayed_sum: kernel {tuple(kernel.shape)} does not fit x with {x.shape[2]} channels: "
            "[out, C / groups, K] with groups dividing both."
        )
    if past is not None and past.shape[1:] != x.shape[1:]:
        raise ValueError(f"delayed_sum: past {tuple(past.shape)} does not continue into x {tuple(x.shape)}.")
    if isinstance(tail, float) or tail < 0:
        raise ValueError(f"delayed_sum: tail counts further steps, a whole number >= 0, got {tail}.")
