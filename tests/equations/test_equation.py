"""Equations as values: what they accept, what they refuse and how they say it, and laws that hold for every one."""

from __future__ import annotations

import copy
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkit import equations as every
from snnkit import nn
from snnkit.equations import IF, LIF, AdLIF, ATan, Equation, Hard, Izhikevich, Sigmoid, Soft
from snnkit.equations.symbols import exp, where
from snnkit.ops import cpu, scan
from tests.closeness import same_bits
from tests.equations_under_test import EQUATIONS, by_reference, drive, neuron_of
from tests.shared import needs_compiler

FIRING = [name for name, (thing, _) in EQUATIONS.items() if thing._fires]


class Mine(Equation):
    """The neuron of the tests below."""

    tau, v_threshold = 2.0, 1.0
    positive = ("tau",)
    states = {"v": "v_rest"}

    def step(self, x, v):
        v = v + (x - (v - self.v_rest)) / self.tau
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s)}


# --- every equation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("equation", EQUATIONS)
def test_a_membrane_that_is_nan_gives_a_spike_that_is_nan(equation):
    x = drive(equation, (6, 2, 3))
    x[2, 0, 1] = math.nan
    s, *_ = by_reference(neuron_of(equation), x)
    assert s[2:, 0, 1].isnan().all(), "a broken run must show at once"
    s[2:, 0, 1] = 0
    assert s.isfinite().all(), "and only where it is broken"


@pytest.mark.parametrize("equation", EQUATIONS)
def test_a_learnt_parameter_that_became_impossible_gives_nan_and_never_a_wrong_spike(equation, monkeypatch):
    monkeypatch.setattr(cpu, "refusal", lambda: "hidden")
    thing, options = EQUATIONS[equation]
    x = drive(equation, (4, 1, 4))
    for name in thing.positive:
        good = getattr(thing, name)
        learnt = torch.tensor([good, -good, 0.0, math.nan], dtype=torch.float64)
        s, *_ = by_reference(thing(**options).bind({name: learnt}), x)
        assert s[-1, 0, 1:].isnan().all() and s[..., 0].isfinite().all(), name
        assert same_bits(scan(thing(**options).bind({name: learnt}), x).output, s).all(), name


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_and_reference_are_nan_in_the_same_lanes_and_valid_ones_keep_their_gradient(dtype):
    x, both = drive("LIF", (5, 2, 3), dtype), {}
    for last in (-1.5, 1.5):
        for run in (scan, by_reference):
            tau = torch.tensor([2.0, 3.0, last], dtype=dtype, requires_grad=True)
            s = run(LIF(tau=tau), x)[0]
            both[run, last] = s.detach(), torch.autograd.grad(s[..., :2].sum(), tau)[0][:2]
    broken = both[scan, -1.5][0]
    assert same_bits(broken, both[by_reference, -1.5][0]).all() and broken[..., 2].isnan().all()
    for run in (scan, by_reference):
        assert torch.equal(both[run, -1.5][1], both[run, 1.5][1]) and (both[run, 1.5][1] != 0).all()


def test_a_learnt_tau_below_zero_gives_nan_under_compile_and_torch_func_too():
    x = drive("LIF", (5, 2, 3))
    tau = torch.tensor([2.0, -3.0, 4.0], dtype=torch.float64)
    layer = nn.LIF(tau=tau.abs(), learn=("tau",))
    layer.tau.data.copy_(tau)
    s = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    mapped = torch.func.vmap(lambda one: scan(LIF(tau=one), x).output[..., 0])(tau)
    assert s[..., 1].isnan().all() and mapped[1].isnan().all() and s[..., ::2].isfinite().all()
    g = torch.func.grad(lambda t: scan(LIF(tau=t), x).output[..., ::2].sum())(tau)
    assert g.isfinite().all() and g[0] != 0


