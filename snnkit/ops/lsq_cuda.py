"""LSQ's weights on a GPU: ``cuda/lsq.cu``, compiled for a number type and launched, three kernels a training pass.

With torch's own operations they are dozens, for each layer, and a network with weights of few bits waits for the host.
``snnkit/nn/quant.py`` has the formulas, and takes these kernels where they run; elsewhere it is their reference.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from snnkit.ops import cuda
from snnkit.ops._delay_cuda import REAL
from snnkit.ops.cuda import Function
from snnkit.ops.registered import is_plain, transformed
from snnkit.ops.sources import source

_THREADS = (64, 256)  # of a block: for channels of few weights, and of many
_pack = struct.Struct("10q2d").pack  # struct Arguments of cuda/lsq.cu


def takes(weight: Tensor, *others: Tensor) -> bool:
    """Whether the kernels take a weight, and steps, gradients or flags of its dtype beside it.

    Half stays with torch's operations, which round after each of them: weights are float32 under autocast.
    """
    return (
        all(map(is_plain, (weight, *others)))  # first: what is compiled or traced shall see no more of this
        and not transformed()
        and weight.is_cuda
        and weight.dtype in REAL
        and weight.numel() > 0
        and all(x.dtype == weight.dtype and x.device == weight.device for x in others)
        and _channels_are_rows(weight.shape, weight.stride())
        and cuda.refusal(weight.get_device()) is None
    )


@functools.lru_cache(maxsize=4096)
def _channels_are_rows(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether each output channel is one piece of memory, without gaps, after the one before: channels-last is, too."""
    row = 1
    for stride, size in sorted(_that_matter(shape[1:], strides[1:])):
        if stride != row:
            return False
        row *= size
    return len(shape) > 0 and (shape[0] == 1 or strides[0] == row)


@functools.lru_cache(maxsize=4096)
def _that_matter(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Strides and sizes of the axes with more than one place: those of the others may be anything."""
    return [(stride, size) for stride, size in zip(strides, shape, strict=True) if size > 1]


def text(dtype: torch.dtype, threads: int) -> str:
    """The CUDA text of the three kernels, as it is compiled."""
    return "\n".join(
        [
            source("math.h"),
            f"typedef {REAL[dtype]} real;\nconstexpr int kThreads = {threads};",
            source("block_sum.cuh"),
            source("lsq.cu"),
        ]
    )


@functools.cache
def _function(name: str, dtype: torch.dtype, threads: int, device: int) -> Function:
    return Function(text(dtype, threads), name, device)


def _launch(
    name: str, blocks: int, weight: Tensor, steps: Tensor, most: int, *, alpha: int = 0, init_state: int = 0,
    g: int = 0, to: int = 0, g_steps: int = 0, keep: bool = False,
) -> None:  # fmt: skip
    channels = weight.shape[0]
    each = weight.numel() // channels
    threads = _THREADS[each > _THREADS[-1]]
    _function(name, weight.dtype, threads, weight.get_device())(
        blocks, threads, 0,
        _pack(
            weight.data_ptr(), alpha, init_state, steps.data_ptr(), g, to, g_steps, channels, each, keep,
            most, 1 / math.sqrt(weight.numel() * most),
        ),
    )  # fmt: skip


def steps(weight: Tensor, alpha: Tensor, init_state: Tensor, most: int, keep: bool) -> Tensor:
    """The steps of a pass ``[cout]``: alpha, or where they start as long as init_state is 0.

    ``keep`` writes a start into alpha, and 1 into init_state unless all weights are 0.
    """
    found = torch.empty_like(alpha)
    _launch("lsq_steps", 1, weight, found, most, alpha=alpha.data_ptr(), init_state=init_state.data_ptr(), keep=keep)
    if keep:  # autograd shall know that they may have changed
        torch.autograd.graph.increment_version((alpha, init_state))
    return found


def quantized(weight: Tensor, steps: Tensor, most: int) -> Tensor:
    """w_q, in the weight's own layout."""
    w_q = torch.empty_like(weight)
    _launch("lsq_forward", weight.shape[0], weight, steps.contiguous(), most, to=w_q.data_ptr())
    return w_q


def gradients(g: Tensor, weight: Tensor, steps: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Gradients of the weight and of the steps; g may lie in memory in any way."""
    if _that_matter(g.shape, g.stride()) != _that_matter(weight.shape, weight.stride()):
        g = torch.empty_like(weight).copy_(g)
    found, g_steps = torch.empty_like(weight), steps.new_empty(steps.shape)
    _launch(
        "lsq_backward", weight.shape[0], weight, steps.contiguous(), most,
        g=g.data_ptr(), to=found.data_ptr(), g_steps=g_steps.data_ptr(),
    )  # fmt: skip
    return found, g_steps
