"""The loop of the recurrent scan over time, forward and in reverse: one product and one step of the neuron each time.

On a GPU the whole loop is one launch (``recurrent_cuda.py``). Else the step is an object (``recurrent_step.py``): on
the CPU one that was compiled for this loop, or the scan's own kernels called for a single step. All memory is made
before the loop. Nothing in it looks at a value, so that it can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from snnkit.ops import recurrent_cuda
from snnkit.ops.recurrent_cpu import CompiledStep
from snnkit.ops.recurrent_step import Step, step_of
from snnkit.ops.scan_operator import kind_of


@torch.no_grad()  # exported programs call operators with tensors that want gradients
def forward_loop(
    x: Tensor, weight: Tensor, taps: Tensor | None, mask: Tensor | None, past: Tensor, coefficients: Sequence[Tensor],
    before: Sequence[Tensor], numbers: Sequence[float], key: str, keep: bool,
) -> list[Tensor]:  # fmt: skip
    """Past and output in one, last states, traces; for the backward currents, states before a step, mixed outputs."""
    kind, lags, (steps, batch, size) = kind_of(key), len(past), x.shape
    outputs = x.new_empty(lags + steps, batch, size)  # with those before the first step
    outputs[:lags] = past
    # Without the backward the memory of two steps goes round.
    current = x.new_empty(steps if keep else 1, batch, size)
    history = x.new_empty(steps + 1 if keep or kind.record else 2, batch, len(before), size)
    mixed = x.new_empty(0 if taps is None else max(len(current), 2), batch, size)
    for place, state in zip(history[0].unbind(1), before, strict=True):
        place.copy_(state)
    if recurrent_cuda.takes(x):
        shown = current if keep else None
        given = (x, weight, taps, mask, outputs, shown, history, mixed)
        recurrent_cuda.forward(kind.program, coefficients, numbers, *given)
    else:
        step = step_of(kind.program, coefficients, numbers, current, history, outputs[lags:])
        if isinstance(step, CompiledStep) and taps is None and weight.ndim == 2:
            step.whole_forward(x, weight, mask, outputs)
        else:
            back = _Forward(step, x, weight, taps, mask, outputs, current, mixed)
            for t in range(steps):
                back.current(t)
                step.forward(t)
    last = history[steps % len(history)]
    after = [_own(state) for state in last.unbind(1)] if kind.final else []
    traces = [_own(history[1:, :, kind.program.states.index(name)]) for name in kind.record]
    kept = [part[: steps if keep else 0] for part in (current, history, mixed)]
    return [outputs, *after, *traces, *kept]


def _own(part: Tensor) -> Tensor:
    """A part of a larger tensor in memory of its own: outputs of an operator share none."""
    return part.clone(memory_format=torch.contiguous_format)


class _Forward:
    """``current[t] = x[t] + mask * feedback``, by the form of weight and taps."""

    def __init__(
        self, step: Step | CompiledStep, x: Tensor, weight: Tensor, taps: Tensor | None, mask: Tensor | None,
        outputs: Tensor, current: Tensor, mixed: Tensor,
    ) -> None:  # fmt: skip
        self.step, self.x, self.mask, self.taps = step, x, mask, None if taps is None else taps.flip(0).contiguous()
        self.outputs, self.rows, self.mixed = outputs, current, mixed
        self.lags = len(outputs) - len(x)
        self.across = weight.transpose(-1, -2)
        self.oldest_first = self.across.flip(0) if weight.ndim == 3 else None
        self.feedback = torch.empty_like(x[0]) if mask is not None and len(x) else None

    def current(self, t: int) -> None:
        """Fill the current of step t."""
        out, row = self.rows[t % len(self.rows)], self.x[t]
        into = out if self.feedback is None else self.feedback
        heard = self.outputs[t : t + self.lags]
        if self.oldest_first is not None:
            torch.addbmm(row, heard, self.oldest_first, beta=int(self.feedback is None), out=into)
        else:
            source = heard[-1]
            if self.taps is not None:
                source = self.mixed[t % len(self.mixed)]
                self.step.mix(heard, self.taps, None, source)
            if self.feedback is None:
                torch.addmm(row, source, self.across, out=into)
            else:
                torch.mm(source, self.across, out=into)
        if self.feedback is not None and self.mask is not None:
            torch.addcmul(row, self.feedback, self.mask, out=out)


@torch.no_grad()
def backward_loop(
    gradients: Sequence[Tensor | None], weight: Tensor, taps: Tensor | None, mask: Tensor | None, past: Tensor,
    out: Tensor, current: Tensor, history: Tensor, mixed: Tensor, coefficients: Sequence[Tensor],
    before: Sequence[Tensor], numbers: Sequence[float], key: str,
) -> list[Tensor]:  # fmt: skip
    """Gradients of x, weight, taps, past, coefficients and first states from those of output, last states, traces."""
    kind, lags, (steps, batch, size) = kind_of(key), len(past), out.shape
    states = kind.program.states
    count = len(states) if kind.final else 0
    g_out, g_after, g_traces = gradients[0], gradients[1 : 1 + count], gradients[1 + count :]
    g_state = out.new_zeros(batch, len(states), size)
    for place, g in zip(g_state.unbind(1), g_after, strict=False):
        if g is not None:
            place.copy_(g)
    # What reaches the outputs of each step through the weights comes from later steps; past the end there are none.
    arriving = out.new_empty(steps + lags, batch, size)
    arriving[steps:].zero_()
    g_current = arriving[:steps] if taps is None and mask is None else out.new_empty(out.shape)
    if recurrent_cuda.takes(out):
        by_state = [_sum_of(g for name, g in zip(kind.record, g_traces, strict=True) if name == s) for s in states]
        given = (g_out, by_state, weight, taps, mask, current, history, g_state, g_current, arriving)
        g_coefficients = recurrent_cuda.backward(kind.program, coefficients, numbers, *given)
    else:
        g_traced = [(states.index(name), g) for name, g in zip(kind.record, g_traces, strict=True) if g is not None]
        step = step_of(kind.program, coefficients, numbers, current, history, out, g_state, g_current)
        _in_reverse(step, g_out, g_traced, weight, taps, mask, g_state, g_current, arriving)
        g_coefficients = step.coefficient_gradients(coefficients)
    g_past = _gradient_of_past(arriving, weight, taps, past)
    g_weight, g_taps = _gradients_of_weights(g_current, arriving, weight, taps, mask, past, out, mixed)
    return [g_current, g_weight, g_taps, g_past, *g_coefficients, *(_own(g) for g in g_state.unbind(1))]


def _sum_of(gradients: Iterable[Tensor | None]) -> Tensor | None:
    found = [g for g in gradients if g is not None]
    return torch.stack(found).sum(0) if len(found) > 1 else found[0] if found else None


def _in_reverse(
    step: Step | CompiledStep, g_out: Tensor | None, g_traced: Sequence[tuple[int, Tensor]], weight: Tensor,
    taps: Tensor | None, mask: Tensor | None, g_state: Tensor, g_current: Tensor, arriving: Tensor,
) -> None:  # fmt: skip
    """Step by step from the last to the first: fill g_current and arriving, leave the first states' gradient."""
    steps, lags = len(g_current), len(arriving) - len(g_current)
    masked = torch.empty_like(g_current[0]) if mask is not None and steps else None
    g_s = g_current.new_empty(g_current.shape[1:])
    taps = None if taps is None else taps.contiguous()
    g_out = None if g_out is None else g_out.contiguous()
    whole = isinstance(step, CompiledStep) and taps is None and weight.ndim == 2 and not g_traced
    if isinstance(step, CompiledStep) and whole:
        step.whole_backward(g_out, weight, mask, arriving)
    for t in range(-1 if whole else steps - 1, -1, -1):
        later, add = arriving[t + 1 : t + 1 + lags], None if g_out is None else g_out[t]
        if taps is None:
            _gather(g_s, add, later, weight)
        else:
            step.mix(later, taps, add, g_s)
        for state, g in g_traced:
            g_state[:, state].add_(g[t])
        step.backward(t, g_s)
        if taps is not None:
            g = g_current[t] if mask is None or masked is None else torch.mul(g_current[t], mask, out=masked)
            torch.mm(g, weight, out=arriving[t])
        elif mask is not None:
            torch.mul(g_current[t], mask, out=arriving[t])