@pytest.mark.parametrize("equation", [name for name in FIRING if not name.startswith("ILIF")])  # that one counts
def test_the_neuron_fires_exactly_at_its_threshold(equation):
    # The membrane of one step is a number to which the threshold can be set.
    neuron = neuron_of(equation, reset="NoReset")
    x = drive(equation, (1, 1, 1), seed=3).abs()
    membrane = next(iter(neuron.states))
    _, state, _ = by_reference(neuron.bind({"v_threshold": 1e9}), x)
    level = state[membrane].item()
    for threshold, fires in ((level, 1.0), (float(np.nextafter(level, 1e9)), 0.0)):
        s, *_ = by_reference(neuron.bind({"v_threshold": threshold}), x)
        assert s.item() == fires


@pytest.mark.parametrize("equation", EQUATIONS)
def test_an_equation_is_copied_pickled_and_shown(equation):
    neuron = neuron_of(equation)
    for twin in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert repr(twin) == repr(neuron) and twin.structure() == neuron.structure()
    assert eval(repr(neuron), dict(vars(every))).parameters() == neuron.parameters()


@pytest.mark.parametrize("equation", EQUATIONS)
def test_every_equation_has_a_layer_of_the_same_name(equation):
    thing, options = EQUATIONS[equation]
    layer = getattr(nn, thing.__name__)(**options, learn=())
    x = drive(equation, (5, 2, 3), torch.float32)
    assert same_bits(layer(x), scan(thing(**options), x).output).all()


@pytest.mark.parametrize("equation", [name for name in FIRING if "." not in name])
def test_every_docstring_has_formula_and_source(equation):
    doc = EQUATIONS[equation][0].__doc__
    assert " = " in doc.splitlines()[0]
    assert re.search(r"\b(19|20)\d\d\b", doc), "the year of the source"


# --- values -------------------------------------------------------------------------------------------------------


def test_values_come_in_order_or_by_name():
    assert Mine(3.0, 2.0).parameters() == Mine(v_threshold=2.0, tau=3).parameters()
    assert LIF(tau=2).tau == 2.0 and isinstance(LIF(tau=2).tau, float)
    assert LIF(tau=np.float32(2.5)).tau == LIF(tau=np.float64(2.5)).tau == 2.5


