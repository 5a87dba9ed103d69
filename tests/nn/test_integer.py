"""IE-LIF: the paper's code, ties and borders, and that each step stands alone."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, vmap

from snnkit.nn.integer import IELIF
from snnkit.nn.observer import firing_rates
from snnkit.ops.reference import reference
from tests.closeness import error
from tests.shared import fixture

NORM = {"gain": 1, "half_to_even": True, "inclusive": True}
FORMS = {
    "multispike": {},
    "multispike_att": {"divisor": 2},
    "multispike_lens2": {"lens": 2},
    "multispike_lens8": {"lens": 8},
    "multispike_norm4": NORM,
    "multispike_norm8": {**NORM, "divisor": 8},
}
forms = pytest.mark.parametrize("form", FORMS)


def row(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).reshape(1, 1, -1)


@forms
def test_it_is_the_papers_code(form):
    numbers, neuron = fixture("ie_lif"), IELIF(**FORMS[form])
    x = torch.as_tensor(numbers[f"input/{form}.x"]).double().reshape(3, 5, 17).requires_grad_()
    with firing_rates(neuron) as rates:
        y = neuron(x)
    (y * torch.as_tensor(numbers[f"input/{form}.loss_weight"]).reshape(3, 5, 17)).sum().backward()
    assert torch.equal(y.flatten(), torch.as_tensor(numbers[f"output/{form}.y"]))
    assert error(x.grad.flatten(), numbers[f"grad_input/{form}.x"]) < 1e-15
    assert rates[""] == pytest.approx(float(numbers[f"rate/{form}"]), rel=1e-12)


def test_halves_and_ends_of_both_roundings_and_masks():
    x = row(-0.1, 0.0, 0.125, 0.375, 0.625, 1.0, 1.1).requires_grad_()
    y = IELIF()(x)
    assert (4 * y).flatten().tolist() == [0, 0, 1, 2, 3, 4, 4]
    y.sum().backward()
    assert x.grad.flatten().tolist() == [0, 0, 1, 1, 1, 0, 0]
    x.grad = None
    y = IELIF(half_to_even=True, inclusive=True)(x)
    assert (4 * y).flatten().tolist() == [0, 0, 0, 2, 2, 4, 4]
    y.sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 1, 1, 1, 1, 0]


@settings(deadline=None, max_examples=50)
@given(
    D=st.integers(1, 9), gain=st.floats(0.1, 9), divisor=st.floats(0.1, 9), lens=st.floats(0.1, 9),
    values=st.lists(st.floats(-9, 9), min_size=1, max_size=20),
)  # fmt: skip
def test_values_and_gradients_are_the_formula(D, gain, divisor, lens, values):
    x = row(*values).requires_grad_()
    y = IELIF(D, gain, divisor, lens)(x)
    y.sum().backward()
    for v, got, slope in zip(values, y.flatten().tolist(), x.grad.flatten().tolist(), strict=True):
        z = gain * v
        assert got == int(min(max(z, 0.0), D) + 0.5) / divisor
        assert slope == (gain / divisor if 0 < z < lens else 0.0)


@forms
def test_each_step_and_each_sample_stands_alone(form):
    neuron = IELIF(**FORMS[form])
    x = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    y = neuron(x)
    assert torch.equal(neuron(x.flip(0)), y.flip(0)) and torch.equal(neuron(x[1:2, 1:]), y[1:2, 1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_dtypes_round_as_float32_does(dtype):
    # In bfloat16, 0.498 + 1/2 would already be 1: this input spikes in no precision that can hold the sum.
    x = torch.cat([row(0.12451171875, dtype=dtype), torch.linspace(-0.5, 1.5, 99).to(dtype).reshape(1, 1, -1)], -1)
    y = IELIF()(x.requires_grad_())
    assert y.dtype == dtype and y[0, 0, 0] == 0
    assert torch.equal(y.float(), IELIF()(x.detach().float()))
    y.sum().backward()
    assert x.grad.dtype == dtype


def test_nan_comes_out_as_nan_and_infinities_as_the_ends():
    x = row(float("nan"), float("inf"), -float("inf")).requires_grad_()
    y = IELIF()(x)
    assert y[0, 0, 0].isnan() and y[0, 0, 1:].tolist() == [1.0, 0.0]
    y[..., 1:].sum().backward()
    assert x.grad.flatten().tolist() == [0.0, 0.0, 0.0]


@forms
def test_it_compiles_without_a_break(form):
    torch._dynamo.reset()
    neuron = IELIF(**FORMS[form])
    compiled = torch.compile(neuron, backend="aot_eager", fullgraph=True)
    one, two = (torch.linspace(-1, 5, 60).reshape(3, 2, 10).requires_grad_() for _ in range(2))
    y, expected = compiled(one), neuron(two)
    assert torch.equal(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(one.grad, two.grad)


def test_it_maps_and_keeps_no_state():
    x = torch.randn(4, 3, 2, 5)
    neuron = IELIF()
    loss = lambda t: neuron(t).square().sum()  # noqa: E731
    assert torch.equal(vmap(grad(loss))(x), torch.stack([grad(loss)(t) for t in x]))
    assert not neuron.state_dict()


def test_a_copy_made_under_observation_is_not_observed():
    neuron = IELIF()
    with firing_rates(neuron):
        assert neuron._observer is not None and copy.deepcopy(neuron)._observer is None


def test_a_copy_a_pickle_and_a_number_changed_later_compute_what_they_show():
    x, neuron = torch.linspace(-1, 3, 40).reshape(2, 2, 10), IELIF(D=2)
    for other in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(other(x), neuron(x))
    neuron.D = 3
    assert torch.equal(neuron(x), IELIF(D=3, gain=2, divisor=2)(x))


def test_the_kernel_is_the_reference_in_both_passes():
    for options in FORMS.values():
        neuron = IELIF(**options)
        one, two = (torch.linspace(-1, 5, 60).reshape(3, 2, 10).requires_grad_() for _ in range(2))
        y, expected = neuron(one), reference(neuron.neuron, two, {"v": torch.zeros(2, 10)})[0]
        y.square().sum().backward()
        expected.square().sum().backward()
        assert torch.equal(y, expected) and torch.equal(one.grad, two.grad)


def test_the_repr_shows_what_is_not_default():
    assert repr(IELIF()) == "IELIF()"
    assert repr(IELIF(8, divisor=2, half_to_even=True)) == "IELIF(D=8, divisor=2, half_to_even=True)"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"D": 2.5}, r"D must be a whole number > 0, got 2\.5"),
        ({"D": 0}, "D must be a whole number > 0, got 0"),
        ({"D": float("inf")}, "D must be a whole number > 0, got inf"),
        ({"gain": 0}, r"gain must be > 0 and finite, got 0\.0"),
        ({"divisor": -1}, r"divisor must be > 0 and finite, got -1\.0"),
        ({"lens": float("nan")}, "lens must be > 0 and finite, got nan"),
    ],
)
def test_impossible_numbers_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        IELIF(**options)


def test_wrong_inputs_are_refused():
    with pytest.raises(ValueError, match=r"IELIF expects \[T, B, \.\.\.\], at least 3 axes, got \(2, 5\)"):
        IELIF()(torch.ones(2, 5))
    with pytest.raises(TypeError, match=r"IELIF expects floating numbers, got torch\.int64"):
        IELIF()(torch.ones(3, 2, 5, dtype=torch.long))
    with pytest.raises(TypeError, match=r"IELIF has no 'len'\. Near: lens"):
        IELIF(len=3)
