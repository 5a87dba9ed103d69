"""Steps at the edge of what is allowed: mere numbers, states that swap, conditions on parameters, names of C."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from snnkit.equations import Equation, NoReset
from snnkit.equations.symbols import detach, floor, maximum, straight_through, where
from snnkit.ops import cpu, path, scan
from tests.closeness import error, same_bits
from tests.compiled_together import compiled_together
from tests.equations_under_test import by_reference
from tests.shared import needs_compiler

T, B, C = 7, 2, 3


def neuron(states: dict[str, float | str], step: Any, **parameters: float) -> type[Equation]:
    return type("Odd", (Equation,), {"states": states, "step": step, **parameters})


def firing(self: Any, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
    return self.spike(x), {"v": v + x}


STEPS = {
    "the output is the input": neuron({"v": 0.0}, lambda self, x, v: (x, {"v": v})),
    "the state is the input": neuron({"v": 0.5}, lambda self, x, v: (self.spike(v), {"v": x})),
    "the output is the state before": neuron({"v": 0.5}, lambda self, x, v: (v, {"v": v + x})),
    "the output is the state after": neuron({"v": 0.5}, lambda self, x, v: (v + x, {"v": v + x})),
    "the output is a number, the gradient goes along x": neuron(
        {"v": 0.5}, lambda self, x, v: (straight_through(1.0, x, 0.5), {"v": v + x})
    ),
    "the state is a number": neuron({"v": 0.5}, lambda self, x, v: (v + x, {"v": -0.0})),
    "the output is a parameter, the gradient goes along a state": neuron(
        {"v": 0.5}, lambda self, x, v: (straight_through(self.p, v, 2.0), {"v": x}), p=0.3
    ),
    "the state is a parameter": neuron({"v": 0.5}, lambda self, x, v: (v * x, {"v": self.p * 2}), p=0.3),
    "x reaches the output through two states, two steps later": neuron(
        {"v": 0.5, "w": 0.1}, lambda self, x, v, w: (self.spike(w - 0.4), {"v": x, "w": v * 0.9})
    ),
    "all results are numbers": neuron({"v": 0.5}, lambda self, x, v: (straight_through(0.0, x, 1.0), {"v": 1.0})),
    "states swap": neuron({"v": 0.5, "w": -0.5}, lambda self, x, v, w: (v - w, {"v": w, "w": v + x})),
    "states are one": neuron({"v": 0.5, "w": -0.5}, lambda self, x, v, w: (v - w, {"v": w + x, "w": w + x})),
    "a state returns in another order": neuron(
        {"v": 0.5, "w": 0.1}, lambda self, x, v, w: (v * w, {"w": w + x, "v": v})
    ),
    "a state starts at a parameter": neuron({"v": "p"}, lambda self, x, v: (v * x, {"v": v + x}), p=0.3),
    "a state starts at a property": neuron({"v": "v_rest"}, firing),
    "five states": neuron(
        dict.fromkeys("abcde", 0.25),
        lambda self, x, a, b, c, d, e: (self.spike(a + b * c), {"a": b, "b": c + x, "c": d * x, "d": e, "e": a}),
    ),
    "a parameter chooses": neuron(
        {"v": 0.5}, lambda self, x, v: (where(self.p > 0.2, v * x, x), {"v": where(self.p <= 0.2, x, v + x)}), p=0.3
    ),
    "a parameter is compared with a number and with another": neuron(
        {"v": 0.5}, lambda self, x, v: (x * maximum(self.p, 0.1), {"v": v + where(self.p < self.q, x, -x)}),
        p=0.3, q=0.2,
    ),
    "a parameter that nothing reads": neuron({"v": 0.0}, lambda self, x, v: (v + x, {"v": v + x}), p=3.0),
    "a parameter that only the gradient reads": neuron(
        {"v": 0.0}, lambda self, x, v: (self.spike(v + x), {"v": v + x}), unread=1.0
    ),
    "no gradient passes the spike": neuron(
        {"v": 0.0}, lambda self, x, v: (v + x, {"v": v * (1.0 - detach(self.spike(v + x - self.p)))}), p=0.3
    ),
    "no gradient passes the state": neuron({"v": 0.0}, lambda self, x, v: (x + v, {"v": detach(v) * 0.5 + detach(x)})),
    "the same parameter under two operations": neuron(
        {"v": 0.0}, lambda self, x, v: (x / self.p - v * self.p, {"v": v + x * (1.0 - self.p)}), p=0.3
    ),
    "large and small numbers": neuron(
        {"v": 0.0}, lambda self, x, v: (x * 1e-40 + 1e38 * v, {"v": v * 1e-3 + x * 0.1 + 1 / 3}), p=0.3
    ),
    "names that C knows": neuron(
        {"double": 0.5, "x": 0.1, "before": 0.2},
        lambda self, x_, **s: (
            self.spike(x_ + s["x"] * self.real),
            {"double": s["double"] * self.c, "x": x_, "before": s["double"] + self.int},
        ),
        real=0.3, c=0.7, int=-0.2,
    ),
    "names of the templates": neuron(
        {"s": 0.5, "t5": 0.1, "after": 0.2},
        lambda self, y, s, t5, after: (
            y + s * self.g_s, {"s": t5 * self.n, "t5": after, "after": y + self.steps + self.forward}
        ),
        g_s=0.3, n=0.7, steps=-0.2, forward=0.1,
    ),
}  # fmt: skip


# Each would run, and train nothing that comes before it.
WITHOUT_GRADIENT = {
    "a bare comparison": lambda self, x, v: (where(v + x >= 1.0, 1.0, 0.0), {"v": v + x}),
    "a comparison that chooses states": lambda self, x, v: (v, {"v": where(x > 0.5, v + 1.0, v)}),
    "a whole number": lambda self, x, v: (floor(v + x), {"v": v + x}),
    "a detached spike": lambda self, x, v: (detach(self.spike(v + x)), {"v": v + x}),
    "a state that x reaches without gradient": lambda self, x, v: (self.spike(v), {"v": detach(x) + v}),
    "x in a state that the output does not see": lambda self, x, v: (1.0, {"v": v + x}),
}
WITHOUT_X = {
    "a state of its own": lambda self, x, v: (self.spike(v - 0.1), {"v": v * 0.9}),
    "numbers": lambda self, x, v: (0.0, {"v": 1.0}),
}


@pytest.mark.parametrize("step", WITHOUT_GRADIENT)
def test_a_step_whose_output_has_no_gradient_to_x_is_refused_before_it_trains_nothing(step):
    odd = neuron({"v": 0.0}, WITHOUT_GRADIENT[step])()
    with pytest.raises(TypeError, match=r"Odd\.step passes no gradient from its output to x: .*self\.spike\("):
        scan(odd, torch.rand(T, B, C))


@pytest.mark.parametrize("step", WITHOUT_X)
def test_a_step_that_never_uses_x_is_refused(step):
    with pytest.raises(TypeError, match=r"Odd\.step never uses x: its output cannot depend on the input"):
        scan(neuron({"v": 0.5}, WITHOUT_X[step])(), torch.rand(T, B, C))


def run(scan: Any, step: str, dtype: torch.dtype, tensors: str) -> list[Tensor]:
    """Outputs and all gradients."""
    odd = STEPS[step](reset=NoReset())
    x = torch.rand(T, B, C, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()
    leaves = {}
    if tensors != "numbers":
        shape = {"one value": (), "one a channel": (C,)}[tensors]
        leaves = {n: torch.full(shape, v, dtype=dtype).requires_grad_() for n, v in odd.parameters().items()}
        odd = odd.bind(leaves)
    s, state, traces = scan(odd, x, None, tuple(odd.states))
    outputs = [s, *(state[n] for n in odd.states), *traces.values()]
    noise = torch.Generator().manual_seed(2)
    pairs = [(o, torch.rand(o.shape, generator=noise).to(o.dtype)) for o in outputs]
    pairs = [(o, g) for o, g in pairs if o.requires_grad]
    found: Any = [torch.zeros_like(leaf) for leaf in (x, *leaves.values())]
    if pairs:
        found = torch.autograd.grad(
            [o for o, _ in pairs],
            [x, *leaves.values()],
            [g for _, g in pairs],
            allow_unused=True,
            materialize_grads=True,
        )
    return [o.detach() for o in outputs], list(found)


CASES = [
    (s, d, t)
    for s in STEPS
    for d, t in ((torch.float32, "one a channel"), (torch.float64, "one value"), (torch.float64, "numbers"))
]


def compare(case: Any, got: Any, expected: Any) -> None:
    for a, b in zip(got[0], expected[0], strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype and same_bits(a, b).all(), case
    for a, b in zip(got[1], expected[1], strict=True):
        assert error(a, b) < (1e-5 if case[1] == torch.float32 else 1e-12), case


@needs_compiler
def test_compiled_odd_steps_equal_the_reference():
    results = compiled_together(lambda: [run(scan, *case) for case in CASES])
    for case, got in zip(CASES, results, strict=True):
        compare(case, got, run(by_reference, *case))


@pytest.mark.parametrize("step", STEPS)
def test_odd_steps_without_a_compiler_equal_the_reference(step, monkeypatch):
    monkeypatch.setattr(cpu, "refusal", lambda: "hidden")
    for case in CASES:
        if case[0] == step:
            compare(case, run(scan, *case), run(by_reference, *case))


@needs_compiler
def test_a_neuron_that_is_renamed_or_subclassed_is_another_one():
    first, second = neuron({"v": 0.0}, firing), neuron({"v": 0.0}, lambda self, x, v: (self.spike(-x), {"v": v}))
    x = torch.ones(1, 1, 1)
    assert (scan(first(), x).output.item(), scan(second(), x).output.item()) == (1.0, 0.0)
    assert path(first(), x) == "cpu"


def test_a_start_that_is_a_number_beside_a_learnt_one_is_not_rounded_to_float32():
    class Two(Equation):
        states = {"v": "v_rest", "a": 0.1}

        def step(self, x, v, a):
            return v * a, {"v": v + x, "a": a}

    odd = Two(v_reset=torch.tensor(0.1, dtype=torch.float64))
    assert scan(odd, torch.ones(1, 1, 1, dtype=torch.float64)).state["a"].item() == 0.1
