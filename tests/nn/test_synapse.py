"""SynapseFilter against SpikingJelly's."""

import pytest
import torch

from snnkit.nn.carry import carry
from snnkit.nn.synapse import SynapseFilter
from tests.nn.layers import spikes


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("tau", [1.5, 100.0])
@pytest.mark.parametrize("steps", [1, 3, 63])
def test_it_equals_that_of_spikingjelly(learn, tau, steps):
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    theirs, ours = layer.SynapseFilter(tau, learn, step_mode="m").double(), SynapseFilter(tau, learn).double()
    ours.load_state_dict(theirs.state_dict())
    x = spikes(steps, 2, 5) * 1.25  # not only zeros and ones
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, got = theirs(x1), ours(x2)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)
    weight = torch.randn_like(x)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    torch.testing.assert_close(x2.grad, x1.grad, rtol=1e-12, atol=1e-12)
    if learn:
        torch.testing.assert_close(ours.w.grad, theirs.w.grad, rtol=1e-11, atol=1e-12)


def test_only_a_learnt_tau_is_in_the_state_dict():
    assert not SynapseFilter(3.0).state_dict()
    learnt = SynapseFilter(3.0, learn=True).state_dict()
    assert list(learnt) == ["w"]
    torch.testing.assert_close(1 / learnt["w"].sigmoid(), torch.tensor(3.0))


@pytest.mark.parametrize("tau", [0.0, -2.0, float("nan"), float("inf")])
def test_an_impossible_tau_is_refused(tau):
    with pytest.raises(ValueError, match="tau must be > 0, got"):
        SynapseFilter(tau)
    with pytest.raises(ValueError, match="tau must be > 1 to be learnt, got"):
        SynapseFilter(tau, learn=True)


def test_one_is_too_small_to_be_learnt():
    with pytest.raises(ValueError, match="tau must be > 1 to be learnt, got 1.0"):
        SynapseFilter(1.0, learn=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_impossible_w_is_not_loaded(value):
    layer = SynapseFilter(3.0, learn=True)
    with pytest.raises(RuntimeError, match=f"w must be finite, got {value}"):
        layer.load_state_dict({"w": torch.tensor(value)})
    assert layer.tau == pytest.approx(3.0)
    layer.load_state_dict({"w": torch.tensor(0.0)})
    assert layer.tau == 2.0


@pytest.mark.parametrize("learn", [False, True])
def test_chunks_equal_the_whole(learn):
    layer, x = SynapseFilter(4.0, learn).double(), spikes(63, 3, 5)
    whole = layer(x)
    with carry(layer) as state:
        assert torch.equal(torch.cat([layer(x[:1]), layer(x[1:20]), layer(x[20:])]), whole)
        state.reset(torch.tensor([True, False, False]))
        assert torch.equal(layer(x)[:, 0], whole[:, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_a_float32_state(dtype):
    layer, x = SynapseFilter(50.0), spikes(200, 2, 5).to(dtype)
    torch.testing.assert_close(layer(x), layer(x.float()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(0, 3, 5), (4, 0, 5)])
def test_nothing_in_nothing_out(shape):
    assert SynapseFilter(2.0)(torch.zeros(shape)).shape == shape


def test_two_axes_are_refused():
    with pytest.raises(ValueError, match=r"SynapseFilter expects \[T, B, ...\]"):
        SynapseFilter(2.0)(torch.zeros(3, 5))


def test_tau_is_read_and_not_assigned_to():
    for learn in (False, True):
        layer = SynapseFilter(tau=5.0, learn=learn)
        assert abs(layer.tau - 5.0) < 1e-6
        with pytest.raises(AttributeError, match="tau"):
            layer.tau = 3.0