@pytest.mark.parametrize("value", [0, 0.0, -2.0, -math.inf])
def test_a_time_constant_must_be_positive(value):
    with pytest.raises(ValueError, match=rf"tau must be > 0, got {float(value)}"):
        LIF(tau=value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_must_be_finite(value):
    with pytest.raises(ValueError, match="tau must be (finite|> 0), got"):
        LIF(tau=value)
    with pytest.raises(ValueError, match="v_threshold must be finite"):
        LIF(v_threshold=value)
    with pytest.raises(ValueError, match="v_reset must be finite"):
        LIF(v_reset=value)
    with pytest.raises(ValueError, match="alpha must be"):
        ATan(value)


@pytest.mark.parametrize("value", ["2.0", None, True, [2.0], (2.0,), {}, 2j, np.ones(3)], ids=repr)
def test_a_value_must_be_a_number_or_a_tensor(value):
    with pytest.raises(TypeError, match="tau must be a number or a tensor, got"):
        LIF(tau=value)


def test_an_option_must_be_true_or_false():
    with pytest.raises(TypeError, match="decay_input must be True or False, got 1"):
        LIF(decay_input=1)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("taus", "tau"), ("v_treshold", "v_threshold"), ("decay", "decay_input"), ("surogate", "surrogate")],
)
def test_an_unknown_keyword_names_the_nearest(wrong, right):
    with pytest.raises(TypeError, match=rf"LIF has no '{wrong}'\. Near: {right}\. It takes: tau, v_threshold"):
        LIF(**{wrong: 2.0})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("taus", "LIF has no 'taus'. Near: tau"),
        ("surrogate.alhpa", "ATan has no 'alhpa'. Near: alpha"),
        ("surogate.alpha", "LIF has no 'surogate.alpha'. Near: surrogate.alpha"),
        ("reset.v_rest", "Hard has no 'v_rest'. Near: v_reset"),
    ],
)
def test_a_misspelt_name_is_not_bound_to_nothing(wrong, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        LIF().bind({wrong: 2.0})


def test_an_impossible_number_is_not_bound():
    with pytest.raises(ValueError, match="tau must be > 0, got -1.0"):
        LIF().bind({"tau": -1})
    assert isinstance(LIF().bind({"tau": 3}).tau, float)


def test_too_many_values_are_refused():
    with pytest.raises(TypeError, match=r"IF takes at most 1 values \(v_threshold\), got 2"):
        IF(1.0, 2.0)


def test_a_value_is_not_changed_in_place():
    lif = LIF()
    with pytest.raises(AttributeError, match=r"tau is fixed.*bind\({'tau': 3.0}\)"):
        lif.tau = 3.0
    assert lif.bind({"tau": 3.0}).tau == 3.0 and lif.tau == 2.0


# --- surrogate and reset ------------------------------------------------------------------------------------------


def test_v_reset_none_is_a_soft_reset_and_detach_goes_along():
    assert repr(LIF(v_reset=None).reset_rule) == repr(Soft())
    assert repr(LIF(v_reset=None, detach_reset=True).reset_rule) == repr(Soft(detach=True))
    assert repr(LIF(v_reset=-0.5).reset_rule) == repr(Hard(-0.5))
    assert repr(LIF(detach_reset=True).reset_rule) == repr(Hard(0.0, detach=True))
    assert repr(AdLIF(detach_reset=True).reset_rule) == repr(Soft(detach=True))


def test_two_ways_to_say_the_reset_at_once_are_refused():
    for keywords in ({"v_reset": 0.0}, {"v_reset": None}, {"detach_reset": False}):
        with pytest.raises(TypeError, match="either reset=..., or v_reset and detach_reset"):
            LIF(reset=Soft(), **keywords)


@pytest.mark.parametrize("keywords", [{"surrogate": "atan"}, {"surrogate": ATan}, {"reset": "soft"}, {"reset": Soft}])
def test_a_name_or_a_class_is_no_object(keywords):
    with pytest.raises(TypeError, match="must be an object such as"):
        LIF(**keywords)


def test_what_has_run_is_fixed_and_a_changed_default_is_for_later_objects():
    class Own(LIF):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.factor = 2.0

        def step(self, x, v):
            return super().step(self.factor * x, v)

    class Mine(LIF):
        tau = 2.0

    x = 3.0 * torch.rand(20, 2, 3)
    lif, own, mine = LIF(), Own(), Mine()
    lif.surrogate, own.factor = Sigmoid(1.0), 3.0  # not yet
    before = [scan(n, x).output for n in (lif, own, mine)]
    assert torch.equal(before[1], scan(LIF(), 3.0 * x).output) and before[1].sum() > before[0].sum()
    for neuron, name, value in ((lif, "surrogate", ATan()), (lif, "reset_rule", Soft()), (own, "factor", 1.0)):
        with pytest.raises(AttributeError, match=f"{name} of this .* is fixed: it has a kernel by now. Make a"):
            setattr(neuron, name, value)
    with pytest.raises(AttributeError, match="surrogate of this LIF is fixed.*layer.neuron = that"):
        nn.LIF().neuron.surrogate = Sigmoid(1.0)
    Mine.tau = 8.0
    assert (mine.tau, Mine().tau) == (2.0, 8.0) and torch.equal(scan(mine, x).output, before[2])
    assert not torch.equal(scan(Mine(), x).output, before[2])


def test_what_must_be_positive_is_inherited():
    class Gain(LIF):
        gain = 1.0
        positive = ("gain",)

    for name in ("tau", "gain"):
        with pytest.raises(ValueError, match=f"{name} must be > 0, got -1.0"):
            Gain(**{name: -1.0})


def test_a_surrogate_of_another_package_is_told_from_ours():
    theirs = pytest.importorskip("spikingjelly.activation_based.surrogate")
    message = r"got ATan\(alpha=2.0, spiking=True\) of spikingjelly. Take one of snnkit.equations\."
    with pytest.raises(TypeError, match=message):
        LIF(surrogate=theirs.ATan())


def test_a_parameter_of_surrogate_or_reset_has_a_dot_in_its_name():
    lif = LIF(v_reset=-0.5, surrogate=Sigmoid(3.0))
    assert lif.parameters() == {"tau": 2.0, "v_threshold": 1.0, "surrogate.alpha": 3.0, "reset.v_reset": -0.5}
    changed = lif.bind({"surrogate.alpha": 5.0, "reset.v_reset": -0.25, "tau": 4.0})
    assert (changed.surrogate.alpha, changed.v_rest, changed.tau) == (5.0, -0.25, 4.0)
    assert lif.surrogate.alpha == 3.0 and lif.v_rest == -0.5


# --- a class of your own ------------------------------------------------------------------------------------------


def test_v_reset_as_a_parameter_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"default_reset = Hard\(-0.5\)"):
        type("Wrong", (Equation,), {"v_reset": -0.5})


