"""ALIF and the AdLIF family: numbers of the papers' code, a loop written out by hand, and laws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from snnkit import nn
from snnkit.equations import ALIF, LIF, AdLIF, EFAdLIF, Hard, NoReset, SEAdLIF, Soft
from snnkit.ops import scan
from tests.closeness import error
from tests.equations.oracle import drive
from tests.equations_under_test import by_reference
from tests.shared import fixture


def f64(array) -> Tensor:
    return torch.from_numpy(array).double()


# --- sparch: linear and batch norm around, batch first ----------------------------------------------------------


class SparchLayer(torch.nn.Module):
    """``[B, T, in]`` -> ``[B, T, out]``, with the names of sparch's checkpoints."""

    def __init__(self, inputs: int, outputs: int, **fixed: float) -> None:
        super().__init__()
        self.W = torch.nn.Linear(inputs, outputs, bias=False)
        self.norm = torch.nn.BatchNorm1d(outputs, momentum=0.05)
        learn = tuple(n for n in ("alpha", "beta", "a", "b") if n not in fixed)
        self.neuron = nn.AdLIF(learn=learn, shape=(outputs,), **fixed)

    def forward(self, x: Tensor, start: dict[str, Tensor]) -> Tensor:
        current = self.norm(self.W(x).flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.neuron(current.transpose(0, 1), start).transpose(0, 1)


def load_sparch(f, layer: SparchLayer) -> None:
    own = {"alpha", "beta", "a", "b"}
    state = {n.removeprefix("state/"): torch.from_numpy(f[n]) for n in f.names("state/")}
    layer.load_state_dict({f"neuron.{n}" if n in own else n: v for n, v in state.items()})
    layer.double()
    with torch.no_grad():  # load_state_dict rounds to the layer's float32, and some of the numbers are float64
        for n in own & set(state):
            getattr(layer.neuron, n).copy_(state[n])


@pytest.mark.parametrize(("name", "fixed", "starts"), [("lif_sparch", {"a": 0.0, "b": 0.0, "beta": 0.98}, "us"),
                                                       ("adlif_sparch", {}, "uws")])  # fmt: skip
def test_adlif_gives_the_numbers_of_sparch(name, fixed, starts):
    f = fixture(name)
    layer = SparchLayer(f.config["input_size"], f.config["hidden_size"], **fixed)
    load_sparch(f, layer)
    drawn = {n: f64(f[f"input/rand_{k}"]) for k, n in enumerate(starts)}
    start = {"w": torch.zeros_like(drawn["u"])} | drawn
    x = f64(f["input/x"]).requires_grad_()

    s = layer(x, start)
    loss = (s * f64(f["input/loss_weight"])).sum()
    loss.backward()
    assert (s == torch.from_numpy(f["output/spike"])).all()
    assert error(loss, f["loss"]) < 1e-9
    assert error(x.grad, f["grad_input/x"]) < 1e-9
    for key in f.names("grad/"):
        own = key.removeprefix("grad/")
        parameter = layer.get_parameter(own if "." in own else f"neuron.{own}")
        assert error(parameter.grad, f[key]) < 1e-9, key
    load_sparch(f, layer)  # the fixture's evaluation has the statistics of the start
    assert (layer.eval()(x, start) == torch.from_numpy(f["output_eval/spike"])).all()


def test_the_fixture_has_values_on_both_sides_of_a_border():
    # so that the clamp and its gradient of zero are under test
    grads = {n: fixture("adlif_sparch")[f"grad/{n}"] for n in ("alpha", "beta", "a", "b")}
    assert any((g == 0).any() and (g != 0).any() for g in grads.values())


def test_a_value_beyond_the_range_acts_as_the_border_and_gets_no_gradient():
    x = drive(0.0, 4.0)
    low, high = AdLIF.ranges["alpha"]
    alpha = torch.tensor([low - 0.5, low, 0.9, high, high + 1.0], dtype=torch.float64, requires_grad=True)
    s, state, _ = scan(AdLIF(alpha=alpha), x)
    same = scan(AdLIF(alpha=alpha.detach().clamp(low, high)), x)
    assert (s == same.output).all() and (state["u"] == same.state["u"]).all()
    (g,) = torch.autograd.grad(state["u"].sum(), alpha)
    assert (g != 0).tolist() == [False, True, True, True, False]


def test_the_ranges_are_the_papers():
    # exp(-1 / tau) for tau from 5 to 25 and from 30 to 120 steps
    expected = {"alpha": (0.818731, 0.960789), "beta": (0.967216, 0.991701), "a": (-1.0, 1.0), "b": (0.0, 2.0)}
    for name, borders in expected.items():
        assert AdLIF.ranges[name] == pytest.approx(borders, abs=1e-6)


@pytest.mark.parametrize("name", AdLIF.ranges)
def test_a_number_out_of_the_papers_range_is_refused(name):
    low, high = AdLIF.ranges[name]
    AdLIF(**{name: low}), AdLIF(**{name: high})
    with pytest.raises(ValueError, match=rf"{name} must be in \["):
        AdLIF(**{name: high + 0.01})
    with pytest.raises(ValueError, match=rf"{name} must be in \["):
        nn.AdLIF(**{name: torch.tensor([low - 0.01, low])}, learn=(name,))


def test_a_learnt_value_may_drift_out_and_still_loads():
    layer = nn.AdLIF(shape=(3,))
    layer.load_state_dict(layer.state_dict() | {"a": torch.tensor([-2.0, 0.0, 2.0])})
    assert layer.a.tolist() == [-2.0, 0.0, 2.0]


# --- Baronig et al. -----------------------------------------------------------------------------------------------


def baronig(f, equation):
    """Run the fixture's layer: linear around our neuron, tau = tau_min + omega (tau_max - tau_min)."""
    given = {n.removeprefix("state/"): torch.from_numpy(f[n]) for n in f.names("state/")}
    leaves = {n: v.double().requires_grad_() for n, v in given.items() if "tau_m" not in n}
    tau = {}
    for name in ("tau_u", "tau_w"):
        least, most = (int(given[f"{name}_trainer.{end}"]) for end in ("tau_min", "tau_max"))
        tau[name] = least + leaves[f"{name}_trainer.weight"] * (most - least)
    neuron = equation(**tau, a=leaves["a"], b=leaves["b"], q=float(f.config["q"]))
    x = f64(f["input/x"]).requires_grad_()
    return neuron, leaves | {"x": x}, tau


def test_se_adlif_gives_the_numbers_of_the_papers_code():
    f = fixture("se_adlif_cell_norec")
    neuron, leaves, tau = baronig(f, SEAdLIF)
    current = torch.nn.functional.linear(leaves["x"], leaves["weight"], leaves["bias"])
    s, _, traces = scan(neuron, current.transpose(0, 1), record=("u", "w"))
    s, u, w = (t.transpose(0, 1) for t in (s, traces["u"], traces["w"]))
    loss = (s * f64(f["input/loss_weight"])).sum() + (u * f64(f["input/loss_weight_u"])).sum()
    loss.backward()
    assert (s == torch.from_numpy(f["output/spike"])).all()
    assert error(u, f["output/u_after_reset"]) < 1e-9 and error(w, f["output/w"]) < 1e-9
    for name in ("tau_u", "tau_w"):
        assert error(torch.exp(-1 / tau[name]), f[f"output/decay_{name[-1]}"]) < 1e-12
    assert error(loss, f["loss"]) < 1e-9
    assert error(leaves["x"].grad, f["grad_input/x"]) < 1e-9
    for key in f.names("grad/"):
        assert error(leaves[key.removeprefix("grad/")].grad, f[key]) < 1e-9, key


def test_ef_adlif_gives_the_numbers_of_the_papers_code():
    # The fixture's spikes go back through a matrix: step by step, with the state handed on.
    f = fixture("ef_adlif_cell")
    neuron, leaves, _ = baronig(f, EFAdLIF)
    current = torch.nn.functional.linear(leaves["x"], leaves["weight"], leaves["bias"])
    state, before, rows = None, torch.zeros(current.shape[0], current.shape[2], dtype=torch.float64), []
    for t in range(current.shape[1]):
        row = current[:, t] + before @ leaves["recurrent"].T
        s, state, _ = scan(neuron, row[None], state)
        before = s[0]
        rows.append((before, state["u"], state["w"]))
    s, u, w = (torch.stack(part, 1) for part in zip(*rows, strict=True))
    loss = (s * f64(f["input/loss_weight"])).sum() + (u * f64(f["input/loss_weight_u"])).sum()
    loss.backward()
    assert (s == torch.from_numpy(f["output/spike"])).all()
    assert error(u, f["output/u_after_reset"]) < 1e-9 and error(w, f["output/w"]) < 1e-9
    assert error(leaves["x"].grad, f["grad_input/x"]) < 1e-9
    for key in f.names("grad/"):
        assert error(leaves[key.removeprefix("grad/")].grad, f[key]) < 1e-9, key


def test_se_and_ef_differ_by_what_w_sees():
    x = torch.full((2, 1, 1), 20.0, dtype=torch.float64)
    for equation, q in ((SEAdLIF, 120.0), (EFAdLIF, 120.0)):
        _, _, traces = scan(equation(q=q), x, record=("u", "w"))
        first, decay = traces["w"][0].item(), math.exp(-1 / 180)
        # It fires at once and resets to 0: SE sees that spike in the same step, EF in the next.
        assert first == pytest.approx((1 - decay) * q * 1.0 if equation is SEAdLIF else 0.0)


@pytest.mark.parametrize("equation", [SEAdLIF, EFAdLIF])
def test_u_rests_at_v_reset_and_w_measures_from_there(equation):
    _, _, traces = scan(equation(v_reset=-0.5), torch.zeros(4, 1, 1, dtype=torch.float64), record=("u", "w"))
    assert (traces["u"] == -0.5).all() and (traces["w"] == 0).all()


def test_decays_are_folded_alike_before_the_compiled_loop_and_in_the_reference():
    # Python's exp and torch's differ in the last bit for one number in twenty.
    x = torch.ones(2, 1, 3, dtype=torch.float64)
    for tau in torch.linspace(5.0, 25.0, 60).tolist():
        neuron = SEAdLIF(tau_u=tau, tau_w=10 * tau)
        compiled, plain = scan(neuron, x).state, by_reference(neuron, x)[1]
        assert all(torch.equal(compiled[n], plain[n]) for n in compiled), tau


# --- ALIF ---------------------------------------------------------------------------------------------------------


def test_alif_is_the_equation_of_the_docstring():
    x, tau, tau_a, beta = drive(-1.0, 4.0), 3.0, 7.0, 0.6
    v, a = torch.zeros(2, *x.shape[1:], dtype=torch.float64)
    spikes = []
    for row in x:
        v = v + (row - v) / tau
        theta = 1.0 + beta * a
        s = (v >= theta).double()
        v, a = v - s * theta, a + (s - a) / tau_a
        spikes.append(s)
    s, state, _ = scan(ALIF(tau=tau, tau_a=tau_a, beta=beta), x)
    assert 0.05 < s.mean() < 0.95 and (s == torch.stack(spikes)).all()
    assert error(state["v"], v) < 1e-14 and error(state["a"], a) < 1e-14


def test_alif_without_adaptation_is_lif():
    x = drive(-1.0, 4.0)
    for reset in (Soft(), Hard(-0.25), NoReset()):
        assert (by_reference(ALIF(beta=0.0, reset=reset), x)[0] == by_reference(LIF(reset=reset), x)[0]).all()


def test_adaptation_makes_firing_slower():
    x = torch.full((63, 1, 1), 1.8, dtype=torch.float64)
    rates = [scan(ALIF(beta=beta), x).output.mean().item() for beta in (0.0, 1.0, 4.0)]
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == 3
