"""EIF, QIF and Izhikevich beside SpikingJelly's classes."""

from __future__ import annotations

import math

import pytest
import torch

from snnkit.equations import EIF, LIF, QIF, Hard, Izhikevich, Soft
from snnkit.ops import scan
from tests.equations.oracle import RESETS, agree, drive, spikingjelly


@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_eif_is_eifnode(reset):
    agree(EIF(reset=reset), spikingjelly("EIFNode", reset), drive(-1.5, 2.5), {"v": "v"})


@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_eif_with_other_numbers_is_eifnode(reset):
    numbers = {"tau": 3.0, "delta_T": 0.4, "theta_rh": 0.7, "v_threshold": 1.2, "v_rest": 0.1}
    node = spikingjelly("EIFNode", reset, **numbers)
    agree(EIF(**numbers, reset=reset), node, drive(-1.5, 4.0), {"v": "v"})


@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_qif_is_qifnode(reset):
    agree(QIF(reset=reset), spikingjelly("QIFNode", reset), drive(-1.5, 2.5), {"v": "v"})


@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_izhikevich_is_izhikevichnode(reset):
    numbers = {"a": 0.1, "b": 0.2, "w_rest": 0.0625, "tau_w": 5.0, "v_rest": -0.1}
    node = spikingjelly("IzhikevichNode", reset, **numbers)
    agree(Izhikevich(**numbers, reset=reset), node, drive(-1.5, 2.5), {"v": "v", "w": "w"})


@pytest.mark.parametrize("equation", [EIF, QIF, Izhikevich], ids=lambda e: e.__name__)
def test_the_compiled_form_agrees_with_spikingjelly(equation):
    neuron = equation()
    node = spikingjelly(f"{equation.__name__}Node", neuron.reset_rule)
    agree(neuron, node, drive(-1.5, 2.5), {"v": "v"}, compiled=True)


def test_the_defaults_are_those_of_spikingjelly():
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    for equation in (EIF(), QIF(), Izhikevich()):
        node = getattr(neuron, f"{type(equation).__name__}Node")()
        for name, value in equation.parameters().items():
            if name.startswith("surrogate."):
                assert node.surrogate_function.alpha == value
            else:
                assert getattr(node, name.removeprefix("reset.")) == value, (equation, name)


@pytest.mark.parametrize("equation", [EIF, QIF, Izhikevich])
def test_the_neuron_starts_at_v_reset_and_leaks_to_its_own_v_rest(equation):
    neuron = equation(v_rest=0.2, v_c=0.9) if "v_c" in equation.parameter_names else equation(v_rest=0.2, delta_T=0.05)
    neuron = neuron.bind({"reset.v_reset": -0.3})
    assert neuron.initial()["v"] == -0.3
    assert equation(reset=Soft()).initial()["v"] == 0.0
    _, state, _ = scan(neuron, torch.zeros(200, 1, 1, dtype=torch.float64))
    assert state["v"].item() == pytest.approx(0.2, abs=1e-4)


def test_izhikevich_starts_its_recovery_at_w_rest_and_learns_it():
    w_rest = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    _, state, _ = scan(Izhikevich(w_rest=w_rest), torch.zeros(1, 1, 1, dtype=torch.float64))
    assert state["w"].item() == pytest.approx(0.3 / 2)
    state["w"].sum().backward()
    assert w_rest.grad.item() == pytest.approx(0.5)


def test_eif_becomes_lif_when_the_upswing_is_sharp_and_far():
    x = drive(-1.0, 3.0)
    sharp = scan(EIF(delta_T=1e-3, theta_rh=5.0, reset=Hard(0.0)), x)
    plain = scan(LIF(), x)
    assert (sharp.output == plain.output).all()
    assert math.isclose(sharp.state["v"].sum().item(), plain.state["v"].sum().item(), rel_tol=1e-12)