@pytest.mark.parametrize("name", ["spike", "reset", "states", "surrogate", "relaxed", "parameters"])
def test_names_that_every_neuron_has_cannot_be_parameters(name):
    with pytest.raises(TypeError, match=f"'{name}' has a meaning for every neuron"):
        type("Wrong", (Equation,), {name: 1.0})


def test_a_neuron_without_states_or_step_is_refused():
    with pytest.raises(TypeError, match=r'has no states. Write for example: states = {"v": 0.0}'):
        type("Stateless", (Equation,), {})()
    with pytest.raises(TypeError, match=r"Stepless has no step\(self, x, v\)"):
        type("Stepless", (Equation,), {"states": {"v": 0.0}})().trace()


def traced(step):
    """Trace a neuron of one state v with this step."""
    return type("Mine", (Mine,), {"step": step})().trace()


def branching(self, x, v):
    if v > 1.0:  # the line
        v = v - 1.0
    return x, {"v": v}


def with_math(self, x, v):
    return x, {"v": v + math.exp(x)}  # the line


def with_torch(self, x, v):
    return x, {"v": v + torch.exp(x)}  # the line


def with_numpy(self, x, v):
    return x, {"v": np.tanh(v)}  # the line


def with_a_tensor(self, x, v):
    return x, {"v": v + torch.ones(3)}  # the line


def with_a_method(self, x, v):
    return x, {"v": v.clamp(0.0)}  # the line


def with_a_typo(self, x, v):
    return x, {"v": v / self.taau}  # the line


def with_a_condition(self, x, v):
    return x, {"v": v * (x > 1.0)}  # the line


def with_equality(self, x, v):
    return x, {"v": where(v == 1.0, 0.0, v)}  # the line


