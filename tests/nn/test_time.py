"""PerStep, dropout with one mask for all steps, masks."""

import pytest
import torch
from torch import nn

import snnkit
from snnkit.nn.carry import carry
from snnkit.nn.neuron import LIF
from snnkit.nn.norm import BatchNorm
from snnkit.nn.readout import LastStep, MeanOverTime, SumOverTime
from snnkit.nn.synapse import SynapseFilter
from snnkit.nn.time import PerStep, TimeDropout, at_least_float32, require_time_first, valid_steps
from tests.nn.layers import Leak, spikes


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_per_step_applies_the_module_to_each_step(steps):
    conv = nn.Conv2d(3, 4, 3)
    x = torch.randn(steps, 2, 3, 7, 6)
    y = PerStep(conv)(x)
    assert y.shape == (steps, 2, 4, 5, 4)
    for t in range(steps):
        torch.testing.assert_close(y[t], conv(x[t]))


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_per_step_does_not_copy(format):
    seen = []

    class Look(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x

    x = torch.randn(8, 3, 7, 6).to(memory_format=format).unflatten(0, (4, 2))
    y = PerStep(Look())(x)
    assert seen[0].data_ptr() == x.data_ptr() == y.data_ptr()
    assert seen[0].is_contiguous(memory_format=format)


def test_per_step_of_a_transposed_input_keeps_time_and_batch_apart():
    x = torch.randn(2, 5, 3).transpose(0, 1)
    assert torch.equal(PerStep(nn.Identity())(x), x)


@pytest.mark.parametrize("layer", [Leak(), TimeDropout(), nn.GRU(3, 3)])
def test_per_step_refuses_layers_with_a_state_over_time(layer):
    with pytest.raises(TypeError, match=rf"modules without time, got 1.inner of type {type(layer).__name__}"):
        PerStep(nn.Sequential(nn.Identity(), nn.ModuleDict({"inner": layer})))
    with pytest.raises(TypeError, match=type(layer).__name__):
        PerStep(layer)


def test_per_step_refuses_what_is_no_module():
    with pytest.raises(TypeError, match=r"a module, an object such as Linear\(...\), got <class"):
        PerStep(nn.Linear)
    with pytest.raises(TypeError, match=r"a module, an object such as torch.nn.Linear\(8, 4\), got <built-in"):
        PerStep(torch.relu)


def test_per_step_refuses_neurons_of_spikingjelly():
    spikingjelly = pytest.importorskip("spikingjelly.activation_based.neuron")
    with pytest.raises(TypeError, match="LIFNode"):
        PerStep(nn.Sequential(spikingjelly.LIFNode()))


class Merge(nn.Module):
    """All rows in one."""

    def forward(self, x):
        return x.sum(0, keepdim=True)


def test_per_step_refuses_a_module_that_changes_the_number_of_rows():
    with pytest.raises(ValueError, match=r"Merge made 1 rows of 6 \(T=3, B=2\)"):
        PerStep(Merge())(torch.zeros(3, 2, 4))


@pytest.mark.parametrize("layer", [PerStep(nn.Identity()), TimeDropout()])
def test_two_axes_are_refused_with_the_remedy(layer):
    name = type(layer).__name__
    with pytest.raises(ValueError, match=rf"{name} expects \[T, B, ...\], .* got \(32, 700\). .*x\[None\]"):
        layer(torch.zeros(32, 700))


def test_require_time_first_takes_three_axes():
    require_time_first(nn.Identity(), torch.zeros(0, 0, 0))


def test_dropout_uses_one_mask_for_all_steps_and_another_in_the_next_call():
    drop, x = TimeDropout(0.5), torch.ones(3, 7, 63)
    a, b = drop(x), drop(x)
    assert set(a.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(a, a[:1].expand_as(a))
    assert not torch.equal(a, b)
    assert (a[0, 0] != a[0, 1]).any()


@pytest.mark.parametrize("shape", [(3, 2, 5), (1, 2, 3, 4, 5)])
def test_dropout_equals_that_of_spikingjelly(shape):
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    x = torch.randn(shape)
    torch.manual_seed(1)
    expected = layer.Dropout(0.4, step_mode="m")(x)
    torch.manual_seed(1)
    assert torch.equal(TimeDropout(0.4)(x), expected)


def test_dropout_is_the_identity_in_eval_mode_and_for_p_zero():
    x = torch.randn(3, 2, 5)
    assert TimeDropout(0.5).eval()(x) is x
    before = torch.get_rng_state()
    assert TimeDropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_dropout_refuses_a_p_that_is_no_probability(p):
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\), got"):
        TimeDropout(p)


def test_dropout_keeps_its_mask_inside_carry():
    drop, x = TimeDropout(0.5), torch.ones(4, 3, 63)
    torch.manual_seed(0)
    whole = drop(x)
    torch.manual_seed(0)
    with carry(drop):
        assert torch.equal(torch.cat([drop(x[:1]), drop(x[1:])]), whole)
    with carry(drop):
        assert not torch.equal(drop(x), whole)


def test_dropout_redraws_the_mask_of_a_sample_that_is_reset():
    drop, x = TimeDropout(0.5), torch.ones(4, 3, 63)
    with carry(drop) as state:
        first = drop(x)
        state.reset(torch.tensor([False, True, False]))
        second = drop(x)
        third = drop(x)
    assert torch.equal(first[:, [0, 2]], second[:, [0, 2]])
    assert not torch.equal(first[:, 1], second[:, 1])
    assert torch.equal(second, third)
    assert not second.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dropout_keeps_the_dtype(dtype):
    drop, x = TimeDropout(0.5), torch.ones(4, 3, 5, dtype=dtype)
    with carry(drop):
        assert drop(x).dtype == drop(x).dtype == dtype


def test_dropout_of_nothing():
    assert TimeDropout()(torch.zeros(0, 3, 5)).shape == (0, 3, 5)
    assert TimeDropout()(torch.zeros(4, 0, 5)).shape == (4, 0, 5)


def test_valid_steps_are_those_before_the_length():
    mask = valid_steps(torch.zeros(4, 3, 5, 2), torch.tensor([0, 2, 4]))
    assert mask.shape == (4, 3, 1, 1)
    assert mask[..., 0, 0].T.tolist() == [[False] * 4, [True, True, False, False], [True] * 4]


@pytest.mark.parametrize("lengths", [torch.tensor([1.0, 2.0]), torch.tensor([1, 2, 3]), torch.tensor([True, False])])
def test_lengths_that_are_not_one_integer_a_sample_are_refused(lengths):
    with pytest.raises(ValueError, match=r"lengths must be integers of shape \[B\] = \(2,\), got"):
        valid_steps(spikes(3, 2, 5), lengths)


@pytest.mark.parametrize("bad", [-1, 4])
def test_a_length_out_of_range_is_named_by_all_that_take_lengths(bad):
    x, lengths = torch.zeros(3, 2, 5), torch.tensor([2, bad])
    for layer in (SumOverTime(), LastStep(), BatchNorm(5), BatchNorm(5).eval()):
        with pytest.raises(ValueError, match=rf"lengths must be from 0 to T = 3, got {bad}\. .*clamp"):
            layer(x, lengths)
    assert valid_steps(x.to("meta"), lengths.to("meta")).shape == (3, 2, 1)  # no look at values that are elsewhere


def test_lengths_that_are_no_tensor_are_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"lengths must be a tensor \[B\], got list. Write torch.as_tensor\(lengths\)"):
        SumOverTime()(torch.zeros(3, 2, 5), [3, 2])


