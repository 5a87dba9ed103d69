"""IF, LIF, PLIF and LI: SpikingJelly's classes, numbers of the original code, and laws that hold on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit import nn
from snnkit.equations import IF, LI, LIF, PLIF, ATan, Hard, NoReset, Sigmoid, Soft
from snnkit.ops import scan
from tests.closeness import error
from tests.equations.oracle import RESETS, agree, drive, spikingjelly
from tests.equations_under_test import by_reference
from tests.shared import fixture


@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_if_is_ifnode(reset):
    agree(IF(reset=reset, surrogate=Sigmoid(4.0)), spikingjelly("IFNode", reset), drive(-0.5, 1.0), {"v": "v"})


@pytest.mark.parametrize("decay_input", [False, True], ids=["undecayed", "decayed"])
@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_lif_is_lifnode(reset, decay_input):
    node = spikingjelly("LIFNode", reset, decay_input=decay_input, tau=3.0)
    equation = LIF(tau=3.0, decay_input=decay_input, reset=reset, surrogate=Sigmoid(4.0))
    agree(equation, node, drive(-1.0, 3.0), {"v": "v"}, compiled=repr(reset) == repr(Hard(-0.25)))


@pytest.mark.parametrize("decay_input", [False, True], ids=["undecayed", "decayed"])
@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_plif_is_parametriclifnode_with_the_gradient_of_w(reset, decay_input):
    node = spikingjelly("ParametricLIFNode", reset, decay_input=decay_input, init_tau=3.7)
    equation = PLIF(w=node.w.item(), decay_input=decay_input, reset=reset, surrogate=Sigmoid(4.0))
    assert equation.tau == pytest.approx(3.7)
    compiled = repr(reset) == repr(Hard(-0.25))
    agree(equation, node, drive(-1.0, 3.0), {"v": "v"}, learnt={"w": "w"}, compiled=compiled)


def test_without_decay_the_input_counts_whole():
    _, state, _ = scan(LIF(tau=4.0, decay_input=False), torch.full((1, 1, 1), 0.8))
    assert state["v"].item() == pytest.approx(0.8)
    _, state, _ = scan(LIF(tau=4.0), torch.full((1, 1, 1), 0.8))
    assert state["v"].item() == pytest.approx(0.2)


def test_a_membrane_exactly_at_the_threshold_fires():
    s, *_ = scan(IF(), torch.full((1, 1, 1), 1.0))
    assert s.item() == 1.0
    s, *_ = scan(IF(), torch.full((1, 1, 1), float(np.nextafter(np.float32(1), np.float32(0)))))
    assert s.item() == 0.0


def test_the_leak_goes_to_v_reset_and_the_neuron_starts_there():
    _, state, traces = scan(LIF(v_reset=-0.5), torch.zeros(3, 1, 1), record=("v",))
    assert (traces["v"] == -0.5).all() and state["v"].item() == -0.5


@pytest.mark.parametrize("reset", [Soft(), NoReset()], ids=repr)
def test_without_a_hard_reset_the_leak_goes_to_zero(reset):
    _, _, traces = scan(LIF(reset=reset), torch.zeros(3, 1, 1), record=("v",))
    assert (traces["v"] == 0).all()


def test_li_is_lif_that_never_fires():
    x = drive(-1.0, 3.0)
    for decay_input in (True, False):
        out, state, _ = scan(LI(tau=3.0, decay_input=decay_input), x)
        _, _, quiet = scan(LIF(tau=3.0, v_threshold=1e9, decay_input=decay_input), x, record=("v",))
        assert error(out, quiet["v"]) < 1e-14
        assert (out[-1] == state["v"]).all()


def test_if_conserves_charge_under_a_soft_reset():
    # What came in has left as spikes or is still there: multiples of 1/8 add without rounding.
    x = torch.randint(-8, 16, (63, 2, 3)).double() / 8
    s, state, _ = scan(IF(v_reset=None), x)
    assert (x.sum(0) == s.sum(0) + state["v"]).all()


@settings(deadline=None, max_examples=25)
@given(tau=st.floats(1.0, 100.0), current=st.floats(-3.0, 3.0))
def test_a_constant_current_is_where_the_membrane_goes(tau, current):
    x = torch.full((40, 1, 1), current, dtype=torch.float64)
    _, state, _ = by_reference(LIF(tau=tau, reset=NoReset()), x)
    # v[T] = current (1 - (1 - 1/tau)^T)
    assert state["v"].item() == pytest.approx(current * (1 - (1 - 1 / tau) ** 40), rel=1e-12, abs=1e-15)


def test_lif_gives_the_numbers_of_lifnode_in_all_cases():
    f = fixture("unit_lif")
    surrogates = {"atan2": ATan(2.0), "atan5": ATan(5.0), "sigmoid4": Sigmoid(4.0)}
    for case, config in f.config.items():
        lif = nn.LIF(**config | {"surrogate": surrogates[config["surrogate"]]})
        x = torch.from_numpy(f["input/x"]).double().requires_grad_()
        s, traces = lif(x, record=("v",))
        weights = (torch.from_numpy(f[f"input/loss_weight_{name}"]).double() for name in ("spike", "v"))
        loss = sum((out * w).sum() for out, w in zip((s, traces["v"]), weights, strict=True))
        loss.backward()
        assert (s == torch.from_numpy(f[f"output/{case}/spike"])).all(), case
        assert error(traces["v"], f[f"output/{case}/v_after_reset"]) < 1e-13, case
        assert error(loss, f[f"loss/{case}"]) < 1e-12, case
        assert error(x.grad, f[f"grad_input/{case}/x"]) < 1e-12, case
