"""A formula that changed around its neuron after the first call is seen, and what did not change costs little."""

from __future__ import annotations

import copy
import pickle
import timeit

import pytest
import torch

from snnkit import nn
from snnkit.equations import LIF, Custom, Equation, Reset
from snnkit.ops import cpu, scan
from snnkit.ops.program import plan_of

GAIN, SHIFTS = 1.0, (1.0, 2.0)
X = torch.ones(1, 1, 1, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def _without_a_compiler(monkeypatch):
    monkeypatch.setattr(cpu, "refusal", lambda: "hidden")


def helper(v):
    return GAIN * v


class Around(Equation):
    """It reads a global through a function, a tuple, and a method."""

    tau = 2.0
    states = {"v": 0.0}
    ladder = (1.0, 2.0)

    def more(self, v):
        return v + self.ladder[0]

    def step(self, x, v):
        return helper(self.more(x)) + SHIFTS[0], {"v": v + x / self.tau}


def answer(neuron):
    return scan(neuron, X).output.item()


def test_a_global_of_a_function_that_step_calls_a_tuple_and_a_method_are_seen_when_they_change(monkeypatch):
    same = Around()
    assert answer(same) == answer(Around()) == 3.0
    monkeypatch.setitem(globals(), "GAIN", 10.0)
    assert answer(same) == answer(Around()) == 21.0
    monkeypatch.setitem(globals(), "SHIFTS", (0.5,))
    assert answer(same) == 20.5
    monkeypatch.setattr(Around, "ladder", (2.0,))
    assert answer(same) == 30.5
    monkeypatch.setattr(Around, "more", lambda self, v: v)
    assert answer(same) == 10.5
    monkeypatch.setitem(globals(), "helper", lambda v: -v)
    assert answer(same) == answer(Around()) == -0.5


def test_a_step_that_is_replaced_is_seen_in_a_class_of_the_package_too(monkeypatch):
    lif = LIF()
    before = answer(lif)
    monkeypatch.setattr(LIF, "step", lambda self, x, v: (x * 7.0, {"v": v}))
    assert (before, answer(lif), answer(LIF())) == (0.0, 7.0, 7.0)
    monkeypatch.undo()
    monkeypatch.setattr(cpu, "refusal", lambda: "hidden")
    assert answer(lif) == before


def test_a_closure_of_step_surrogate_or_reset_is_seen_when_it_changes():
    gain = 1.0

    class Half(Reset):
        """v = v - gain s."""

        def apply(self, v, s, v_threshold):
            return v - gain * s

    class Closed(LIF):
        """A closure in step."""

        def step(self, x, v):
            s, after = LIF.step(self, gain * x, v)
            return s, after

    def gradient(neuron):
        return torch.autograd.grad(scan(neuron, X).output.sum(), X)[0].item()

    closed, own = Closed(), LIF(surrogate=Custom(lambda d: gain / (1.0 + d * d)))
    reset = LIF(v_threshold=0.25, reset=Half())
    first = gradient(closed), gradient(own), scan(reset, X).state["v"].item()
    gain = 3.0
    assert gradient(closed) != first[0] and gradient(own) == pytest.approx(3.0 * first[1])
    assert scan(reset, X).state["v"].item() == first[2] - 2.0


def test_a_layer_keeps_the_formula_it_was_made_with(monkeypatch):
    kind = nn.neuron_module(Around)
    layer = kind()
    assert layer(X).item() == 3.0
    monkeypatch.setitem(globals(), "GAIN", 10.0)
    assert layer(X).item() == 3.0 and kind()(X).item() == 21.0


def test_what_did_not_change_is_not_traced_again_and_costs_under_two_microseconds():
    for neuron in (LIF(), Around()):
        plan = plan_of(neuron)
        assert plan_of(neuron) is plan and plan_of(type(neuron)()).program is plan.program
        assert min(timeit.repeat(plan.surroundings.unchanged, number=1000, repeat=5)) / 1000 < 2e-6  # on a busy machine


def test_a_neuron_that_ran_is_copied_and_pickled_without_its_surroundings():
    neuron = Around()
    answer(neuron)
    for twin in (copy.deepcopy(neuron), copy.copy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert "_plan" not in vars(twin) and answer(twin) == 3.0