@pytest.mark.parametrize(
    "step",
    [branching, with_math, with_torch, with_numpy, with_a_tensor, with_a_method, with_a_typo, with_a_condition,
     with_equality],
    ids=lambda step: step.__name__,
)  # fmt: skip
def test_what_cannot_be_traced_raises_and_names_the_line(step):
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    start = step.__code__.co_firstlineno
    line = next(n for n, text in enumerate(source, 1) if n > start and text.endswith("# the line"))
    with pytest.raises(TypeError, match=rf"Mine.step cannot be traced at test_equation.py, line {line} \("):
        traced(step)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x, v: x, r'must return \(output, {"v": ...}\), got'),
        (lambda x, v: (x, v), r'must return \(output, {"v": ...}\), got'),
        (lambda x, v: (x, {"v": v}, v), r'must return \(output, {"v": ...}\), got'),
        (lambda x, v: (x, {}), 'must return the states {"v": ...}, got none'),
        (lambda x, v: (x, {"u": v}), 'must return the states {"v": ...}, got u'),
        (lambda x, v: (x, {"v": v, "w": v}), 'must return the states {"v": ...}, got v, w'),
        (lambda x, v: (x > 0, {"v": v}), r"returned a condition as the output. A spike is self.spike"),
        (lambda x, v: (x, {"v": v > 0}), r"returned a condition as v. A spike is self.spike"),
        (lambda x, v: (True, {"v": v}), "returned a condition as the output"),
        (lambda x, v: (x, {"v": torch.zeros(1)}), "returned a Tensor as v; it must be a number"),
        (lambda x, v: (None, {"v": v}), "returned a NoneType as the output"),
    ],
)
def test_a_step_that_returns_something_else_is_refused(returned, message):
    with pytest.raises(TypeError, match=message):
        traced(lambda self, x, v: returned(x, v))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda self, v: math.exp(v), "from snnkit.equations.symbols import exp, log"),
        (lambda self, v: math.exp(-1 / self.tau), "from snnkit.equations.symbols import exp, log"),
        (lambda self, v: torch.exp(v), "torch's exp .* from snnkit.equations.symbols import exp$"),
        (lambda self, v: torch.relu(v), "torch's relu .* import maximum$"),
        (lambda self, v: torch.ones(3) * v, "mul got a Tensor; a step works on numbers"),
        (lambda self, v: torch.erfinv(v), r"torch's erfinv .*A step knows \+ - \* /.*, sqrt,"),
        (lambda self, v: v.exp(), "have no 'exp' inside a step. Write: .* import exp$"),
        (lambda self, v: v.clip(0.0), "have no 'clip' .* import clamp$"),
        (lambda self, v: 2**v, r"2 \*\* v is exp\(v \* log\(2\)\)"),
        (lambda self, v: v**0.5, r"exp\(n \* log\(v\)\)"),
        (lambda self, v: v // 2, r"floor\(a / b\)"),
        (lambda self, v: v % 2, r"floor\(a / b\)"),
        (lambda self, v: round(v), "Python's round .* import round$"),
        (lambda self, v: where((v > 0) & (v < 1), v, 0.0), r"where\(a, where\(b, c, d\), d\)"),
        (lambda self, v: np.exp(v), "numpy's exp .* import exp$"),
        (lambda self, v: np.fabs(v), r"numpy's fabs .*Write: abs\(v\)$"),
        (lambda self, v: np.where(v > 0, v, 0.0), "numpy's where .* import where$"),
        (lambda self, v: v if self.tau > 1 else -v, r"cannot branch on a parameter .*where.*an option"),
        (lambda self, v: v if v > 1 else -v, "cannot branch on a membrane"),
    ],
)
def test_what_cannot_be_traced_is_told_with_the_remedy(value, message):
    with pytest.raises(TypeError, match=message):
        traced(lambda self, x, v: (x, {"v": value(self, v)}))


def test_numpys_own_numbers_and_plain_numbers_in_if_work():
    def step(self, x, v):
        v = np.float64(2) * v + x / np.float32(4) - np.float64(1)
        if self.__class__.__name__ == "Mine" and math.exp(1.0) > 2:
            v = where(np.float64(1) > v, v, -v)
        return x, {"v": v}

    operations = [node.operation for node in traced(step).trace.nodes]
    assert {"mul", "div", "sub", "gt", "where"} <= set(operations)


def looped(self, x, v):
    for _ in range(int(1e5)):
        v = v * v + x
    return x, {"v": v}


def test_a_loop_that_would_compile_for_minutes_is_refused_and_a_long_one_runs_without_a_compiler(monkeypatch):
    with pytest.raises(TypeError, match=r"takes more than 3000 operations.*loop in a step is unrolled: shorten it"):
        traced(looped)

    def step(self, x, v):
        for _ in range(1400):
            v = 0.999 * v + x
        return v, {"v": v}

    monkeypatch.setattr(cpu, "refusal", lambda: "hidden")
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    assert scan(type("Deep", (Mine,), {"step": step})(), x).output.item() == pytest.approx((1 - 0.999**1400) / 0.001)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"states": ["v"]}, r"""Wrong: states must be a dict such as {"v": 0.0}, got \['v'\]"""),
        ({"states": {"v": None}}, "Wrong: state 'v' must start at a number or the name of an attribute, got None"),
        ({"positive": "tau"}, r"""Wrong: positive expects names, got the string 'tau'. Write: positive = \("tau",\)"""),
        ({"positive": ("taau",)}, "Wrong has no 'taau'. Near: tau"),
        ({"learnt": "tau"}, r"""Wrong: learnt expects names. Write: learnt = \("tau",\)"""),
    ],
)
def test_a_class_that_is_spelt_otherwise_is_refused_when_it_is_written(members, message):
    with pytest.raises(TypeError, match=message):
        type("Wrong", (Mine,), members)


