"""Steps that nobody wrote: drawn from the closed set of functions, they run compiled as in the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnkit.equations import Equation, Hard, Soft
from snnkit.equations.symbols import (
    OPERATIONS,
    clamp,
    detach,
    exp,
    floor,
    log,
    maximum,
    minimum,
    round,
    sigmoid,
    sign,
    sqrt,
    straight_through,
    tanh,
    where,
)
from snnkit.ops import cpu, scan
from snnkit.ops.program import plan_of
from tests.closeness import error, same_bits
from tests.compiled_together import compiled_together
from tests.equations_under_test import by_reference, rounds_as_torch
from tests.play_back import play_back
from tests.shared import needs_compiler

T, B, C = 5, 2, 3

# Each takes the value before it and a leaf (x, a state, a parameter, a number). Arguments are kept where
# the function is defined, and values do not grow beyond what float32 holds.
EXACT: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: b - a,
    lambda a, b: a * b,
    lambda a, b: b / (1.5 + abs(a)),
    lambda a, b: -a,
    lambda a, b: (a / (1.0 + abs(a))) ** 3,
    lambda a, b: abs(a - b),
    lambda a, b: sign(a) * b,
    lambda a, b: sqrt(0.5 + abs(a)) - b,
    lambda a, b: floor(a) + b,
    lambda a, b: round(a) * b,
    lambda a, b: minimum(a, b),
    lambda a, b: maximum(b, a),
    lambda a, b: clamp(a, -0.5, b),
    lambda a, b: where(a >= b, b, a),
    lambda a, b: where(b < 0.25, a, -a),
    lambda a, b: where(a > b, where(a <= 1.0, 0.5 * a, b), 0.25),
    lambda a, b: detach(a) * b,
    lambda a, b: straight_through(floor(a), a, 0.5) + b,
]
ROUNDED: list[Callable[[Any, Any], Any]] = [
    lambda a, b: exp(minimum(a, 1.5)) * b,
    lambda a, b: log(1.0 + abs(a)) - b,
    lambda a, b: tanh(a) + b,
    lambda a, b: sigmoid(a) * b,
]
FUNCTIONS = EXACT + ROUNDED


@st.composite
def neurons(draw: st.DrawFn, functions: list[Callable[[Any, Any], Any]] = FUNCTIONS) -> type[Equation]:
    """A neuron with one or two states and up to eight operations before its spike."""
    count = draw(st.integers(1, 8))
    chosen = [draw(st.sampled_from(functions)) for _ in range(count)]
    leaves = [draw(st.integers(0, 5)) for _ in range(count)]
    two, spike_first, own_output = draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 3)) == 0
    late = draw(st.integers(0, 3)) == 0  # x reaches the output a step later, through the state v
    number = draw(st.sampled_from([0.5, -1.0, 0.1, 2.0]))

    def step(self: Any, x: Any, v: Any, w: Any = 0.25) -> tuple[Any, dict[str, Any]]:
        values = [x, v, w, self.p, exp(-1.0 / self.q), number]
        base = u = v if late else x + v
        for function, leaf in zip(chosen, leaves, strict=True):
            u = function(u, values[leaf]) + 0.0 * base  # never a mere number, nor without a gradient
        u = u / (1.0 + 0.125 * abs(u))  # so that no state runs away
        s = self.spike(u - self.v_threshold)
        kept = v + 0.5 * (u - v)
        after = {"v": self.reset(kept if spike_first else u, s) + (0.5 * x if late else 0.0)}
        if two:
            after["w"] = w + (s - w) / self.q
        return (u if own_output else s), after

    states: dict[str, float | str] = {"v": "v_rest"} | ({"w": 0.125} if two else {})
    reset = draw(st.sampled_from([Hard(-0.25), Soft(), Soft(detach=True)]))
    members = {"p": 0.75, "q": 2.0, "v_threshold": 0.5, "states": states, "step": step, "default_reset": reset}
    return type("Drawn", (Equation,), members)


def sequence(dtype: torch.dtype, seed: int) -> Tensor:
    return (3.0 * torch.rand(T, B, C, generator=torch.Generator().manual_seed(seed)) - 1.0).to(dtype)


def with_parameters(neuron: Equation, dtype: torch.dtype) -> tuple[Equation, list[Tensor]]:
    tensors = [torch.tensor([0.75, 0.5, -0.25], dtype=dtype), torch.tensor(2.0, dtype=dtype)]
    tensors = [t.requires_grad_() for t in tensors]
    return neuron.bind({"p": tensors[0], "q": tensors[1]}), tensors


def outputs_and_gradients(
    run: Callable[..., Any], drawn: type[Equation], x: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    neuron, tensors = with_parameters(drawn(), x.dtype)
    x = x.detach().requires_grad_()
    s, state, traces = run(neuron, x, record=("v",)) if run is scan else run(neuron, x, None, ("v",))
    outputs = [s, traces["v"], *state.values()]
    noise = torch.Generator().manual_seed(5)
    total = sum((o * torch.rand(o.shape, generator=noise).to(o.dtype)).sum() for o in outputs)
    found = torch.autograd.grad(total, [x, *tensors], allow_unused=True, materialize_grads=True)
    return [o.detach() for o in outputs], list(found)


@given(drawn=neurons(), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_lists_of_a_drawn_step_equal_its_autograd(drawn, seed):
    x = sequence(torch.float64, seed)
    neuron, tensors = with_parameters(drawn(), x.dtype)
    names = tuple(neuron.states)
    plan = plan_of(neuron)
    coefficients = plan.program.tensor_values(neuron.parameters(), torch.float64)
    start = {n: torch.full((B, C), 0.125, dtype=torch.float64).requires_grad_() for n in names}
    x.requires_grad_()
    s, _, traces = by_reference(neuron, x, start, names)
    g = torch.linspace(0.5, 1.5, x.numel(), dtype=torch.float64).view(x.shape)
    total = (s * g).sum() + sum((traces[n] * g).sum() for n in names)
    expected = torch.autograd.grad(total, [x, *start.values(), *tensors], allow_unused=True, materialize_grads=True)
    output, g_x, g_state, g_coefficients = play_back(
        plan.program, plan.constants, [c.detach().numpy() for c in coefficients], x.detach().numpy(),
        {n: v.detach().numpy() for n, v in start.items()}, g.numpy(), {n: g.numpy() for n in names},
    )  # fmt: skip
    if rounds_as_torch(neuron):
        assert np.array_equal(output, s.detach().numpy())
    assert np.allclose(output, s.detach().numpy(), rtol=1e-12, atol=1e-12)
    arriving = sum(
        (
            (c * torch.as_tensor(g).sum_to_size(c.shape)).sum()
            for c, g in zip(coefficients, g_coefficients, strict=True)
        ),
        torch.zeros((), dtype=torch.float64, requires_grad=True) * 1.0,
    )
    on_tensors = torch.autograd.grad(arriving, tensors, allow_unused=True, materialize_grads=True)
    for got, e in zip([g_x, *g_state.values(), *on_tensors], expected, strict=True):
        assert error(got, e) < 1e-11 or (torch.as_tensor(got) - e).abs().max() < 1e-12


@needs_compiler
@given(several=st.lists(neurons(), min_size=12, max_size=12), seed=st.integers(0, 99))
@settings(max_examples=2, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # each example compiles its kernels
def test_kernels_of_drawn_steps_equal_the_reference(several, seed):
    def calls() -> list[Any]:
        return [
            outputs_and_gradients(scan, drawn, sequence(dtype, seed))
            for drawn in several
            for dtype in (torch.float32, torch.float64)
        ]

    results = iter(compiled_together(calls))
    for drawn in several:
        exact = rounds_as_torch(drawn())
        for dtype in (torch.float32, torch.float64):
            outputs, gradients = next(results)
            if not exact and dtype == torch.float32:
                continue  # a rounding may flip a comparison: in float64 it takes 1e-16
            expected_outputs, expected_gradients = outputs_and_gradients(by_reference, drawn, sequence(dtype, seed))
            for got, e in zip(outputs, expected_outputs, strict=True):
                assert same_bits(got, e).all() if exact else torch.allclose(got, e, rtol=1e-12, atol=1e-12)
            close = 1e-11 if dtype == torch.float64 else 1e-4
            for got, e in zip(gradients, expected_gradients, strict=True):
                assert error(got, e) < close or (got - e).abs().max() < close / 10


@given(drawn=neurons(EXACT), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_without_a_compiler_a_drawn_step_runs_as_in_the_reference(drawn, seed):
    from unittest import mock

    x = sequence(torch.float32, seed)
    with mock.patch.object(cpu, "refusal", lambda: "hidden"):
        outputs, gradients = outputs_and_gradients(scan, drawn, x)
    expected_outputs, expected_gradients = outputs_and_gradients(by_reference, drawn, x)
    assert all(torch.equal(got, e) for got, e in zip(outputs, expected_outputs, strict=True))
    for got, e in zip(gradients, expected_gradients, strict=True):
        assert error(got, e) < 1e-4 or (got - e).abs().max() < 1e-5


@given(drawn=neurons(), cut=st.sampled_from([lambda s: where(s >= 0.5, 1.0, 0.0), floor, round, sign, detach]))
@settings(max_examples=30)
def test_a_drawn_step_whose_output_is_cut_off_its_gradient_is_refused(drawn, cut):
    def step(self: Any, x: Any, **states: Any) -> tuple[Any, dict[str, Any]]:
        s, after = drawn.step(self, x, **states)
        return cut(s), after

    plan_of(drawn())
    with pytest.raises(TypeError, match=r"Cut\.step passes no gradient from its output to x"):
        plan_of(type("Cut", (drawn,), {"step": step})())


def test_the_drawn_steps_cover_the_closed_set():
    class Everything(Equation):
        p = 1.0
        states = {"v": 0.0}

        def step(self, x, v):
            total = v
            for function in FUNCTIONS:
                total = total + function(x, v)
            return self.spike(total), {"v": total}

    used = {node.operation for node in Everything().trace().trace.nodes} - {"input"}
    assert set(OPERATIONS) - used == {"atan", "erf"}  # those serve the primitives of surrogates alone