def _gather(g_s: Tensor, g_out: Tensor | None, later: Tensor, weight: Tensor) -> None:
    """The gradient of one step's output: what arrives from outside and from the steps that hear it."""
    if g_out is None:
        g_s.zero_()
    if weight.ndim == 3:
        torch.addbmm(g_s if g_out is None else g_out, later, weight, out=g_s)
    else:
        torch.addmm(g_s if g_out is None else g_out, later[0], weight, out=g_s)


def _gradient_of_past(arriving: Tensor, weight: Tensor, taps: Tensor | None, past: Tensor) -> Tensor:
    """past[k], of lags - k steps before the start, is heard at steps 0 .. k."""
    lags, found = len(past), torch.empty_like(past)
    for k in range(lags):  # its lag at step t is lags - k + t
        later, lag = arriving[: k + 1], lags - k - 1
        if taps is not None:
            torch.sum(later * taps[lag:, None], 0, out=found[k])
        elif weight.ndim == 3:
            torch.sum(torch.bmm(later, weight[lag:]), 0, out=found[k])
        else:
            torch.mm(later[0], weight, out=found[k])
    return found


def _gradients_of_weights(
    g_current: Tensor, arriving: Tensor, weight: Tensor, taps: Tensor | None, mask: Tensor | None, past: Tensor,
    out: Tensor, mixed: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One product over all steps (for each lag, if each has weights of its own)."""
    steps, lags, none = len(out), len(past), out.new_empty(0)
    if taps is not None:
        g = g_current if mask is None else g_current * mask
        heard = torch.cat([past, out])
        g_taps = torch.stack([(arriving[:steps] * heard[lags - k - 1 :][:steps]).sum((0, 1)) for k in range(lags)])
        return torch.mm(g.flatten(0, 1).t(), mixed.flatten(0, 1)), g_taps
    g = arriving[:steps]
    if weight.ndim == 3:
        heard = torch.cat([past, out])
        pairs = [heard[lags - k - 1 :][:steps].flatten(0, 1) for k in range(lags)]
        return torch.stack([torch.mm(g.flatten(0, 1).t(), source) for source in pairs]), none
    if steps == 0:
        return torch.zeros_like(weight), none
    found = torch.mm(g[0].t(), past[0])
    return found.addmm_(g[1:].flatten(0, 1).t(), out[:-1].flatten(0, 1)), none
