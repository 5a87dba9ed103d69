"""One step of a neuron inside the recurrent loop, and its reverse, on memory that lasts for the loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnkit.ops import scan_cpu
from snnkit.ops.program import Program
from snnkit.ops.recurrent_cpu import CompiledStep
from snnkit.ops.scan_operator import implementation


class Step:
    """The scan's own kernels, called for a single step: any device.

    Args:
        program, coefficients, numbers: of the neuron.
        current: ``[T, B, N]``, or one row that serves all steps (without backward).
        history: ``[T + 1, B, S, N]``, states before each step, or fewer rows that go round.
        out: ``[T, B, N]``, what the neuron puts out.
        g_state: ``[B, S, N]``: gradients of the states after a step, then of those before it.
        g_current: ``[T, B, N]``.
    """

    def __init__(
        self, program: Program, coefficients: Sequence[Tensor], numbers: Sequence[float], current: Tensor,
        history: Tensor, out: Tensor, g_state: Tensor | None = None, g_current: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.program, self.coefficients, self.numbers = program, coefficients, numbers
        self.rows, self.history, self.out = current, history, out
        self.g_state, self.g_current = g_state, g_current
        self.sums = [torch.zeros_like(c, dtype=torch.float64) for c in coefficients]
        self.scan = implementation(out)

    def forward(self, t: int) -> None:
        """out[t], history[t + 1] = step(current[t], history[t])."""
        before, after = self.history[t % len(self.history)], self.history[(t + 1) % len(self.history)]
        x = self.rows[t % len(self.rows)][None]
        out, *states = self.scan.forward(
            self.program, (), True, x, self.coefficients, before.unbind(1), self.numbers, -1
        )
        self.out[t] = out[0]
        for place, state in zip(after.unbind(1), states, strict=True):
            place.copy_(state)

    def backward(self, t: int, g_s: Tensor) -> None:
        """g_current[t] and g_state from the gradient of out[t] and g_state; adds up those of the coefficients."""
        g_state, g_current = self.g_state, self.g_current
        if g_state is None or g_current is None:
            raise RuntimeError("This step was made for the forward alone.")
        g_x, *rest = self.scan.backward(
            self.program, (), True, [g_s[None], *g_state.unbind(1)], self.rows[t][None], self.coefficients,
            self.history[t].unbind(1), self.numbers, -1,
        )  # fmt: skip
        g_current[t] = g_x[0]
        count = len(self.coefficients)
        for total, g in zip(self.sums, rest[:count], strict=True):
            total.add_(g)
        for place, g in zip(g_state.unbind(1), rest[count:], strict=True):
            place.copy_(g)

    def mix(self, window: Tensor, taps: Tensor, add: Tensor | None, out: Tensor) -> None:
        """out = add + sum_k taps[k] window[k]."""
        torch.sum(window * taps[:, None], 0, out=out)
        if add is not None:
            out.add_(add)

    def coefficient_gradients(self, coefficients: Sequence[Tensor]) -> list[Tensor]:
        """Their sums over all steps so far."""
        return [total.to(c.dtype) for total, c in zip(self.sums, coefficients, strict=True)]


def step_of(
    program: Program, coefficients: Sequence[Tensor], numbers: Sequence[float], current: Tensor, history: Tensor,
    out: Tensor, g_state: Tensor | None = None, g_current: Tensor | None = None,
) -> Step | CompiledStep:  # fmt: skip
    """The fastest step for these tensors."""
    kind = CompiledStep if implementation(out) is scan_cpu and out.numel() else Step
    return kind(program, coefficients, numbers, current, history, out, g_state, g_current)
