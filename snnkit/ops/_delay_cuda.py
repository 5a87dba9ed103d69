"""The CUDA form of ``delay_kernel``: ``cuda/delay.cu``, compiled for a profile and a number type, and launched."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable

import torch
from torch import Tensor

from snnkit.ops.cuda import Function
from snnkit.ops.sources import source

REAL = {torch.float32: "float", torch.float64: "double"}
"""What a dtype is called in the texts."""

PROFILES = ("BILINEAR", "TRIANGLE", "GAUSS")
"""Names in the texts, by the profiles' ``code``."""

_THREADS = 128  # of a block
_pack = struct.Struct("8q3qd").pack  # struct Arguments of cuda/delay.cu


def text(dtype: torch.dtype, code: int, wide: bool) -> str:
    """The CUDA text of the two kernels of a profile, as it is compiled."""
    return "\n".join(
        [
            source("math.h"),
            source("delay.h"),
            f"typedef {REAL[dtype]} real;",
            f"constexpr Profile kProfile = {PROFILES[code]};",
            f"constexpr bool kWide = {str(wide).lower()};",
            f"constexpr int kThreads = {_THREADS};",
            source("delay.cu"),
        ]
    )


@functools.cache
def _function(name: str, dtype: torch.dtype, code: int, wide: bool, device: int) -> Callable[..., None]:
    return Function(text(dtype, code, wide), name, device)


def forward(
    h: Tensor, weight: Tensor, position: Tensor, width: Tensor | None, size: int, code: int, base: float
) -> None:
    """As ``_delay_cpu.forward``."""
    n = h.numel() // size
    arguments = _pack(
        weight.data_ptr(), position.data_ptr(), _address(width), h.data_ptr(), 0, 0, 0, 0,
        n, weight.shape[-1], size, base,
    )  # fmt: skip
    run = _function("delay_forward", weight.dtype, code, False, weight.get_device())
    run(-(-n // _THREADS), _THREADS, 0, arguments)


def backward(
    g: Tensor, weight: Tensor, position: Tensor, width: Tensor | None, gradients: tuple[Tensor, Tensor, Tensor | None],
    size: int, code: int, base: float,
) -> None:  # fmt: skip
    """As ``_delay_cpu.backward``."""
    n = g.numel() // size
    g_weight, g_position, g_width = gradients
    arguments = _pack(
        weight.data_ptr(), position.data_ptr(), _address(width), 0, g.data_ptr(),
        g_weight.data_ptr(), g_position.data_ptr(), _address(g_width), n, weight.shape[-1], size, base,
    )  # fmt: skip
    run = _function("delay_backward", weight.dtype, code, g_width is not None, weight.get_device())
    run(-(-n // _THREADS), _THREADS, 0, arguments)


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()