def test_lengths_compile_in_one_graph_and_map():
    x, lengths = torch.randn(3, 2, 5), torch.tensor([2, 3])
    expected = SumOverTime()(x, lengths)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(SumOverTime(), backend="eager", fullgraph=True)(x, lengths), expected)
    each = torch.func.vmap(SumOverTime(), in_dims=(1, 0), out_dims=1)(x[:, :, None], lengths[:, None])
    torch.testing.assert_close(each[0], expected)


@pytest.mark.parametrize(
    "layer",
    [PerStep(nn.Identity()), TimeDropout(), LIF(), SumOverTime(), BatchNorm(5), SynapseFilter()],
    ids=lambda layer: type(layer).__name__,
)
def test_what_is_no_tensor_is_refused_with_the_remedy(layer):
    x, name = torch.zeros(3, 2, 5), type(layer).__name__
    for bad, text in (
        (x.numpy(), r"got ndarray. Convert it: torch.as_tensor\(x\)"),
        (x.tolist(), r"got list. Convert it: torch.as_tensor\(x\)"),
        (None, "got None. Does the layer before it return"),
        ((x, {}), "got tuple. Pass its first entry"),
    ):
        with pytest.raises(TypeError, match=rf"{name} expects a tensor, {text}"):
            layer(bad)


def test_only_half_precision_is_widened():
    for dtype, wide in [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float64),
    ]:
        assert at_least_float32(torch.zeros(1, dtype=dtype)).dtype == wide


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_lengths_of_narrow_integers_do_not_wrap(dtype):
    model = snnkit.create_model("delay_snn_digits", in_features=5, hidden=(7,), num_classes=3, v_threshold=0.1).eval()
    x, lengths = torch.rand(255, 2, 5), torch.tensor([255, 253])
    for net in (model, snnkit.create_model("delay_snn_plus", in_features=140, hidden=(7,), num_classes=3).eval()):
        inputs = x if net is model else torch.rand(255, 2, 140)
        assert torch.equal(net(inputs, lengths), net(inputs, lengths.to(dtype)))
        features = net.forward_features(inputs, lengths.to(dtype))
        after = (lengths + len(features) - 255).to(torch.int16)
        assert torch.equal(net.forward_head(features, after.long()), net.forward_head(features, after))
    few = torch.tensor([200, 100], dtype=torch.uint8)
    assert torch.equal(MeanOverTime()(torch.ones(300, 2, 3), few), torch.ones(2, 3))
