"""Layers of neurons: what is learnt and stored, what is refused, state in and out."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import warnings

import pytest
import torch

import snnkit
from snnkit import carry, nn
from snnkit import equations as eq
from snnkit.equations import ATan, Equation, Hard, Sigmoid, Soft
from snnkit.models._delay_layers import LearntLI
from snnkit.ops import cpu, scan
from snnkit.ops.reference import reference
from tests.closeness import error, same_bits
from tests.equations_under_test import EQUATIONS, drive

T, B, C = 5, 2, 3
NAMES = [name for name in EQUATIONS if "." not in name]


def layer_of(name, **keywords):
    return getattr(nn, EQUATIONS[name][0].__name__)(**keywords)


@pytest.fixture
def uncompiled(monkeypatch):
    """The plain reference: what a layer does with its parameters and states does not hang on the kernel."""
    monkeypatch.setattr(cpu, "refusal", lambda: "not for this test")


# --- what is learnt, and its names --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_of_every_layer_can_be_learnt_one_value_a_channel(name, uncompiled):
    thing, _ = EQUATIONS[name]
    layer = layer_of(name, learn=thing.parameter_names, shape=(C,)).double()
    assert set(layer.state_dict()) == set(thing.parameter_names)
    x = drive(name, (T, B, C))
    out, state = layer(x, return_state=True)
    (out.sum() + sum(v.sum() for v in state.values())).backward()
    for parameter in layer.parameters():
        assert parameter.shape == (C,) and parameter.grad.isfinite().all()


def test_one_value_one_a_channel_of_features_and_one_a_channel_of_images():
    x = torch.randn(T, B, C, 4, 7)
    for shape in ((), (C, 1, 1), (C, 4, 7), (7,)):
        lif = nn.LIF(tau=3.0, learn=("tau", "v_threshold"), shape=shape)
        assert {n: p.shape for n, p in lif.named_parameters()} == {"tau": shape, "v_threshold": shape}
        assert (lif(x) == nn.LIF(tau=3.0)(x)).all()


def test_a_shape_that_does_not_broadcast_names_both_layouts():
    lif = nn.LIF(learn=("tau",), shape=(C,))
    with pytest.raises(ValueError, match=r"shape \(3,\) does not broadcast to the features \(3, 4, 7\).*\[C, 1, 1\]"):
        lif(torch.zeros(T, B, C, 4, 7))


def test_channels_have_their_own_time_constant():
    x, tau = drive("LIF", (20, B, C)), torch.tensor([1.5, 3.0, 9.0], dtype=torch.float64)
    got = nn.LIF(tau=tau)(x)
    for c in range(C):
        assert (got[..., c : c + 1] == nn.LIF(tau=tau[c].item())(x[..., c : c + 1])).all()


def test_a_tensor_that_is_not_learnt_is_a_buffer_in_order_or_by_name():
    tau = torch.tensor([2.0, 3.0, 4.0])
    for lif in (nn.LIF(tau), nn.LIF(tau=tau)):
        assert not list(lif.parameters()) and torch.equal(lif.state_dict()["tau"], tau)
        tau.data += 0  # the layer has a copy
        assert lif.tau.data_ptr() != tau.data_ptr()


def test_v_reset_and_start_can_be_learnt():
    lif = nn.LIF(v_reset=-0.5, learn=("v_reset",)).double()
    out, state = lif(torch.zeros(T, B, C, dtype=torch.float64), return_state=True)
    assert (state["v"] == -0.5).all()
    state["v"].sum().backward()
    assert lif.v_reset.grad.item() == pytest.approx(B * C)  # the leak goes to v_reset, so v stays there


def test_klif_learns_k_unless_told_otherwise():
    assert [n for n, _ in nn.KLIF().named_parameters()] == ["k"]
    assert not list(nn.KLIF(learn=()).parameters())
    assert not list(nn.LIF().parameters())


@pytest.mark.parametrize(
    ("learn", "message"), [("tau", r"Write learn=\('tau',\)"), (("taus",), "cannot learn 'taus'. It has: tau")]
)
def test_what_cannot_be_learnt_is_named(learn, message):
    with pytest.raises((TypeError, ValueError), match=message):
        nn.LIF(learn=learn)


def test_gradients_reach_learnt_parameters_as_autograd_has_them():
    x = drive("LIF", (12, B, C))
    lif = nn.LIF(tau=3.0, learn=("tau", "v_threshold"), shape=(C,), surrogate=Sigmoid(4.0)).double()
    lif(x).sum().backward()
    v, s, total = torch.zeros(B, C).double(), None, 0.0
    tau, theta = (torch.full((C,), value, dtype=torch.float64, requires_grad=True) for value in (3.0, 1.0))
    for row in x:
        v = v + (row - v) / tau
        g = torch.sigmoid(4 * (v - theta))
        s = (v >= theta).double() + g - g.detach()  # value of the spike, gradient of the sigmoid
        v = (1 - s) * v
        total = total + s.sum()
    total.backward()
    assert error(lif.tau.grad, tau.grad) < 1e-12 and error(lif.v_threshold.grad, theta.grad) < 1e-12


# --- PLIF -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay_input", [True, False])
def test_plif_is_parametriclifnode_with_the_gradient_of_w(decay_input):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = neuron.ParametricLIFNode(init_tau=3.0, decay_input=decay_input, step_mode="m").double()
    plif = nn.PLIF(tau=3.0, decay_input=decay_input, surrogate=Sigmoid(4.0)).double()
    with torch.no_grad():
        plif.w.copy_(node.w)  # ours was float32 before .double()
    x = drive("LIF", (12, B, C))
    x1, x2 = (x.clone().requires_grad_() for _ in range(2))
    weight = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).reshape(x.shape)
    s1, s2 = node(x1), plif(x2)
    (s1 * weight).sum().backward()
    (s2 * weight).sum().backward()
    assert s1.any() and same_bits(s1, s2).all()
    assert error(x2.grad, x1.grad) < 1e-12
    assert error(plif.w.grad, node.w.grad) < 1e-12


def test_plif_stores_w_and_shows_tau():
    plif = nn.PLIF(tau=4.0)
    assert list(plif.state_dict()) == ["w"] and plif.w.item() == pytest.approx(-math.log(3.0))
    assert plif.tau.item() == pytest.approx(4.0)
    with pytest.raises(ValueError, match="tau must be > 1 for PLIF"):
        nn.PLIF(tau=1.0)


def test_plif_and_its_leaky_integrator_hand_w_over_as_it_is_and_start_at_tau():
    x = torch.rand(T, B, C)
    for kind, plain in ((nn.PLIF, nn.LIF), (LearntLI, nn.LI)):
        layer = kind(3.0, decay_input=False)
        assert layer._plan.program.tensors == ("w",) and layer._tensors()["w"] is layer.w
        assert error(layer(x, record=("v",))[1]["v"], plain(3.0, decay_input=False)(x, record=("v",))[1]["v"]) < 1e-6


def test_plif_takes_the_arguments_of_lif_in_their_order():
    layer = nn.PLIF(3.0, 0.5, False, learn=("v_threshold",), shape=(C,))
    assert repr(layer) == "PLIF(decay_input=False, v_threshold=(3,), w=(3,))"
    with pytest.raises(TypeError, match=r"PLIF has no 'taus'\. Near: tau"):
        nn.PLIF(taus=2.0)
    with pytest.raises(TypeError, match=r"PLIF has no 'beta'\..*tau = 1 / \(1 - beta\)"):
        nn.PLIF(beta=0.9)


# --- bad values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.tensor([2.0, -1.0]), torch.tensor(0.0), torch.tensor([2.0, math.nan]),
                                   torch.tensor([]), -1.0, math.nan])  # fmt: skip
def test_an_impossible_value_is_refused_at_construction(value):
    with pytest.raises(ValueError, match="tau (must be|has no values)"):
        nn.LIF(tau=value)


def test_an_impossible_value_is_refused_on_loading_with_its_name_and_nothing_is_loaded():
    net = torch.nn.Sequential(torch.nn.Identity(), nn.LIF(learn=("tau",), shape=(C,)))
    for bad, text in (([2.0, -1.0, 2.0], "must be > 0, got -1.0"), ([2.0, math.nan, 2.0], "must be finite, got nan")):
        with pytest.raises(RuntimeError, match=rf"1\.tau {text}"):
            net.load_state_dict({"1.tau": torch.tensor(bad)})
        assert (net[1].tau == 2.0).all()


def test_a_value_that_became_impossible_in_training_is_named_and_gives_nan_meanwhile():
    net = torch.nn.Sequential(torch.nn.Identity(), nn.LIF(learn=("tau",), shape=(C,)))
    nn.check_parameters(net)
    with torch.no_grad():
        net[1].tau[1] = math.nan
    with pytest.raises(ValueError, match=r"1\.tau became impossible in training: tau must be finite, got nan"):
        nn.check_parameters(net)
    assert net(torch.ones(T, B, C))[:, :, 1].isnan().all()
    with torch.no_grad():
        net[1].tau[1] = -0.1
    with pytest.raises(ValueError, match=r"1\.tau became impossible in training: tau must be > 0, got -0.1"):
        nn.check_parameters(net)


def test_delays_that_left_their_taps_are_named_with_the_remedy():
    net = torch.nn.Sequential(nn.DelayLinear(2, 3, max_delay=5), nn.LIF())
    nn.check_parameters(net)
    with torch.no_grad():
        net[0].P[0, 1, 0] = 3.5
    with pytest.raises(ValueError, match=r"0\.delay left its taps in training: -1\.5 to .* 0 to 4\. Call clamp_\(\)"):
        nn.check_parameters(net)
    net[0].clamp_()
    nn.check_parameters(net)


def test_names_and_defaults_are_seen_in_the_signature():
    found = inspect.signature(nn.LIF).parameters
    assert list(found)[:3] == ["tau", "v_threshold", "decay_input"] and found["tau"].default == 2.0
    assert found["v_reset"].default == 0.0 and repr(found["surrogate"].default) == "ATan(alpha=2.0)"
    assert inspect.signature(nn.AdLIF).parameters["learn"].default == ("alpha", "beta", "a", "b")
    for name, parameter in found.items():  # each works as it is shown
        if name != "reset":
            nn.LIF(**{name: parameter.default})

    class Mine(nn.LIF):
        def __init__(self, factor):
            super().__init__(2.0 * factor)

    assert list(inspect.signature(Mine).parameters) == ["factor"]


@pytest.mark.parametrize("name, kind", [("surrogate", ATan), ("reset", Hard)])
def test_a_tensor_inside_a_surrogate_or_a_reset_is_refused_by_a_layer(name, kind):
    for tensor in (torch.tensor(0.5), torch.nn.Parameter(torch.rand(3))):
        with pytest.raises(ValueError, match="is a tensor in an object, where a layer does not find it.*a number"):
            nn.LIF(**{name: kind(tensor)})


def test_parameters_of_a_reset_are_checked_and_do_not_take_the_name_of_the_equations():
    class Weaker(eq.Reset):
        strength, v_threshold = 0.5, 0.25
        positive = ("strength",)

        def apply(self, v, s, v_threshold):
            return v - self.seen(s) * self.strength * v

    layer = nn.LIF(reset=Weaker(), learn=("strength",))
    with pytest.raises(RuntimeError, match="strength must be > 0, got -1.0"):
        layer.load_state_dict({"strength": torch.tensor(-1.0)})
    with torch.no_grad():
        layer.strength.fill_(-1.0)
    with pytest.raises(ValueError, match="strength must be > 0, got -1.0"):
        nn.check_parameters(layer)
    thresholds = torch.tensor([1.0, 2.0, 30.0])
    assert nn.LIF(v_threshold=thresholds, reset=Weaker())(torch.full((30, 1, 3), 10.0))[:, 0, 2].sum() == 0


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_a_learnt_value_at_or_just_below_0_gives_nan_in_the_reference_too(value):
    tau = torch.tensor([2.0, value])
    for run in (lambda n, x: scan(n, x).output, lambda n, x: reference(n, x, {"v": torch.zeros(2, 2)})[0]):
        out = run(eq.LIF().bind({"tau": tau}), torch.ones(3, 2, 2))
        assert out[..., 1].isnan().all() and not out[..., 0].isnan().any()


def test_learn_takes_names_alone():
    with pytest.raises(TypeError, match=r"learn expects names, such as \(\"tau\",\), got True"):
        nn.LIF(learn=True)


@pytest.mark.parametrize("name", ["training", "neuron", "weight_norm_of_mine", "half"])
def test_a_learnt_parameter_cannot_have_a_name_that_a_layer_uses(name):
    def step(self, x, v):
        return v + getattr(self, name) * x, {"v": v + x}

    layer = nn.neuron_module(type("Named", (Equation,), {name: 0.5, "states": {"v": 0.0}, "step": step}))
    if name == "weight_norm_of_mine":
        assert layer(learn=(name,))(torch.ones(T, B, C)).shape == (T, B, C)
        return
    layer()
    with pytest.raises(ValueError, match=f"A layer has a '{name}' of its own: give this parameter"):
        layer(learn=(name,))


def test_an_unknown_keyword_names_the_nearest():
    with pytest.raises(TypeError, match=r"LIF has no 'v_th'\. Near: v_threshold"):
        nn.LIF(v_th=1.0)
    with pytest.raises(TypeError, match=r"LIF has no 'beta'\..*tau = 1 / \(1 - beta\)"):
        nn.LIF(beta=0.9)
    with pytest.raises(AttributeError, match=r"no attribute 'Lif'\. Near: LIF"):
        nn.Lif  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'LIF'\. Near: nn\.LIF"):
        snnkit.LIF  # noqa: B018
    with pytest.raises(TypeError, match=r"LIF has no 'taus'\. Near: tau"):
        nn.LIF(taus=2.0)
    with pytest.raises(TypeError, match=r"LIF has no 'lear'\. Near: learn"):
        nn.LIF(lear=("tau",))
    with pytest.raises(TypeError, match="LIF got tau twice: 3.0 and 2.0"):
        nn.LIF(3.0, tau=2.0)


@pytest.mark.parametrize("name", NAMES)
def test_two_axes_are_refused_with_the_remedy(name):
    with pytest.raises(ValueError, match=r"expects \[T, B, \.\.\.\], at least 3 axes, got \(2, 3\)\. .*x\[None\]"):
        layer_of(name)(torch.zeros(B, C))


def test_integers_are_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"floating x, got torch.int64. Convert it: x.float\(\)"):
        nn.LIF()(torch.zeros(T, B, C, dtype=torch.int64))


def test_the_equation_of_a_layer_has_its_values_of_now():
    x = 3.0 * torch.rand(9, 2, 3)
    for layer in (nn.LIF(learn=("tau",)), nn.LIF(tau=torch.tensor([2.0, 3.0, 4.0])), nn.PLIF(), nn.AdLIF()):
        with torch.no_grad():
            for tensor in (*layer.parameters(), *layer.buffers()):
                tensor.mul_(0.9)
        assert torch.equal(scan(layer.neuron, x).output, layer(x))
        layer.neuron = layer.neuron.bind({"surrogate.alpha": 5.0})
        assert torch.equal(scan(layer.neuron, x).output, layer(x)) and layer.neuron.surrogate.alpha == 5.0


def test_what_is_a_tensor_of_the_layer_is_not_changed_through_its_equation():
    layer = nn.LIF(learn=("tau",))
    with pytest.raises(ValueError, match=r"tau is a tensor of the layer, .*: change layer\.tau\.data"):
        layer.neuron = layer.neuron.bind({"tau": 20.0})
    with pytest.raises(TypeError, match=r"LIF computes LIF, got IF\(.*Make a new layer"):
        layer.neuron = snnkit.equations.IF()


# --- state in and out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_is_returned_follows_what_is_asked_for(name, uncompiled):
    layer, x = layer_of(name), drive(name, (T, B, C), torch.float32)
    states = tuple(EQUATIONS[name][0].states)
    s = layer(x)
    s_traces = layer(x, record=states)
    s_state = layer(x, return_state=True)
    s_all = layer(x, record=states[:1], return_state=True)
    assert s.shape == x.shape and s.dtype == x.dtype
    assert [len(r) for r in (s_traces, s_state, s_all)] == [2, 2, 3]
    assert all(same_bits(r[0], s).all() for r in (s_traces, s_state, s_all))
    assert set(s_traces[1]) == set(s_state[1]) == set(states) and set(s_all[1]) == set(states[:1])
    for n in states:
        assert same_bits(s_traces[1][n][-1], s_state[1][n]).all()


@pytest.mark.parametrize("name", NAMES)
def test_chunks_inside_carry_equal_the_whole_to_the_bit(name, uncompiled):
    layer, x = layer_of(name), drive(name, (9, B, C))
    whole = layer(x)
    with torch.no_grad(), carry(layer):
        parts = torch.cat([layer(x[:1]), layer(x[1:4]), layer(x[4:])])
    assert same_bits(whole, parts).all()
    assert same_bits(whole, layer(x)).all(), "and nothing is left behind"


def test_a_reset_sample_starts_at_the_initial_value_also_a_learnt_one():
    lif = nn.LIF(v_reset=-0.5, learn=("v_reset",), shape=(C,))
    x = torch.full((T, B, C), 0.5)
    with torch.no_grad(), carry(lif) as state:
        first = lif(x, record=("v",))[1]["v"]
        state.reset(torch.tensor([True, False]))
        second = lif(x, record=("v",))[1]["v"]
    assert same_bits(first[:, 0], second[:, 0]).all() and not same_bits(first[:, 1], second[:, 1]).any()


def test_a_start_that_does_not_fit_is_named():
    lif, x = nn.LIF(), torch.zeros(T, B, C)
    with pytest.raises(ValueError, match="has the states v, got u"):
        lif(x, {"u": torch.zeros(B, C)})
    with pytest.raises(ValueError, match=r"state 'v' must have the shape \(2, 3\) of x\[0\], got \(3,\)"):
        lif(x, {"v": torch.zeros(C)})
    with pytest.raises(ValueError, match="LIF has no state 'u' to record. It has: v"):
        lif(x, record=("u",))


def test_a_still_image_is_one_row_read_many_times():
    lif, row = nn.LIF(), torch.full((1, B, C), 1.5, requires_grad=True)
    s = lif(row, steps=4)
    assert s[:, 0, 0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert torch.autograd.grad(s.sum(), row)[0].shape == row.shape


# --- the layer as a module ----------------------------------------------------------------------------------------


class Steep(Equation):
    """v = v + x^3;  s = [v >= v_threshold]."""

    v_threshold = 0.5
    states = {"v": 0.0}

    def step(self, x, v):
        v = v + x**3
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s)}


SteepLayer = nn.neuron_module(Steep)


def test_an_equation_of_your_own_becomes_a_layer():
    layer = SteepLayer(v_threshold=0.25, learn=("v_threshold",))
    x = torch.rand(T, B, C)
    assert same_bits(layer(x), scan(Steep(0.25), x).output).all()
    assert SteepLayer.__name__ == "Steep" and "x^3" in SteepLayer.__doc__
    layer(x).sum().backward()
    assert layer.v_threshold.grad is not None


def test_copies_and_pickles_work_alike_and_apart():
    x = torch.randn(T, B, C) * 2
    own = SteepLayer(learn=("v_threshold",))
    for layer in (nn.LIF(tau=3.0, learn=("tau",), v_reset=None), nn.PLIF(3.0), nn.AdLIF(shape=(C,)), nn.KLIF(), own):
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert type(twin) is type(layer) and repr(twin) == repr(layer)
            assert same_bits(twin(x), layer(x)).all()
            first, second = (next(module.parameters()) for module in (layer, twin))
            before = first.clone()
            with torch.no_grad():
                second.fill_(9.0)
            assert torch.equal(first, before)


def test_copies_of_a_class_that_a_function_derives_keep_what_it_changes():
    class Twice(nn.LIF):
        def forward(self, x, *args, **keywords):
            return 2 * super().forward(x, *args, **keywords)

    class Other(nn.LIF):
        equation = eq.IF

    twice = Twice(tau=2.0, learn=("tau",))
    twin = copy.deepcopy(twice)
    assert type(twin) is Twice and twin.tau is not twice.tau and twin(9 * torch.ones(2, 1, 1)).max() == 2
    assert type(copy.deepcopy(Other())) is Other
    with pytest.raises((AttributeError, pickle.PicklingError), match="Twice"):
        pickle.dumps(twice)


def test_a_layer_made_on_the_spot_is_pickled_by_its_equation():
    layer, x = nn.neuron_module(Steep)(), torch.rand(T, B, C)
    again = pickle.loads(pickle.dumps(layer))
    assert type(again) is type(layer) and torch.equal(again(x), layer(x))


def test_annealing_a_number_changes_the_gradient():
    lif, x = nn.LIF(surrogate=ATan(2.0)), torch.randn(T, B, C).double().requires_grad_()
    before = torch.autograd.grad(lif(x).sum(), x)[0]
    lif.neuron = lif.neuron.bind({"surrogate.alpha": 8.0})
    after = torch.autograd.grad(lif(x).sum(), x)[0]
    expected = torch.autograd.grad(nn.LIF(surrogate=ATan(8.0))(x).sum(), x)[0]
    assert not torch.equal(before, after) and torch.equal(after, expected)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.LIF(), "LIF()"),
        (nn.LIF(tau=3), "LIF(tau=3)"),
        (nn.LIF(tau=3, learn=("tau",), shape=(4,)), "LIF(tau=(4,))"),
        (nn.LIF(v_reset=None), "LIF(reset=Soft(detach=False))"),
        (nn.LIF(v_reset=1), "LIF(reset=Hard(v_reset=1.0, detach=False))"),
        (nn.LIF(decay_input=False, surrogate=ATan(5.0)), "LIF(decay_input=False, surrogate=ATan(alpha=5.0))"),
        (nn.ILIF(half_to_even=True), "ILIF(half_to_even=True)"),
        (nn.KLIF(), "KLIF(k=())"),
        (nn.AdLIF(learn=("a",), shape=(4,), random_start=True), "AdLIF(a=(4,), random_start=True)"),
        (nn.AdLIF(learn=()), "AdLIF()"),
    ],
)
def test_what_differs_from_the_defaults_is_shown(layer, text):
    assert repr(layer) == text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_input_gives_half_output_and_states_in_float32(dtype):
    s, state = nn.LIF()(torch.randn(T, B, C).to(dtype), return_state=True)
    assert s.dtype == dtype and state["v"].dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_relaxed_the_gradient_is_that_of_finite_differences(name, uncompiled):
    check_relaxed(name)


def test_relaxed_the_compiled_gradient_is_that_of_finite_differences():
    check_relaxed("SEAdLIF")


def check_relaxed(name):
    layer = layer_of(name).double()
    x = (drive(name, (4, 1, 2)) * 0.7).requires_grad_()
    with nn.relaxed(layer):
        assert torch.autograd.gradcheck(lambda x: layer(x, return_state=True)[0], (x,), atol=1e-6)
    assert not layer.neuron.relaxed


# --- sparch's layer -----------------------------------------------------------------------------------------------


def test_adlif_draws_what_it_learns_and_was_not_given():
    torch.manual_seed(0)
    layer = nn.AdLIF(shape=(500,), b=1.5)
    for name, (low, high) in layer.equation.ranges.items():
        values = getattr(layer, name)
        if name == "b":
            assert (values == 1.5).all()
        else:
            assert low <= values.min() < low + 0.02 * (high - low) and high - 0.02 * (high - low) < values.max() <= high
    assert not list(nn.AdLIF(learn=()).parameters())


def test_a_random_start_is_drawn_in_sparchs_order_at_each_pass_also_in_evaluation():
    layer, x = nn.AdLIF(shape=(C,), random_start=True).eval(), torch.randn(T, B, C)
    torch.manual_seed(3)
    got = layer(x, return_state=True)[1]["u"]
    torch.manual_seed(3)
    start = {name: torch.rand(B, C) for name in ("u", "w", "s")}
    assert torch.equal(got, layer(x, start, return_state=True)[1]["u"])
    assert not torch.equal(got, layer(x, return_state=True)[1]["u"])
    fixed = nn.AdLIF(shape=(C,))
    assert torch.equal(fixed(x, return_state=True)[1]["u"], fixed(x, return_state=True)[1]["u"])


def test_a_random_start_is_drawn_once_for_a_sequence_in_chunks():
    layer, x = nn.AdLIF(shape=(C,), random_start=True), torch.randn(9, B, C)
    torch.manual_seed(3)
    whole = layer(x, record=("u",))[1]["u"]
    torch.manual_seed(3)
    with torch.no_grad(), carry(layer):
        parts = torch.cat([layer(chunk, record=("u",))[1]["u"] for chunk in (x[:4], x[4:])])
    assert torch.equal(whole, parts)


def test_the_layers_defaults_are_the_equations():
    assert repr(nn.ILIF().neuron) == repr(eq.ILIF()) and repr(nn.LIF(3.0).neuron) == repr(eq.LIF(3.0))
    assert repr(nn.ALIF().neuron.reset_rule) == repr(Soft()) and repr(nn.EIF().neuron.reset_rule) == repr(Hard(-0.1))


# --- what an audit found --------------------------------------------------------------------------------------


def test_plif_takes_a_tau_a_channel_as_a_tensor_or_by_shape():
    tau, x = torch.tensor([2.0, 3.0, 4.0]), torch.rand(T, B, C)
    layer = nn.PLIF(tau=tau)
    assert list(layer.state_dict()) == ["w"] and torch.allclose(layer.tau, tau)
    assert same_bits(layer(x), nn.LIF(tau=tau)(x)).all()
    assert nn.PLIF(2.0, shape=(C, 1, 1)).w.shape == (C, 1, 1)
    for kind in (nn.PLIF, lambda **given: nn.LIF(learn=("tau",), **given)):
        with pytest.raises(TypeError, match=r"shape must be a sequence of sizes, got 5\. Write shape=\(5,\)"):
            kind(shape=5)


def test_a_state_given_inside_carry_is_where_the_next_call_goes_on():
    lif, x = nn.LIF(), torch.rand(T, B, C)
    with carry(lif):
        first = lif(x[:2], state={"v": torch.full((B, C), 0.5)})
        second = lif(x[2:])
    whole = lif(x, state={"v": torch.full((B, C), 0.5)})
    assert torch.equal(torch.cat([first, second]), whole)


# --- no argument is ignored ---------------------------------------------------------------------------------------


def test_a_shape_that_no_parameter_takes_is_refused():
    with pytest.raises(ValueError, match=r"shape=\(3,\) is that of learnt parameters, .* learn=\('tau',\)"):
        nn.LIF(shape=(C,))
    tau = torch.tensor([2.0, 3.0, 4.0])
    for kind, learn in ((nn.LIF, ("tau",)), (nn.PLIF, ())):
        with pytest.raises(ValueError, match=r"shape=\(3,\) is for parameters given as numbers, and tau is a tensor"):
            kind(tau=tau, learn=learn, shape=(C,))
    both = nn.LIF(tau=tau, learn=("tau", "v_threshold"), shape=(C,))
    assert torch.equal(both.tau, tau) and both.v_threshold.shape == (C,)


@pytest.mark.parametrize("learn", [(), ("tau",)])
def test_dtype_and_device_hold_for_tensors_that_are_given_too(learn):
    lif = nn.LIF(tau=torch.tensor([2.0, 3.0, 4.0]), learn=learn, dtype=torch.float64)
    assert lif.tau.dtype == torch.float64
    assert nn.LIF(tau=torch.tensor([2.0]), learn=learn, device="meta").tau.is_meta
    whole = nn.LIF(tau=torch.tensor([2, 3, 4]), learn=learn)
    assert whole.tau.dtype == torch.float32 and whole.tau.tolist() == [2.0, 3.0, 4.0]


def test_a_parameter_is_learnt_itself_and_never_turned_into_a_buffer():
    tau = torch.nn.Parameter(torch.tensor([2.0, 3.0, 4.0]))
    assert nn.LIF(tau, learn=("tau",)).tau is tau
    assert nn.LIF(tau, learn=("tau",), dtype=torch.float64).tau.requires_grad
    for wants in (tau, tau * 1.0):
        with pytest.raises(ValueError, match=r"tau wants a gradient, but .* Write learn=\('tau',\)"):
            nn.LIF(wants)
    assert not list(nn.LIF(tau.detach()).parameters())


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("tau", 50.0, r"layer.neuron.bind\(\{'tau': 50.0\}\)"),
        ("v_reset", -1.0, r"layer.neuron.bind\(\{'reset.v_reset': -1.0\}\)"),
        ("surrogate", ATan(9.0), "make a new layer"),
        ("detach_reset", True, "make a new layer"),
    ],
)
def test_assigning_to_a_number_of_the_equation_raises_with_the_remedy(name, value, remedy):
    lif = nn.LIF(tau=3.0, learn=("v_threshold",))
    for layer in (lif, copy.deepcopy(lif), pickle.loads(pickle.dumps(lif))):
        with pytest.raises(AttributeError, match=f"LIF.{name} belongs to its equation, .* To change it: .*{remedy}"):
            setattr(layer, name, value)
        layer.neuron = layer.neuron.bind({"tau": 50.0, "reset.v_reset": -1.0})
        layer.v_threshold = torch.nn.Parameter(torch.tensor(0.5))
        assert layer.neuron.tau == 50.0 and layer.v_threshold.item() == 0.5


def test_tau_of_plif_is_set_through_w_alone():
    with pytest.raises(AttributeError, match="tau"):
        nn.PLIF().tau = 3.0
    with pytest.raises(ValueError, match="PLIF learns tau through w"):
        nn.PLIF(learn=("tau",))


def test_plif_is_the_layer_of_its_equation_and_starts_from_tau():
    assert nn.neuron_module(eq.PLIF) is nn.PLIF


@pytest.mark.parametrize("given, got", [(eq.LIF(), "an object of LIF"), (torch.nn.ReLU, "ReLU")])
def test_a_layer_is_made_from_a_class_of_equations_alone(given, got):
    with pytest.raises(TypeError, match=f"equations.LIF or your own, got {got}"):
        nn.neuron_module(given)
    with pytest.raises(TypeError, match=r"PLIF starts from tau, w is -log\(tau - 1\)"):
        nn.PLIF(w=1.0)
    assert set(dict(nn.PLIF(learn=("v_threshold",)).named_parameters())) == {"w", "v_threshold"}
    with pytest.raises(TypeError, match="learn expects names, got the string 'v_threshold'"):
        nn.PLIF(learn="v_threshold")


def test_a_layer_pickled_while_its_class_computed_something_else_is_refused():
    layer = nn.PLIF(3.0)
    layer.__dict__["_neuron"] = eq.LIF(3.0)
    with pytest.raises(TypeError, match="in which it computed LIF. Load its state_dict into a new layer"):
        pickle.loads(pickle.dumps(layer))


@pytest.mark.parametrize("kind", [nn.LIF, nn.LI, nn.ALIF])
def test_a_time_constant_below_a_step_warns(kind):
    with pytest.warns(UserWarning, match="tau=0.02 is less than a step.*divide seconds by the step"):
        kind(tau=0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind(tau=1.0)


def test_copies_made_while_relaxed_are_not_relaxed():
    lif, x = nn.LIF(), torch.rand(6, 2, 3) * 4
    with nn.relaxed(lif):
        with nn.relaxed(lif):
            inner = copy.deepcopy(lif)
        copies = [inner, copy.deepcopy(lif), pickle.loads(pickle.dumps(lif))]
        assert not torch.equal(lif(x), copies[0](x))
    for each in (*copies, lif, copy.deepcopy(lif)):
        assert torch.equal(each(x), lif(x)) and set(each(x).unique().tolist()) <= {0.0, 1.0}


def test_the_base_class_names_what_to_take():
    with pytest.raises(TypeError, match=r"Neuron is a base class without an equation. Write nn.LIF"):
        nn.Neuron(eq.LIF(tau=3.0))


def test_a_number_in_a_state_dict_is_refused_in_torchs_words():
    with pytest.raises(RuntimeError, match="tau"):
        nn.LIF(learn=("tau",)).load_state_dict({"tau": 2.0})
