"""ILIF: whole numbers of spikes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit import nn
from snnkit.equations import IF, ILIF, Hard, NoReset
from snnkit.ops import scan
from tests.closeness import error, same_bits
from tests.equations.oracle import drive
from tests.equations_under_test import by_reference


def one_step(neuron, values):
    x = torch.tensor(values, dtype=torch.float64).reshape(1, 1, -1).requires_grad_()
    s, state, _ = scan(neuron, x)
    return x, s, state["v"]


def test_halves_round_up_or_to_even():
    halves = [-0.5, 0.0, 0.49, 0.5, 1.5, 2.5, 3.49, 3.5, 9.0]
    _, s, v = one_step(ILIF(), halves)
    assert s.flatten().tolist() == [0, 0, 0, 1, 2, 3, 3, 4, 4]
    assert v.flatten().tolist() == pytest.approx([-0.5, 0.0, 0.49, -0.5, -0.5, -0.5, 0.49, -0.5, 5.0])
    _, s, _ = one_step(ILIF(half_to_even=True), halves)
    assert s.flatten().tolist() == [0, 0, 0, 0, 2, 2, 3, 4, 4]


def test_a_neuron_counts_to_a_whole_number():
    with pytest.raises(ValueError, match=r"D must be whole, got 2\.5"):
        ILIF(D=2.5)
    with pytest.raises(ValueError, match=r"D must be whole, got 2\.5"):
        nn.ILIF(D=torch.tensor([2.0, 2.5]))
    learnt = nn.ILIF(D=2.0, learn=("D",))
    learnt.load_state_dict({"D": torch.tensor(2.5)})  # where training may bring it
    learnt.check_parameters()


def test_the_gradient_is_one_from_zero_to_d_and_zero_outside():
    x, s, _ = one_step(ILIF(D=2.0, reset=NoReset()), [-0.01, 0.0, 0.3, 1.0, 2.0, 2.01])
    (g,) = torch.autograd.grad(s.sum(), x)
    assert g.flatten().tolist() == [0, 1, 1, 1, 1, 0]


def test_the_threshold_scales_the_count_and_the_reset():
    x, s, v = one_step(ILIF(v_threshold=0.5), [0.8])
    assert s.item() == 2 and v.item() == pytest.approx(-0.2)
    (g,) = torch.autograd.grad(s.sum(), x)
    assert g.item() == 2.0


@pytest.mark.parametrize("detach", [False, True])
def test_ilif_is_ilifnode(detach):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = neuron.ILIFNode(detach_reset=detach, step_mode="m", store_v_seq=True).double()
    g_s, g_v = drive(-1.0, 1.0, seed=1), drive(-1.0, 1.0, seed=2)
    x1, x2 = (drive(-2.0, 6.0).requires_grad_() for _ in range(2))
    s1 = node(x1)
    ((s1 * g_s).sum() + (node.v_seq * g_v).sum()).backward()
    # torch.round halves to even, as ours does on demand.
    s2, _, traces = scan(ILIF(half_to_even=True, detach_reset=detach), x2, record=("v",))
    ((s2 * g_s).sum() + (traces["v"] * g_v).sum()).backward()
    assert set(s1.detach().flatten().tolist()) == {0, 1, 2, 3, 4}
    assert same_bits(s1, s2).all()
    assert error(traces["v"], node.v_seq) < 1e-12
    assert error(x2.grad, x1.grad) < 1e-12


@settings(deadline=None, max_examples=50)
@given(z=st.integers(-40, 200).map(lambda k: k / 32), most=st.integers(1, 6))
def test_a_count_of_n_is_n_spikes_of_an_if_that_starts_half_full(z, most):
    # How such a network runs on spikes: the input comes at the first of D steps. Dyadic numbers add without rounding.
    s, *_ = by_reference(ILIF(D=float(most)), torch.full((1, 1, 1), z, dtype=torch.float64))
    x = torch.zeros(most, 1, 1, dtype=torch.float64)
    x[0] = z
    spikes, *_ = by_reference(IF(v_reset=None), x, {"v": torch.full((1, 1), 0.5, dtype=torch.float64)})
    assert spikes.sum() == s.sum()


def test_a_hard_reset_happens_once_however_many_spikes():
    _, s, v = one_step(ILIF(reset=Hard(-0.25)), [0.2, 1.2, 3.7])
    # The neuron starts at v_reset, and the leak goes there, so that h = x - 0.25.
    assert s.flatten().tolist() == [0, 1, 3]
    assert v.flatten().tolist() == pytest.approx([-0.05, -0.25, -0.25])


def test_relaxed_it_is_a_clamp():
    x, s, _ = one_step(ILIF(reset=NoReset()).as_relaxed(), [-0.3, 0.7, 2.25, 7.0])
    assert s.flatten().tolist() == pytest.approx([0.0, 0.7, 2.25, 4.0])
