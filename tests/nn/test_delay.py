"""Layers with delays: official numbers, where an impulse comes out, streaming, discretising, the sigma schedule."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit.nn import carry
from snnkit.nn.delay import DelayConv1d, DelayLinear
from snnkit.nn.sigma_schedule import SigmaSchedule
from snnkit.ops.delay import Bilinear, Gauss, Triangle
from tests.ops.test_delay import FIXTURES, PROFILES, close, tensor
from tests.shared import Fixture, fixture


def official(f: Fixture) -> DelayConv1d:
    """Our layer with the fixture's sizes and parameters, in float64."""
    c = f.config
    layer = DelayConv1d(
        c["in_channels"], c["out_channels"], c["dilated_kernel_size"], groups=c["groups"],
        kernel_count=c["kernel_count"], bias=c["bias"], profile=PROFILES[c["version"]],
        width=1.0 if "state/SIG" in f else None, learn_width="state/SIG" in f, dtype=torch.float64,
    )  # fmt: skip
    layer.load_state_dict({name.removeprefix("state/"): tensor(f, name) for name in f.names("state/")})
    return layer


@pytest.mark.parametrize("name", FIXTURES)
def test_layer_gives_the_official_output_and_gradients(name: str) -> None:
    f = fixture(f"dcls1d_{name}")
    layer = official(f)
    x = tensor(f, "input/x").requires_grad_()
    y = layer(x, tail=f.info["pad"][1])
    assert close(y, f["output/y"]) and close(layer.kernel(), f["output/kernel"])
    (y * tensor(f, "input/loss_weight")).sum().backward()
    assert close(x.grad, f["grad_input/x"])
    for key, parameter in layer.named_parameters():
        assert parameter.grad.shape == parameter.shape and close(parameter.grad, f[f"grad/{key}"]), key


@pytest.mark.parametrize("name", [name for name in FIXTURES if "even" not in name])
def test_discretize_gives_the_official_evaluation(name: str) -> None:
    f = fixture(f"dcls1d_{name}")
    layer = official(f).discretize()
    assert layer.discrete and not layer.training
    assert close(layer.kernel(), f["output_eval/kernel_rounded"])
    assert close(layer(tensor(f, "input/x"), tail=f.info["pad"][1]), f["output_eval/y_rounded"])