def test_a_state_that_starts_at_nothing_is_refused_with_the_nearest():
    with pytest.raises(TypeError, match="state 'v' starts at 'v_rst', which it does not have. Near: v_rest"):
        nn.neuron_module(type("Wrong", (Mine,), {"states": {"v": "v_rst"}}))()


def test_a_step_with_other_arguments_than_its_states_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'v'"):
        traced(lambda self, x, u: (x, {"v": u}))


def test_a_step_may_return_plain_numbers():
    x = torch.zeros(2, 1, 3)
    mine = type("Constant", (Mine,), {"step": lambda self, x, v: (x + 1, {"v": 0.25})})()
    s, state, _ = scan(mine, x)
    assert (s == 1).all() and (state["v"] == 0.25).all()
    assert mine.bind({}).trace() and type("One", (Mine,), {"step": lambda self, x, v: (1, {"v": x})})().trace()


def test_a_user_may_call_parameters_and_states_what_they_like():
    # words of C, macros of its headers, our own numbers of nodes, Greek, no identifiers at all
    names = ["long", "register", "NAN", "real", "τ", "double", *(f"c{k}" for k in range(40, 80))]
    states = {"short": 0.0, "errno": 0.0, "my state": 0.0, "σ": 0.0}

    def step(self, x, **given):
        total = x
        for name in names:
            total = total * exp(-getattr(self, name)) + getattr(self, name)
        return total, {n: v * 0.5 + total for n, v in given.items()}

    numbers = {n: 0.1 * k + 0.1 for k, n in enumerate(names)}
    neuron = type("Named", (Equation,), {**numbers, "states": states, "step": step})()
    x = torch.linspace(0, 1, 6, dtype=torch.float64).reshape(3, 1, 2)
    s, state, _ = scan(neuron, x)
    r, expected, _ = by_reference(neuron, x)
    assert (s == r).all() and all((state[n] == expected[n]).all() for n in states)


def test_a_number_beyond_the_largest_is_infinite_in_every_form():
    def step(self, x, v):
        return x / exp(self.tau * 500.0), {"v": v + x * exp(-self.tau)}

    x = torch.ones(2, 1, 2, dtype=torch.float64)
    mine = type("Overflowing", (Mine,), {"step": step})
    for neuron in (mine(), mine(tau=torch.tensor(2.0))):
        s, state, _ = scan(neuron, x)
        assert (s == 0).all() and state["v"].isfinite().all()
        r, *_ = by_reference(neuron, x)
        assert (r == 0).all()


def test_initial_values_may_be_parameters():
    assert Izhikevich(w_rest=0.5).initial() == {"v": 0.0, "w": 0.5}
    assert LIF(v_reset=-0.5).initial() == {"v": -0.5}
    assert LIF(v_reset=None).initial() == {"v": 0.0}


class Repeated(Equation):
    """A step whose formula depends on an attribute of the object."""

    tau = 2.0
    states = {"v": 0.0}

    def __init__(self, times, **keywords):
        super().__init__(**keywords)
        self.times = times

    def step(self, x, v):
        for _ in range(self.times):
            v = v + (x - v) / self.tau
        return v, {"v": v}


def test_two_objects_with_other_attributes_are_two_formulas():
    assert Repeated(1).structure() != Repeated(3).structure()
    assert Repeated(2).structure() == Repeated(2).structure()


def test_an_attribute_that_may_change_without_notice_is_refused():
    with pytest.raises(TypeError, match="times is a list.*Make it a tuple"):
        Repeated([1]).structure()
