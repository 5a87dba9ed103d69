"""How near two tensors are: bits, and the norm of the difference over the norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def same_bits(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors have the same value; NaN equals NaN."""
    return (a == b) | (a.isnan() & b.isnan())


def error(got: Any, expected: Any) -> float:
    """Norm of the difference over norm of the expected; absolute if that is zero."""
    got, expected = (torch.as_tensor(t).detach().double() for t in (got, expected))
    assert got.shape == expected.shape, f"shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    norm = expected.norm().item()
    return (got - expected).norm().item() / (norm if norm > 0 else 1.0)


def tolerance(dtype: torch.dtype) -> float:
    """What the norm of a gradient may differ by, relative: some hundred roundings."""
    return 1e-12 if dtype == torch.float64 else 1e-5
