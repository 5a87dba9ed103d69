"""One call of the scan made ready for a kernel: what lies where, in which dtype, and what comes back.

The compiled kernels of all devices take the same tensors; they differ in how they are told.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnkit.ops.layout import Layout, like, row_like
from snnkit.ops.program import Program


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the states: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


Arriving = tuple[Tensor | None, list[Tensor | None], list[Tensor | None]]


class Call:
    """What forward and backward of one call share.

    Args:
        x: the input, ``[T, B, ...]``.
        coefficients: tensors that broadcast to ``x.shape[2:]``.
        before: the states to start from, ``[B, ...]`` each, or none.
        steps: < 0 takes a row of x for each step.
        io: the dtype of sequences that the kernel reads and writes.

    Attributes:
        dtype: of the states and coefficients.
        x: the input with the features of a sample side by side.
        letters: a letter for each coefficient: ``s`` for one value, ``l`` for a value a lane.
    """

    def __init__(
        self, x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], steps: int, io: torch.dtype
    ) -> None:
        self.dtype, self.io, self.given = compute_dtype(x), io, x
        self.total, self.repeated = len(x) if steps < 0 else steps, steps >= 0
        # Here and below: a kernel sees the memory of a tensor, not its negative bit.
        self.layout = Layout.of((x if x.dtype == io else x.to(io)).resolve_neg())
        self.x = self.layout.x
        self.letters = "".join("s" if c.numel() == 1 else "l" for c in coefficients)
        self.coefficients = [
            (c if letter == "s" else self.layout.lane_values(c)).to(self.dtype).resolve_neg().contiguous()
            for c, letter in zip(coefficients, self.letters, strict=True)
        ]
        self.before = [self.layout.aligned(state.resolve_neg(), 1, self.dtype) for state in before]
        self.x_step = 0 if self.repeated else self.x.stride(0)

    def rows_and_lanes(self, *sequences: Tensor | None) -> tuple[int, int]:
        """Rows that lie side by side are one long row, unless a coefficient differs from lane to lane."""
        layout = self.layout
        dense = layout.rows < 2 or all(s is None or s.stride(1) == layout.lanes for s in (self.x, *sequences))
        if dense and "l" not in self.letters:
            return 1, layout.rows * layout.lanes
        return layout.rows, layout.lanes

    def sequence(self, g: Tensor) -> Tensor:
        """A gradient ``[T, B, ...]`` with its features in x's order; copied only if they lie otherwise."""
        g = g.resolve_neg()
        if g.is_contiguous() and self.layout.order == tuple(range(2, g.ndim)):
            return g if g.dtype == self.io else g.to(self.io)
        return self.layout.aligned(g, 2, self.io)

    def states(self, gradients: Sequence[Tensor | None], lead: int) -> list[Tensor | None]:
        """Gradients of states (``lead`` 1) or traces (2), as the kernel reads them."""
        return [g if g is None else self.layout.aligned(g.resolve_neg(), lead, self.dtype) for g in gradients]

    def arriving(self, program: Program, final: bool, gradients: Sequence[Tensor | None]) -> Arriving:
        """The gradients of what a forward returned, as the kernel reads them: of output, last states and traces."""
        output, count = gradients[0], len(program.states) if final else 0
        g_s = None if output is None else self.sequence(output)
        return g_s, self.states(gradients[1 : 1 + count], 1), self.states(gradients[1 + count :], 2)

    def sequence_like(self, steps: int) -> Tensor:
        """A new sequence for the kernel to fill."""
        return like(self.given, steps, self.io)

    def trace_like(self) -> Tensor:
        """A new trace for the kernel to fill."""
        return like(self.given, self.total, self.dtype)

    def row_like(self) -> Tensor:
        """A new state for the kernel to fill."""
        return row_like(self.given, self.dtype)

    def returned(self, sequence: Tensor) -> Tensor:
        """A filled sequence in the dtype of the input."""
        return sequence if sequence.dtype == self.given.dtype else sequence.to(self.given.dtype)

    def coefficient_gradients(self, coefficients: Sequence[Tensor], sums: Sequence[Tensor | None]) -> list[Tensor]:
        """Gradients of the coefficients from float64 sums: in parts (``s``) or ``[segments, lanes]`` (``l``)."""
        found = []
        for coefficient, letter, values in zip(coefficients, self.letters, sums, strict=True):
            if values is None:
                found.append(coefficient.new_zeros(coefficient.shape))
            else:
                total = values.sum() if letter == "s" else self.layout.from_lanes(values.sum(0), coefficient.shape)
                found.append(total.to(coefficient.dtype).reshape(coefficient.shape).contiguous())
        return found