@pytest.mark.parametrize(("task", "size"), [("shd", 25), ("ssc", 31), ("gsc", 31)])
def test_sigma_schedule_is_the_official_one_bit_for_bit(task: str, size: int) -> None:
    expected = fixture("snn_delays_schedule")[f"output/{task}/SIG_float32"]
    layer = DelayLinear(2, 3, size)
    schedule = SigmaSchedule(layer, final_epoch=len(expected) // 4)
    for epoch, value in enumerate(expected):
        assert (layer.SIG.double() == value).all(), epoch
        schedule.step()


def test_sigma_schedule_resumes_where_it_stopped() -> None:
    def steps(schedule: SigmaSchedule, number: int) -> None:
        for _ in range(number):
            schedule.step()

    one, other = DelayLinear(2, 3, 9), DelayLinear(2, 3, 9)
    steps(whole := SigmaSchedule(one, final_epoch=6), 4)
    resumed = SigmaSchedule(other, final_epoch=6)
    other.load_state_dict(one.state_dict())
    resumed.load_state_dict(whole.state_dict())
    steps(whole, 5)
    steps(resumed, 5)
    assert torch.equal(one.SIG, other.SIG) and abs(one.SIG[0, 0, 0, 0].item() - 0.23) < 1e-6


def test_sigma_schedule_takes_the_width_from_the_start_where_no_epoch_is_left() -> None:
    layer = DelayLinear(2, 3, 9)
    SigmaSchedule(layer, final_epoch=0)
    assert (layer.SIG == 0.23).all()
    with pytest.raises(ValueError, match="no delay layer with a width"):
        SigmaSchedule(DelayLinear(2, 3, 9, profile=Triangle()), final_epoch=3)


def test_sigma_schedule_ends_a_triangle_at_one_and_a_gauss_at_its_own_width() -> None:
    triangle, gauss = DelayLinear(2, 3, 25, profile=Triangle(), width=1.0), DelayLinear(2, 3, 25)
    schedule = SigmaSchedule(torch.nn.Sequential(triangle, gauss), final_epoch=37)
    steps = []
    for _ in range(40):
        steps.append((triangle.SIG[0, 0, 0, 0].item(), gauss.SIG[0, 0, 0, 0].item()))
        schedule.step()
    # The official code's: alpha = (target / SIG0)^(1 / final_epoch), SIG0 = K // 2, target 1 for its version "max".
    for target, widths in zip((1.0, 0.23), zip(*steps, strict=True), strict=True):
        expected = [12 * (target / 12) ** (min(epoch, 37) / 37) for epoch in range(40)]
        assert widths == pytest.approx(expected, rel=1e-5)
    SigmaSchedule(triangle, final_epoch=0)
    assert (triangle.SIG == 1).all()
    SigmaSchedule(triangle, final_epoch=0, target=0.5)
    assert (triangle.SIG == 0.5).all()


@given(size=st.integers(1, 12), delay=st.integers(0, 11), at=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_an_impulse_comes_out_after_its_delay(size: int, delay: int, at: int) -> None:
    delay %= size
    layer = DelayLinear(3, 2, size, profile=Bilinear())
    layer.delay = delay
    assert (layer.delay == delay).all()
    x = torch.zeros(6, 4, 3)
    x[at, 2, 1] = 1.0
    y = layer(x, tail=size - 1)
    assert y.shape == (6 + size - 1, 4, 2)
    torch.testing.assert_close(y[at + delay, 2], layer.weight[:, 1, 0])
    assert (y.sum() - y[at + delay, 2].sum()).abs() < 1e-7
    assert layer(x).shape == (6, 4, 2)


def test_setting_a_delay_that_has_no_tap_is_an_error() -> None:
    layer = DelayLinear(2, 3, 5)
    with pytest.raises(ValueError, match="from 0 to 4 steps"):
        layer.delay = 5.0
    layer.delay = torch.tensor([[[1.0], [2.5]]])  # one per input
    assert layer.delay.tolist() == [[[1.0], [2.5]]] * 3


@pytest.mark.parametrize("size", [1, 2, 8, 9])
@pytest.mark.parametrize("profile", [Bilinear(), Triangle(), Gauss()], ids=["bilinear", "triangle", "gauss"])
def test_no_synapse_is_lost_wherever_its_position_was_pushed(size: int, profile: object) -> None:
    layer = DelayLinear(1, 200, size, profile=profile)
    with torch.no_grad():
        layer.P.copy_(torch.linspace(-size, size, 200).view(1, 200, 1, 1))
        layer.weight.fill_(1.0)
    never_clamped = layer.discretize()
    layer.clamp_()
    assert layer.delay.min() == 0 and layer.delay.max() == size - 1
    for whole in (layer, layer.discretize(), never_clamped):
        torch.testing.assert_close(whole.kernel().sum(-1), torch.ones(200, 1), rtol=0, atol=1e-6)


def test_discretize_rounds_half_to_even_and_leaves_the_layer_alone() -> None:
    layer = DelayLinear(1, 4, 9)
    with torch.no_grad():
        layer.P.copy_(torch.tensor([0.5, 1.5, -2.5, 1.49]).view(1, 4, 1, 1))
    before = copy.deepcopy(layer.state_dict())
    other = layer.discretize()
    assert other.P.flatten().tolist() == [0.0, 2.0, -2.0, 1.0]
    assert torch.equal(
        other.kernel().amax(-1).abs() + other.kernel().amin(-1).abs(), (other.weight / (1 + 1e-7)).abs()[..., 0]
    )
    assert (other.kernel() != 0).sum() == 4
    assert layer.training and layer.P.requires_grad and layer.profile == Gauss() and not layer.discrete
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_discretized_layers_stand_in_place_in_a_model() -> None:
    model = torch.nn.Sequential(DelayLinear(3, 4, 5), torch.nn.ReLU(), DelayLinear(4, 2, 5))
    for i in (0, 2):
        model[i] = model[i].discretize()
    assert model(torch.randn(6, 2, 3)).shape == (6, 2, 2)
    assert sorted(model.state_dict()) == ["0.P", "0.weight", "2.P", "2.weight"]


def test_start_is_the_papers() -> None:
    torch.manual_seed(0)
    layer = DelayLinear(140, 256, 25)
    assert layer.weight.abs().max() <= (6 / 140) ** 0.5 and layer.weight.abs().max() > 0.99 * (6 / 140) ** 0.5
    assert layer.P.shape == (1, 256, 140, 1) and layer.P.min() == -12 and layer.P.max() <= 12
    at_border = (layer.P == -12).double().mean().item()
    assert abs(at_border - 1 / 25) < 5 * (0.04 * 0.96 / layer.P.numel()) ** 0.5  # five standard deviations
    assert (layer.SIG == 0.23).all() and not layer.SIG.requires_grad and layer.bias is None
    assert list(layer.state_dict()) == ["weight", "P", "SIG"]
    for groups, kernel_count in ((1, 1), (4, 3)):  # bias: U(+-1 / sqrt(inputs of a neuron))
        bias = DelayLinear(64, 4096, 5, groups=groups, kernel_count=kernel_count, bias=True).bias
        bound = (64 / groups * kernel_count) ** -0.5
        assert 0.99 * bound < bias.max() <= bound and -bound <= bias.min() < -0.99 * bound


def test_fixed_delays_are_whole_and_not_trained() -> None:
    layer = DelayLinear(5, 7, 9, profile=Triangle(), learn_delay=False)
    assert torch.equal(layer.P, layer.P.round()) and not layer.P.requires_grad and layer.discrete
    layer(torch.randn(4, 2, 5)).sum().backward()
    assert layer.P.grad is None and layer.weight.grad is not None
    assert list(layer.state_dict()) == ["weight", "P"]


def test_learnt_width_gets_a_gradient() -> None:
    for profile, width in ((Gauss(), None), (Triangle(), 1.5)):
        layer = DelayLinear(5, 7, 9, profile=profile, learn_width=True, width=width)
        layer(torch.randn(12, 2, 5)).square().sum().backward()
        assert layer.SIG.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="learn_width=True needs a width to start from"):
        DelayLinear(5, 7, 9, profile=Triangle(), learn_width=True)


def test_samples_do_not_depend_on_batch_mates() -> None:
    layer, x = DelayLinear(16, 20, 7, dtype=torch.float64), torch.randn(9, 3, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[:, 1:2], layer(x[:, 1:2]), rtol=1e-12, atol=1e-12)


def test_layouts_agree() -> None:
    layer = DelayLinear(16, 20, 7, groups=4, kernel_count=2, bias=True, dtype=torch.float64)
    other = DelayConv1d(16, 20, 7, groups=4, kernel_count=2, bias=True, dtype=torch.float64)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(9, 3, 16, dtype=torch.float64)
    torch.testing.assert_close(other(x.permute(1, 2, 0), tail=2), layer(x, tail=2).permute(1, 2, 0))


def exact(features: int, out: int, size: int) -> DelayLinear:
    """A layer whose sums are exact in any order: weights are multiples of 2^-6, delays whole, taps not divided."""
    layer = DelayLinear(features, out, size, profile=Bilinear(), learn_delay=False)
    with torch.no_grad():
        layer.weight.copy_((layer.weight * 64).round() / 64)
    return layer


@given(cuts=st.lists(st.integers(0, 12), max_size=3), size=st.sampled_from([1, 2, 7, 20]), wide=st.booleans())
@settings(max_examples=30, deadline=None)
def test_chunks_equal_the_whole(cuts: list[int], size: int, wide: bool) -> None:
    layer = exact(32 if wide else 3, 16 if wide else 5, size)  # products, or one convolution
    x = torch.randint(0, 2, (12, 2, layer.in_features)).float()
    edges = [0, *sorted(cuts), 12]
    with carry(layer):
        parts = [layer(x[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    assert torch.equal(torch.cat(parts), layer(x))
    assert torch.equal(layer(x), layer(x))  # nothing is left behind


def test_gradients_reach_back_through_chunks_unless_detached() -> None:
    layer = exact(3, 5, 4)
    x = torch.ones(6, 2, 3, requires_grad=True)
    with carry(layer):
        layer(x[:3])
        layer(x[3:])[0].sum().backward()
    assert x.grad[:3].abs().sum() > 0
    x.grad = None
    with carry(layer, detach=True):
        layer(x[:3])
        layer(x[3:])[0].sum().backward()
    assert x.grad[:3].abs().sum() == 0 and x.grad[3].abs().sum() > 0


def test_a_reset_sample_forgets_its_past_alone() -> None:
    layer, x = exact(3, 5, 4), torch.randint(0, 2, (8, 2, 3)).float()
    with carry(layer) as state:
        layer(x[:4])
        state.reset(torch.tensor([False, True]))
        y = layer(x[4:])
    assert torch.equal(y[:, 0], layer(x)[4:, 0]) and torch.equal(y[:, 1], layer(x[4:])[:, 1])


def test_carry_refuses_a_tail_and_another_batch() -> None:
    layer = exact(3, 5, 4)
    with carry(layer):
        with pytest.raises(ValueError, match="tail must be 0 inside snnkit.carry, got 2"):
            layer(torch.zeros(4, 2, 3), tail=2)
        layer(torch.zeros(4, 2, 3))
        with pytest.raises(ValueError, match="holds a state for 2 samples, got 5"):
            layer(torch.zeros(4, 5, 3))


@pytest.mark.parametrize("T", [0, 1, 3, 63])
def test_lengths_and_an_empty_batch(T: int) -> None:
    layer = DelayLinear(16, 32, 5)
    assert layer(torch.zeros(T, 2, 16)).shape == (T, 2, 32)
    assert layer(torch.zeros(T, 0, 16), tail=3).shape == (T + 3, 0, 32)


def test_copies_and_pickles_answer_alike() -> None:
    layer, x = DelayLinear(4, 3, 5, kernel_count=2, bias=True), torch.randn(6, 2, 4)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))


def test_layer_compiles_in_one_graph() -> None:
    torch.compiler.reset()
    layer, x = DelayLinear(16, 32, 5), torch.randn(6, 2, 16)
    layer(x).square().sum().backward()
    expected = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    layer.zero_grad()
    torch.compile(layer, fullgraph=True, backend="aot_eager")(x).square().sum().backward()
    for name, g in expected.items():
        torch.testing.assert_close(dict(layer.named_parameters())[name].grad, g)


def test_gradients_per_sample_through_the_layer() -> None:
    layer, x = DelayLinear(16, 20, 5), torch.randn(6, 3, 16)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, parameters, x[:, None]).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    layer(x).square().sum().backward()
    torch.testing.assert_close(each["P"].sum(0), layer.P.grad, rtol=1e-3, atol=1e-4)  # float32, other orders of sums
    torch.testing.assert_close(each["weight"].sum(0), layer.weight.grad, rtol=1e-3, atol=1e-4)


def test_bad_input_is_named() -> None:
    for arguments, text in (
        ((3, 5, 0), "max_delay counts the taps, at least 1"),
        ((0, 5, 3), "in_features must be at least 1, got 0"),
        ((6, 4, 3, 4), "groups=4 must divide in_features=6 and out_features=4"),
        ((6, 4, 3, 1, 0), "kernel_count must be at least 1"),
    ):
        with pytest.raises(ValueError, match=text):
            DelayLinear(*arguments)
    with pytest.raises(ValueError, match="Bilinear has no width"):
        DelayLinear(3, 5, 3, profile=Bilinear(), width=1.0)
    with pytest.raises(ValueError, match="width must be finite, got nan"):
        DelayLinear(3, 5, 3, width=float("nan"))
    with pytest.raises(ValueError, match=r"width must be >= 0, got -0.5.*write 0.5"):
        DelayLinear(3, 5, 3, width=-0.5)
    with pytest.raises(ValueError, match="a whole number >= 0, got 1.5"):
        DelayLinear(3, 5, 3)(torch.zeros(4, 2, 3), tail=1.5)
    layer = DelayLinear(3, 5, 3)
    with pytest.raises(
        ValueError, match=r"DelayLinear expects \[T, B, 3\], got \(7, 3\). For a single step: x\[None\]."
    ):
        layer(torch.zeros(7, 3))
    with pytest.raises(ValueError, match=r"expects \[T, B, 3\], got \(7, 2, 4\)"):
        layer(torch.zeros(7, 2, 4))
    with pytest.raises(ValueError, match=r"DelayConv1d expects \[B, 3, T\]"):
        DelayConv1d(3, 5, 3)(torch.zeros(7, 2, 3))


def test_an_unknown_keyword_and_a_broken_size_name_the_class_or_the_argument() -> None:
    for kind in (DelayLinear, DelayConv1d):
        with pytest.raises(TypeError, match=rf"{kind.__name__} has no 'max_dely'. Near: max_delay.* It takes: in_feat"):
            kind(3, 4, max_dely=5)
    for arguments, name in (((5, 6, 4.5), "max_delay"), ((5.0, 6, 4), "in_features"), ((5, 6, 4, "2"), "groups")):
        with pytest.raises(TypeError, match=f"{name} must be a whole number, got"):
            DelayLinear(*arguments)


@pytest.mark.parametrize("name", ["P", "SIG"])
def test_loading_a_nan_is_refused_and_changes_nothing(name: str) -> None:
    model = torch.nn.Sequential(DelayLinear(3, 4, 5))
    before = copy.deepcopy(model.state_dict())
    broken = copy.deepcopy(before)
    broken[f"0.{name}"][0, 2, 1] = float("nan")
    with pytest.raises(RuntimeError, match=rf"0\.{name} must be finite, got nan"):
        model.load_state_dict(broken)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_repr_shows_what_differs_from_the_defaults() -> None:
    layer = DelayLinear(4, 6, 5, groups=2, kernel_count=3, bias=True, profile=Triangle(), learn_delay=False)
    text = "4, 6, max_delay=5, profile=Triangle(), groups=2, kernel_count=3, bias=True, learn_delay=False"
    assert layer.extra_repr() == text


def load_into(layer: torch.nn.Module, state: object) -> None:
    torch.nn.Sequential(layer).load_state_dict(state)


@pytest.mark.parametrize(("saved", "here"), [(31, 9), (9, 31), (8, 9)])
def test_a_file_of_another_max_delay_is_refused_whatever_its_positions(saved: int, here: int) -> None:
    layer = DelayLinear(3, 4, here)
    before = copy.deepcopy(layer.state_dict())
    assert list(before) == ["weight", "P", "SIG"]
    with pytest.raises(RuntimeError, match=rf"0\.P is of max_delay={saved}, the layer has max_delay={here}"):
        load_into(layer, torch.nn.Sequential(DelayLinear(3, 4, saved)).state_dict())
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_a_file_that_does_not_tell_is_judged_by_its_positions_with_half_a_step_to_spare() -> None:
    for size, last in ((9, 4.0), (8, 4.0)):  # DCLS clamps to +-(K // 2), for an even K, too
        layer = DelayLinear(3, 4, size)
        for value in (last + 0.5, -last - 0.5):
            plain = {f"0.{key}": each.clone() for key, each in layer.state_dict().items()}
            plain["0.P"][0, 1, 2] = value
            load_into(layer, plain)
            assert layer.P[0, 1, 2, 0] == value
        plain["0.P"][0, 1, 2] = last + 0.75
        with pytest.raises(RuntimeError, match=rf"0\.P has positions from .* to 4.75, max_delay={size} has taps from"):
            load_into(layer, plain)


def test_a_file_of_the_same_layer_loads_wherever_its_positions_were_pushed() -> None:
    layer, other = DelayLinear(3, 4, 9), DelayLinear(3, 4, 9)
    with torch.no_grad():
        layer.P.fill_(7.0)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert (other.P == 7.0).all()


def test_freezing_a_layer_changes_neither_what_it_is_nor_how_it_starts() -> None:
    learnt = DelayLinear(3, 4, 9, profile=Triangle()).requires_grad_(False)
    fixed = DelayLinear(3, 4, 9, profile=Triangle(), learn_delay=False).requires_grad_(True)
    for layer in (learnt, copy.deepcopy(learnt), pickle.loads(pickle.dumps(learnt))):
        assert not layer.discrete and "learn_delay" not in repr(layer)
    learnt.reset_parameters()
    fixed.reset_parameters()
    assert not torch.equal(learnt.P, learnt.P.round()) and torch.equal(fixed.P, fixed.P.round())
    assert fixed.discrete and learnt.discretize().discrete


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("features", [3, 32], ids=["convolution", "products"])
def test_half_precision_comes_out_as_it_goes_in_and_is_summed_in_the_weights_precision(dtype, features) -> None:
    layer, x = DelayLinear(features, 20, 7, bias=True), torch.randn(9, 2, features).to(dtype)
    assert torch.equal(layer(x), layer(x.float()).to(dtype))
    assert layer.to(dtype)(x).dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [DelayLinear, DelayConv1d])
