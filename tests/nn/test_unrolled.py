"""Binary spikes that answer as the integer network does: counts, layers, attention, gradients."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from snnkit.nn.integer import IELIF
from snnkit.nn.observer import firing_rates
from snnkit.nn.quant import LSQConv1d, LSQConv2d, LSQLinear
from snnkit.nn.time import PerStep, per_step
from snnkit.nn.unrolled import SummedIELIF, UnrolledIELIF, UnrolledLayer
from tests.closeness import error

NEURONS = {"D4": IELIF(), "D3": IELIF(3), "attention": IELIF(divisor=2), "norm": IELIF(gain=1, divisor=8, lens=8)}
neurons = pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
LAYERS = {
    "linear": lambda: nn.Linear(6, 5),
    "linear-no-bias": lambda: nn.Linear(6, 5, bias=False),
    "conv1d": lambda: nn.Conv1d(6, 4, 1),
    "conv2d": lambda: nn.Conv2d(6, 4, 3, stride=2, padding=1, dilation=1, groups=2),
    "conv2d-same": lambda: nn.Conv2d(6, 4, (1, 3), padding="same", bias=False),
    "lsq-linear": lambda: LSQLinear(6, 5, bits=2),
    "lsq-conv1d": lambda: LSQConv1d(6, 4, 1, bits=3, bias=False),
    "lsq-conv2d": lambda: LSQConv2d(6, 4, 3, padding=1, bits=4),
}


def sequence(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.6 - 0.3
    x.view(-1)[::7] = (x.view(-1)[::7] * 8).round() / 8  # exact halves of z
    return x.to(dtype)


@settings(deadline=None, max_examples=60)
@given(D=st.integers(1, 9), values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_as_many_spikes_as_the_integer_says_whatever_the_input(D, values):
    neuron = IELIF(D, gain=1, divisor=1)
    x = torch.tensor(values, dtype=torch.float32).reshape(1, 1, -1)
    s = UnrolledIELIF(neuron)(x)
    assert set(s.flatten().tolist()) <= {0.0, 1.0}
    assert torch.equal(s.sum(0, keepdim=True), neuron(x))


@neurons
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_sum_of_the_steps_is_the_integer_answer_bit_for_bit(neuron, dtype):
    x, unrolled = sequence(3, 2, 5, 4, dtype=dtype), UnrolledIELIF(neuron)
    s = unrolled(x)
    assert s.shape == (3 * neuron.D, 2, 5, 4) and s.dtype == dtype
    assert torch.equal(unrolled.summed(s), neuron(x))
    again = unrolled(x[1:2])  # each time step stands alone, and its D steps are in a row
    assert torch.equal(again, s[neuron.D : 2 * neuron.D])


@neurons
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_on_binary_spikes_answers_as_on_integers(neuron, kind):
    torch.manual_seed(2)
    layer = LAYERS[kind]().double()
    x = sequence(3, 2, 7, 6) if "linear" in kind else sequence(3, 2, 6, 7, *[4] * ("conv2d" in kind))
    expected = PerStep(layer)(neuron(x))
    got = UnrolledLayer(layer, neuron)(UnrolledIELIF(neuron)(x))
    assert got.shape == expected.shape and error(got, expected) < 1e-12


def test_per_step_hands_it_the_time_axis():
    neuron, conv = IELIF(), nn.Conv2d(6, 4, 3, padding=1).double()
    s = UnrolledIELIF(neuron)(sequence(3, 2, 6, 7, 5))
    layer = UnrolledLayer(conv, neuron)
    assert layer(s).shape == (3, 2, 4, 7, 5)
    assert torch.equal(PerStep(layer)(s), layer(s)) and torch.equal(per_step(layer, s), layer(s))
    summed = SummedIELIF(neuron)(sequence(3, 2, 6, 7, 5))
    assert error(PerStep(conv)(summed), layer(s)) < 1e-12


def test_attention_takes_the_sums_and_the_next_layer_the_spikes_again():
    neuron, after = IELIF(), IELIF(divisor=2)
    q, k, v = (sequence(3, 2, 5, 4, seed=i) for i in range(3))
    layer = nn.Linear(4, 3).double()

    def attention(q, k, v):
        return q @ (k.transpose(-2, -1) @ v) * 0.25

    expected = layer(after(attention(neuron(q), neuron(k), neuron(v))))
    unrolled, unrolled_after = UnrolledIELIF(neuron), UnrolledIELIF(after)
    a = attention(*(unrolled.summed(unrolled(t)) for t in (q, k, v)))
    assert error(UnrolledLayer(layer, after)(unrolled_after(a)), expected) < 1e-12


@neurons
def test_its_gradient_is_that_of_the_integer_neuron(neuron):
    one, two = (sequence(3, 2, 5).requires_grad_() for _ in range(2))
    unrolled, weight = UnrolledIELIF(neuron), sequence(3, 2, 5, seed=1)
    (unrolled.summed(unrolled(one)) * weight).sum().backward()
    (neuron(two) * weight).sum().backward()
    assert two.grad.abs().sum() > 0 and error(one.grad, two.grad) < 1e-15


def test_the_layer_holds_a_copy_of_its_own_and_learns_nothing():
    layer = nn.Linear(6, 5).double()
    unrolled, s = UnrolledLayer(layer, IELIF()), (sequence(8, 2, 6) > 0.5).double()
    before = unrolled(s)
    nn.init.zeros_(layer.weight)
    nn.init.ones_(layer.bias)
    assert torch.equal(unrolled(s), before)
    assert not list(unrolled.parameters()) and sorted(unrolled.state_dict()) == ["bias", "weight"]
    other = UnrolledLayer(nn.Linear(6, 5).double(), IELIF())
    other.load_state_dict(unrolled.state_dict())
    assert torch.equal(other(s), before) and torch.equal(copy.deepcopy(unrolled)(s), before)


def test_making_it_from_a_quantised_layer_that_never_ran_leaves_that_layer_as_it_was():
    layer = LSQLinear(6, 5)
    UnrolledLayer(layer, IELIF())
    assert layer.init_state.item() == 0


@neurons
def test_firing_rates_are_those_of_the_binary_spikes(neuron):
    x, model = sequence(3, 2, 5), nn.ModuleDict({"integer": neuron, "binary": UnrolledIELIF(neuron)})
    with firing_rates(model) as rates:
        model["integer"](x)
        model["binary"](x)
    assert set(rates) == {"integer", "binary"}
    assert rates["binary"] == pytest.approx(rates["integer"] * neuron.divisor / neuron.D, rel=1e-12)


def test_it_compiles_without_a_break():
    torch._dynamo.reset()
    neuron, layer = IELIF(), nn.Conv2d(6, 4, 3).double()
    net = nn.Sequential(UnrolledIELIF(neuron), UnrolledLayer(layer, neuron))
    x = sequence(3, 2, 6, 5, 4)
    assert error(torch.compile(net, backend="aot_eager", fullgraph=True)(x), net(x)) < 1e-15


def test_what_cannot_be_unrolled_is_refused():
    with pytest.raises(TypeError, match="Only IELIF can be unrolled, got ReLU"):
        UnrolledIELIF(nn.ReLU())
    with pytest.raises(ValueError, match=r"rounds halves up, and this IELIF to even\. Train it with"):
        UnrolledIELIF(IELIF(half_to_even=True))
    with pytest.raises(TypeError, match=r"takes Linear, Conv1d or Conv2d, got ReLU"):
        UnrolledLayer(nn.ReLU(), IELIF())
    with pytest.raises(ValueError, match=r"pads with zeros, and this layer with 'reflect'"):
        UnrolledLayer(nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), IELIF())


def test_spikes_of_another_layout_are_refused():
    layer = UnrolledLayer(nn.Conv2d(6, 4, 3), IELIF())
    with pytest.raises(ValueError, match=r"expects \[T D, B, \.\.\.\] with D = 4, got 6 steps"):
        layer(torch.ones(6, 2, 6, 5, 4))
    with pytest.raises(ValueError, match=r"5 axes, got \(24, 6, 5, 4\)\. Time stays apart"):
        layer(torch.ones(24, 6, 5, 4))
    with pytest.raises(ValueError, match="with D = 4, got 3 steps"):
        UnrolledIELIF(IELIF()).summed(torch.ones(3, 2, 5))
