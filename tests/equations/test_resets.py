"""Resets: what a spike does to the membrane, and where its gradient goes."""

from __future__ import annotations

import pytest
import torch

from snnkit import nn as snn
from snnkit.equations import IF, LIF, Hard, NoReset, Reset, Soft, Triangle
from snnkit.ops import scan
from snnkit.ops.program import plan_of
from tests.closeness import error
from tests.equations.oracle import drive
from tests.equations_under_test import RESETS, by_reference


def after_one_step(reset, value, **keywords):
    """The membrane after a step that starts at v_rest with an input of ``value``."""
    _, state, _ = by_reference(IF(reset=reset, **keywords), torch.full((1, 1, 1), value, dtype=torch.float64))
    return state["v"].item()


def test_each_reset_does_what_it_says():
    assert after_one_step(Hard(), 1.75) == 0.0 and after_one_step(Hard(), 0.75) == 0.75
    assert after_one_step(Hard(-0.5), 1.75) == -0.5 and after_one_step(Hard(-0.5), 0.75) == 0.25
    assert after_one_step(Soft(), 1.75) == 0.75 and after_one_step(Soft(), 0.75) == 0.75
    assert after_one_step(Soft(), 1.75, v_threshold=0.5) == 1.25
    assert after_one_step(NoReset(), 1.75) == 1.75


@pytest.mark.parametrize("name", RESETS)
def test_no_reset_touches_a_membrane_below_its_threshold(name):
    x = drive(-1.0, 0.9)
    s, state, _ = by_reference(LIF(reset=RESETS[name]), x)
    _, free, _ = by_reference(LIF(reset=NoReset()), x)
    assert (s == 0).all()
    if RESETS[name].v_rest == 0:
        assert (state["v"] == free["v"]).all()


def membrane_gradient(reset, value):
    """dv/dx of one step, by hand: v = (1 - s) h + s v_reset, v = h - s theta, or h, with ds/dh the triangle."""
    x = torch.full((1, 1, 1), value, dtype=torch.float64, requires_grad=True)
    _, state, _ = by_reference(IF(reset=reset, surrogate=Triangle(1.0)), x)
    (g,) = torch.autograd.grad(state["v"].sum(), x)
    return g.item()


@pytest.mark.parametrize("v_reset", [0.0, -0.5])
@pytest.mark.parametrize("detach", [False, True])
def test_the_gradient_passes_through_the_reset_unless_detached(detach, v_reset):
    for value in (0.75 - v_reset, 1.25 - v_reset):  # the neuron starts at v_reset: h is 0.75 or 1.25
        h, s = value + v_reset, float(value + v_reset >= 1)
        slope = 0.0 if detach else 0.75
        assert membrane_gradient(Hard(v_reset, detach=detach), value) == pytest.approx((1 - s) + (v_reset - h) * slope)
    for value in (0.75, 1.25):
        assert membrane_gradient(Soft(detach=detach), value) == pytest.approx(1 - (0.0 if detach else 0.75))
        assert membrane_gradient(NoReset(detach=detach), value) == 1.0


def test_detached_and_through_have_equal_spikes():
    x = drive(-1.0, 4.0)
    for rule in (Hard, Soft):
        through, detached = (by_reference(LIF(reset=rule(detach=d)), x) for d in (False, True))
        assert through[0].any() and (through[0] == detached[0]).all()
        assert (through[1]["v"] == detached[1]["v"]).all()


def test_v_reset_is_learnt_through_reset_leak_and_start():
    x = drive(-1.0, 4.0)
    v_reset = torch.tensor(-0.25, dtype=torch.float64, requires_grad=True)
    neuron = LIF().bind({"reset.v_reset": v_reset})
    got = []
    for run in (scan, by_reference):
        s, state, _ = run(neuron, x)
        got.append(torch.autograd.grad(s.sum() + state["v"].sum(), v_reset)[0])
    assert got[0] != 0 and error(got[0], got[1]) < 1e-12


