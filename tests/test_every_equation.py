"""Every equation with every surrogate and every reset: what is derived from ``step`` agrees with ``step`` itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import snnkit.equations
from snnkit.equations import Equation, Hard, Reset, Surrogate
from snnkit.ops import cpu, scan
from snnkit.ops.program import plan_of
from tests.closeness import error
from tests.compiled_together import compiled_together
from tests.equations_under_test import (
    EQUATIONS,
    RESETS,
    SURROGATES,
    by_reference,
    classes,
    drive,
    initial_state,
    learnable,
    neuron_of,
    resets_of,
    surrogates_of,
    tamed,
    with_tensors,
)
from tests.play_back import play_back
from tests.shared import needs_compiler

T, B, C = 5, 2, 3


@pytest.mark.parametrize("base", [Equation, Surrogate, Reset], ids=lambda base: base.__name__)
def test_every_class_is_exported(base):
    missing = [c.__name__ for c in classes(base) if getattr(snnkit.equations, c.__name__, None) is not c]
    assert not missing


@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_traced_lists_played_back_equal_the_step_and_its_autograd(equation):
    for reset in resets_of(equation):
        x = tamed(neuron_of(equation, reset=reset), drive(equation, (T, B, C)))
        for surrogate in surrogates_of(equation):
            check_lists(equation, surrogate, reset, x)


def check_lists(equation: str, surrogate: str, reset: str, x: Tensor) -> None:
    """Outputs to the bit and all gradients to 1e-12, every parameter being one value a channel."""
    case = f"{equation}-{surrogate}-{reset}"
    neuron = with_tensors(neuron_of(equation, surrogate, reset), (C,), torch.float64)
    tensors = {name: neuron.parameters()[name] for name in learnable(neuron)}
    x = x.clone().requires_grad_()
    noise = 0.1 * torch.rand(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    start = {n: (v + noise).detach().requires_grad_() for n, v in initial_state(neuron, x).items()}
    names = tuple(neuron.states)
    noise = torch.Generator().manual_seed(1)
    g_s, *g_traces = (torch.randn(x.shape, dtype=torch.float64, generator=noise) for _ in range(1 + len(names)))

    s, _, traces = by_reference(neuron, x, start, names)
    total = (s * g_s).sum() + sum((traces[n] * g).sum() for n, g in zip(names, g_traces, strict=True))
    inputs = [x, *start.values(), *tensors.values()]
    expected = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)

    plan = plan_of(neuron)
    coefficients = plan.program.tensor_values(neuron.parameters(), torch.float64)
    with np.errstate(over="ignore"):
        output, g_x, g_state, g_coefficients = play_back(
            plan.program, plan.constants, [c.detach().numpy() for c in coefficients], x.detach().numpy(),
            {n: v.detach().numpy() for n, v in start.items()}, g_s.numpy(),
            {n: g.numpy() for n, g in zip(names, g_traces, strict=True)},
        )  # fmt: skip
    assert np.array_equal(output, s.detach().numpy(), equal_nan=True), case
    arriving = sum(
        (
            (c * torch.as_tensor(g).sum_to_size(c.shape)).sum()
            for c, g in zip(coefficients, g_coefficients, strict=True)
        ),
        torch.zeros((), dtype=torch.float64, requires_grad=True) * 1.0,
    )
    on_tensors = torch.autograd.grad(arriving, list(tensors.values()), allow_unused=True, materialize_grads=True)
    got = [g_x, *g_state.values(), *on_tensors]
    for name, g, e in zip(["x", *start, *tensors], got, expected, strict=True):
        assert error(g, e) < 1e-12, f"{case}: gradient of {name}: {g}, expected {e}"


@pytest.mark.parametrize("equation", EQUATIONS)
def test_relaxed_gradients_equal_finite_differences(equation):
    # Independent of our own reference: autograd only serves to be compared. Each surrogate and each reset comes by.
    resets = resets_of(equation)
    for k, surrogate in enumerate(surrogates_of(equation)):
        check_relaxed(equation, surrogate, resets[k % len(resets)], by_reference)


def check_relaxed(equation: str, surrogate: str, reset: str, run: Callable[..., Any], **keywords: Any) -> bool:
    """Finite differences for the input, the first states and every parameter, those of the surrogate too."""
    neuron = neuron_of(equation, surrogate, reset).as_relaxed()
    neuron = with_tensors(neuron, (2,), torch.float64, list(neuron.parameters()))
    tensors = neuron.parameters()
    x = tamed(neuron, drive(equation, (3, 1, 2), seed=3)).requires_grad_()
    start = {n: (v + 0.05).detach().requires_grad_() for n, v in initial_state(neuron, x).items()}

    def outputs(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        states = dict(zip(start, values, strict=False))
        parameters = dict(zip(tensors, values[len(start) :], strict=True))
        s, state, traces = run(neuron.bind(parameters), x, states, tuple(start))
        return (s, *(state[n] for n in start), *traces.values())

    # Scaled, since some neurons' gradients are thousands: a tolerance is absolute as well as relative.
    return torch.autograd.gradcheck(
        outputs, (x, *start.values(), *tensors.values()), fast_mode=True, rtol=1e-4, atol=1e-6, **keywords
    )


@needs_compiler
def test_relaxed_kernels_equal_finite_differences():
    cases = [(equation, "Sigmoid", "Soft") for equation in EQUATIONS]
    cases += [("LIF", surrogate, reset) for surrogate, reset in zip(SURROGATES, itertools.cycle(RESETS), strict=False)]
    results = compiled_together(lambda: [check_relaxed(*case, scan, raise_exception=False) for case in cases])
    assert not [case for case, passed in zip(cases, results, strict=True) if not passed]


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_numbers_alone_with_a_reset_to_zero_give_what_the_step_gives(equation, detach, monkeypatch):
    # That reset is traced by a shorter formula; whoever asks for the rule must still see a hard one.
    monkeypatch.setattr(cpu, "refusal", lambda: "not here")
    thing, options = EQUATIONS[equation]
    neuron = thing(**options, reset=Hard(0.0, detach=detach))
    x = 1.5 * drive(equation, (7, 3, 40))
    found = []
    for walk in (lambda x: scan(neuron, x), lambda x: by_reference(neuron, x)):
        leaf = x.clone().requires_grad_()
        s, state, _ = walk(leaf)
        torch.autograd.backward([s, *state.values()], [torch.ones_like(o) for o in (s, *state.values())])
        found.append((s.detach(), leaf.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_a_membrane_that_is_not_a_number_shows_in_the_output(equation):
    x = drive(equation, (T, B, C))
    x[1, 0, 1] = float("nan")
    s = by_reference(neuron_of(equation), x)[0]
    assert s[1:, 0, 1].isnan().all() and s.isnan().sum() == T - 1


@pytest.mark.parametrize("equation", EQUATIONS)
def test_every_neuron_fires_and_is_silent_under_its_drive(equation):
    # Otherwise the comparisons above say little.
    s = by_reference(neuron_of(equation), drive(equation, (20, B, C)))[0]
    assert (s > 0).any() and not (s > 0).all()


@pytest.mark.parametrize("equation", EQUATIONS)
def test_numbers_that_are_impossible_are_refused(equation):
    thing, options = EQUATIONS[equation]
    for name in thing.parameter_names:
        with pytest.raises(ValueError, match=f"{name} must be"):
            thing(**options, **{name: float("nan")})
        if name in thing.positive:
            with pytest.raises(ValueError, match=f"{name} must be"):
                thing(**options, **{name: -1.0})
