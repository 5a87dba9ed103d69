"""KLIF, CLIF and CUBA beside SpikingJelly's classes."""

from __future__ import annotations

import pytest
import torch

from snnkit.equations import CLIF, CUBA, KLIF, Hard, NoReset, Soft
from snnkit.ops import scan
from tests.equations.oracle import RESETS, agree, drive, spikingjelly


@pytest.mark.parametrize("scale_reset", [False, True], ids=["plain", "scale_reset"])
@pytest.mark.parametrize("decay_input", [False, True], ids=["undecayed", "decayed"])
@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_klif_is_klifnode_with_the_gradient_of_k(reset, decay_input, scale_reset):
    node = spikingjelly("KLIFNode", reset, scale_reset=scale_reset, decay_input=decay_input)
    with torch.no_grad():
        node.k.fill_(1.3)
    equation = KLIF(k=1.3, decay_input=decay_input, scale_reset=scale_reset, reset=reset)
    compiled = scale_reset and repr(reset) == repr(Hard(-0.25))  # one of them
    agree(equation, node, drive(-1.0, 3.0), {"v": "v"}, {"k": "k"}, compiled)


def test_klif_passes_no_gradient_at_a_membrane_of_zero():
    # A silent start is exactly there: h = 0. torch's relu has gradient 0, its maximum 1/2.
    x = torch.zeros(3, 1, 1, dtype=torch.float64, requires_grad=True)
    s, state, _ = scan(KLIF(), x)
    (g,) = torch.autograd.grad(s.sum() + state["v"].sum(), x)
    assert (g == 0).all()


def test_clif_is_complementarylifnode():
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = neuron.ComplementaryLIFNode(step_mode="m", store_state_seqs=True)
    agree(CLIF(), node, drive(-0.5, 1.5), {"v": "v", "m": "m"}, compiled=True)


def test_the_soft_reset_of_clif_falls_by_more_than_the_threshold():
    _, _, soft = scan(CLIF(), torch.full((1, 1, 1), 1.5, dtype=torch.float64), record=("v",))
    assert soft["v"].item() == pytest.approx(1.5 - 1.0 - 1 / (1 + 2.718281828459045**-1), rel=1e-15)
    _, _, none = scan(CLIF(reset=NoReset()), torch.full((1, 1, 1), 1.5), record=("v",))
    assert none["v"].item() == 1.5


@pytest.mark.parametrize("reset", RESETS, ids=repr)
def test_cuba_is_cubalifnode(reset):
    agree(CUBA(reset=reset), spikingjelly("CUBALIFNode", reset), drive(-0.5, 0.7), {"v": "v", "c": "c"})


def test_the_defaults_are_those_of_spikingjelly():
    assert repr(KLIF().reset_rule) == repr(Hard(0.0)) and KLIF().surrogate.alpha == 4.0 and KLIF().decay_input
    assert repr(CLIF().reset_rule) == repr(Soft()) and CLIF().parameters()["tau"] == 2.0
    numbers = {"c_decay": 0.5, "v_decay": 0.75, "v_threshold": 0.5, "surrogate.alpha": 1.0, "reset.v_reset": 0.0}
    assert CUBA().parameters() == numbers