def test_a_reset_of_your_own_is_one_method():
    class Half(Reset):
        """v = v - s v / 2."""

        def apply(self, v, s, v_threshold):
            return v - self.seen(s) * v / 2

    assert after_one_step(Half(), 1.75) == 0.875
    x = drive(-1.0, 4.0)
    assert (scan(LIF(reset=Half(detach=True)), x).output == by_reference(LIF(reset=Half()), x)[0]).all()


def test_a_reset_without_apply_says_what_is_missing():
    class Nothing(Reset):
        """It forgot."""

    with pytest.raises(TypeError, match=r"Nothing has no apply\(self, v, s, v_threshold\)"):
        scan(LIF(reset=Nothing()), torch.zeros(1, 1, 1))


# --- the shorter formula of a reset to 0 --------------------------------------------------------------------------


def operations(neuron, tensors=None):
    program = plan_of(neuron, tensors).program
    return len(program.step.trace.needed(program.forward_outputs))


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("zero", [0.0, -0.0, 0])
def test_a_reset_to_zero_takes_fewer_operations_and_gives_what_the_formula_gives(detach, zero):
    short, long = LIF(v_reset=zero, detach_reset=detach), LIF(v_reset=2.0**-60, detach_reset=detach)
    assert operations(short) <= operations(long) - 3
    x = drive(-4.0, 4.0).requires_grad_()
    found = []
    for run in (scan, by_reference):
        s, state, _ = run(short, x)
        found.append([s, state["v"], torch.autograd.grad(s.sum() + state["v"].sum(), x)[0]])
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert found[0][0].any() and error(found[0][2], found[1][2]) < 1e-12


def test_a_learnt_v_reset_that_starts_at_zero_keeps_its_gradient():
    x = drive(-1.0, 4.0)
    v_reset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    found = []
    for run in (scan, by_reference):
        s, state, _ = run(LIF(tau=3.0, v_reset=v_reset), x)
        found.append(torch.autograd.grad(s.sum() + state["v"].sum(), v_reset)[0])
    assert found[0] != 0 and error(found[0], found[1]) < 1e-12
    layer = snn.LIF(tau=3.0, v_reset=0.0, learn=("v_reset",)).double()
    s, state = layer(x, return_state=True)
    (learnt,) = layer.parameters()
    (g,) = torch.autograd.grad(s.sum() + state["v"].sum(), learnt)
    assert learnt == 0 and error(g, found[0]) < 1e-12
    assert operations(LIF(), ("reset.v_reset",)) > operations(LIF())


def test_other_resets_and_all_that_a_neuron_is_stay_as_they_are():
    for neuron in (LIF(v_reset=-0.25), LIF(v_reset=None), LIF(reset=NoReset()), LIF(v_reset=torch.tensor(0.0))):
        assert neuron.simplified() is neuron
    neuron = LIF(tau=3.0, v_threshold=0.5, surrogate=Triangle(2.0), detach_reset=True).as_relaxed()
    shorter = neuron.simplified()
    assert shorter is not neuron and isinstance(neuron.reset_rule, Hard), "the neuron itself is not touched"
    assert shorter.relaxed and shorter.parameters().items() <= neuron.parameters().items()
    assert neuron.simplified(("reset.v_reset",)) is neuron and neuron.simplified(("tau",)) is not neuron


def test_a_hard_reset_with_a_formula_of_its_own_keeps_it():
    class Halfway(Hard):
        """v = (1 - s) v + s (v_reset + v) / 2."""

        def apply(self, v, s, v_threshold):
            return v - s * (v - self.v_reset) / 2

    x = drive(-1.0, 4.0)
    got, expected = scan(LIF(reset=Halfway()), x), by_reference(LIF(reset=Halfway()), x)
    assert torch.equal(got.output, expected[0]) and torch.equal(got.state["v"], expected[1]["v"])