def test_inputs_that_are_no_floating_tensors_are_refused_with_the_remedy(kind: type) -> None:
    layer, x = kind(3, 4, 5), torch.zeros(3, 3, 3)
    for bad in (x.long(), x.bool()):
        with pytest.raises(TypeError, match=rf"{kind.__name__} expects a floating x, got {bad.dtype}.*x.float\(\)"):
            layer(bad)
    for bad, text in ((x.numpy(), r"got ndarray. .*torch.as_tensor"), (x.tolist(), "got list"), (None, "got None")):
        with pytest.raises(TypeError, match=rf"{kind.__name__} expects a tensor, {text}"):
            layer(bad)


@pytest.mark.parametrize("profile", [Gauss, "gauss", None])
def test_a_profile_that_is_no_object_is_refused_with_the_remedy(profile: object) -> None:
    remedy = "Gauss" if profile is Gauss else "Triangle"
    with pytest.raises(TypeError, match=rf"profile must be an object such as .* Write profile={remedy}\(\)"):
        DelayLinear(3, 4, 5, profile=profile)
    with pytest.raises(TypeError, match="max_delay must be a whole number, got 5.0"):
        DelayLinear(3, 4, 5.0)


def test_delays_are_set_by_a_number_or_axis_by_axis():
    layer = DelayLinear(3, 2, 5)
    layer.delay = torch.tensor([[[1.0]], [[3.0]]])  # one an output
    assert layer.delay[..., 0].tolist() == [[1.0] * 3, [3.0] * 3]
    layer.delay = 2
    assert (layer.delay == 2).all()
    for wrong in (torch.tensor([[1.0], [3.0]]), torch.zeros(2, 3), torch.zeros(3, 2, 1)):
        with pytest.raises(ValueError, match=r"delay must be a number or have the axes \(2, 3, 1\)"):
            layer.delay = wrong
    assert (layer.delay == 2).all()


def test_lost_synapses_are_told_of_when_they_come_back():
    layer = DelayLinear(2, 2, max_delay=4)
    with torch.no_grad():
        layer.P.fill_(9.0)
    with pytest.warns(UserWarning, match="lost synapses their nearest tap: delay left its taps in training: -8 to -8"):
        layer.discretize()


def test_positions_that_are_computed_are_neither_set_nor_rounded():
    layer = DelayLinear(2, 2, max_delay=5)
    torch.nn.utils.parametrize.register_parametrization(layer, "P", torch.nn.Tanh())
    for change in (lambda: setattr(layer, "delay", 2.0), layer.discretize):
        with pytest.raises(ValueError, match="P are computed, by a parametrization or by pruning"):
            change()
    torch.nn.utils.parametrize.remove_parametrizations(layer, "P")
    layer.delay = 2.0
    assert layer.discretize().delay.eq(2).all()
