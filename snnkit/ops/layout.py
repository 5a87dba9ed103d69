"""How a sequence lies in memory: T steps of B rows of F lanes, the lanes side by side.

Outputs are T-major, with the features in the memory order of x: a channels-last input gives a channels-last output, a
transposed ``[B, T, C]`` a contiguous ``[T, B, C]``. Real and fake kernels both ask ``like``, so that they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def feature_order(x: Tensor) -> tuple[int, ...] | None:
    """Axes 2, 3, ... of x, slowest first, if the features of one sample lie side by side in memory; else None."""
    axes = tuple(range(2, x.ndim))
    if x.is_contiguous():
        return axes
    sizes, strides = x.shape, x.stride()
    order = sorted(axes, key=lambda axis: -strides[axis])  # stable: axes of size 1 stay where they are
    expected = 1
    for axis in reversed(order):
        if sizes[axis] != 1 and strides[axis] != expected:
            return None
        expected *= sizes[axis]
    return tuple(order)


def _permuted(x: Tensor, shape: Sequence[int], order: Sequence[int], lead: int, dtype: torch.dtype) -> Tensor:
    """A new tensor of ``shape`` (``lead`` axes, then features) whose features lie in the given order."""
    features = [axis - 2 + lead for axis in order]
    inverse = [0] * len(features)
    for place, axis in enumerate(features):
        inverse[axis - lead] = place + lead
    out = x.new_empty([*shape[:lead], *(shape[axis] for axis in features)], dtype=dtype)
    return out.permute(*range(lead), *inverse)


def like(x: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """A new ``[steps, B, ...]`` for results about x."""
    shape = [steps, *x.shape[1:]]
    order = feature_order(x)
    if order is None or order == tuple(range(2, x.ndim)):
        return x.new_empty(shape, dtype=dtype)
    return _permuted(x, shape, order, 2, dtype)


def row_like(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A new ``[B, ...]`` for a state."""
    order = feature_order(x)
    if order is None or order == tuple(range(2, x.ndim)):
        return x.new_empty(x.shape[1:], dtype=dtype)
    return _permuted(x, x.shape[1:], order, 1, dtype)


@dataclass(frozen=True)
class Layout:
    """x as the kernels see it: ``x`` with features side by side, B rows, F lanes a row, and the axes' order."""

    x: Tensor
    rows: int
    lanes: int
    order: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor) -> Layout:
        """The layout of x, copied only if its features do not lie side by side."""
        order = feature_order(x)
        if order is None:
            x = x.contiguous()
            order = tuple(range(2, x.ndim))
        rows = x.shape[1]
        return cls(x, rows, x[0, 0].numel() if x.ndim > 2 and rows and len(x) else _product(x.shape[2:]), order)

    def aligned(self, tensor: Tensor, lead: int, dtype: torch.dtype) -> Tensor:
        """``tensor`` (``lead`` axes, then features) in dtype with its features in this order, side by side."""
        if tensor.dtype != dtype:
            tensor = tensor.to(dtype)
        if not self.order or (tensor.is_contiguous() and self.order == tuple(range(2, len(self.order) + 2))):
            return tensor if tensor.is_contiguous() else tensor.contiguous()
        return tensor.permute(*range(lead), *(axis - 2 + lead for axis in self.order)).contiguous()

    def lane_values(self, coefficient: Tensor) -> Tensor:
        """A coefficient that broadcasts to the features, as one value a lane ``[F]``."""
        return self.aligned(coefficient.expand(self.x.shape[2:]), 0, coefficient.dtype).reshape(-1)

    def from_lanes(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Sum one value a lane ``[F]`` over the axes along which a coefficient of ``shape`` was broadcast."""
        sizes = [self.x.shape[axis] for axis in self.order]
        inverse = [self.order.index(axis) for axis in sorted(self.order)]
        return values.reshape(sizes).permute(inverse).sum_to_size(shape)


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
