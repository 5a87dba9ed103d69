"""Recurrent delays against the authors' code, and as a layer of this toolkit."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import snnkit
from snnkit.equations.surrogates import ATan
from snnkit.nn import LIF, DelayedRecurrence, HalfNormalDelays, SpreadSchedule, UniformDelays
from tests.shared import Fixture, fixture

N = 8
NAMES = ["delrec_axonal", "delrec_axonal_sigma10", "delrec_synaptic", "delrec_synaptic_sigp"]
OURS = {"recurrent_weights": "weight", "recurrent_delays": "delay", "p_spread": "spread"}


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).double()


def close(got: torch.Tensor, expected: np.ndarray, what: str) -> None:
    """1e-9 of the norm."""
    difference = np.linalg.norm(got.detach().numpy() - expected)
    assert difference <= 1e-9 * max(np.linalg.norm(expected), 1e-6), f"{what}: {difference}"


def of(reference: Fixture) -> DelayedRecurrence:
    neuron = LIF(tau=1.05, decay_input=False, detach_reset=True, surrogate=ATan(5.0))
    state = {OURS[k[6:]]: tensor(reference[k]) for k in reference.names("state/")}
    sigma = float(reference.info["sigma"])
    layer = DelayedRecurrence(
        neuron, N, synaptic=state["delay"].ndim == 2, learn_spread="spread" in state, sigma=sigma
    ).double()  # fmt: skip
    layer.load_state_dict(state | {"sigma": torch.tensor(sigma, dtype=torch.float64)})
    return layer


@pytest.mark.parametrize("name", NAMES)
def test_the_layer_gives_the_official_numbers(name):
    reference = fixture(name)
    layer, x = of(reference), tensor(reference["input/x"]).requires_grad_()
    s, traces = layer(x, record=("v",))
    weights = [tensor(reference[f"input/loss_weight{k}"]) for k in ("", "_v")]
    ((s * weights[0]).sum() + (traces["v"] * weights[1]).sum()).backward()
    assert np.array_equal(s.detach().numpy(), reference["output/spike"])
    close(traces["v"], reference["output/v_seq"], "v")
    close(x.grad, reference["grad_input/x"], "x")
    for key in reference.names("grad/"):
        close(getattr(layer, OURS[key[5:]]).grad, reference[key], key)


@pytest.mark.parametrize("name", NAMES)
def test_rounded_delays_give_the_official_numbers_and_the_layer_keeps_its_own(name):
    reference = fixture(name)
    layer, x = of(reference), tensor(reference["input/x"])
    before = copy.deepcopy(layer.state_dict())
    rounded = layer.discretize()
    s, traces = rounded(x, record=("v",))
    assert np.array_equal(s.detach().numpy(), reference["output_eval/spike_rounded"])
    close(traces["v"], reference["output_eval/v_seq_rounded"], "v")
    rounded.set_sigma(0.0)
    s, traces = rounded(x, record=("v",))
    assert np.array_equal(s.detach().numpy(), reference["output_eval/spike_rounded_sigma0"])
    close(traces["v"], reference["output_eval/v_seq_rounded_sigma0"], "v, sigma 0")
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())


KINDS = {"axonal": {}, "synaptic": dict(synaptic=True), "spread": dict(learn_spread=True)}
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str = "axonal", **more) -> DelayedRecurrence:
    torch.manual_seed(3)
    given = dict(sigma=1.25, max_delay=4, start=UniformDelays(0.0, 4.0)) | KINDS[kind] | more
    return DelayedRecurrence(LIF(tau=1.5), N, **given).double()


def sequence(steps: int = 13) -> torch.Tensor:
    return 2 * torch.randn(steps, 3, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@every_kind
def test_a_spike_arrives_after_its_delay_and_is_spread_over_a_triangle(kind):
    layer = make(kind)
    layer.delay.data.fill_(2.5)
    taps = layer.taps().detach().flatten(1)[:, 0]
    r = 2.25
    expected = [max(0.0, r - abs(lag - 3.5)) / r**2 for lag in range(1, len(taps) + 1)]
    np.testing.assert_allclose(taps, expected, rtol=1e-12)
    assert taps[-1] > 0 or taps[-2] > 0, "no lag more than needed"


@every_kind
def test_longer_memory_than_needed_changes_nothing(kind):
    layer, x = make(kind), sequence()
    y = layer(x)
    needed = layer.lags()
    layer.lags = lambda: needed + 5
    torch.testing.assert_close(layer(x), y, rtol=0, atol=0)
    assert 0.05 < y.mean() < 0.9


@every_kind
def test_chunks_in_carry_are_the_whole(kind):
    layer, x = make(kind, dropout=0.5), sequence()
    for chunks in ([1] * 13, [2, 11], [6, 7]):
        with snnkit.carry(layer.eval()):
            parts = torch.cat([layer(chunk) for chunk in x.split(chunks)])
        assert torch.equal(parts, layer(x))
    whole, last = layer(x, return_state=True)
    first, state = layer(x[:5], return_state=True)
    assert torch.equal(torch.cat([first, layer(x[5:], state)]), whole)
    assert last["feedback"].shape == (3, layer.lags(), N)
    assert torch.equal(last["feedback"][:, -1], whole[-1])


def test_one_dropout_mask_serves_the_sequence_and_scales_what_is_heard():
    layer, x = make(dropout=0.5).train(), sequence()
    with snnkit.carry(layer):
        torch.manual_seed(0)
        parts = torch.cat([layer(chunk) for chunk in x.split(4)])
    torch.manual_seed(0)
    assert torch.equal(layer(x), parts)
    torch.manual_seed(0)
    mask = layer.feedback_mask(x)
    assert mask.unique().tolist() == [0.0, 2.0] and mask.shape == (3, N)
    deaf = make()
    deaf.weight.data.zero_()
    assert torch.equal(parts[:, mask == 0], deaf(x)[:, mask == 0])
    assert not torch.equal(parts[:, mask > 0], deaf(x)[:, mask > 0])
    assert layer.eval().feedback_mask(x) is None


def test_delays_and_spread_move_with_training_and_are_clamped():
    layer, x = make("spread"), sequence()
    layer(x).square().sum().backward()
    for name in ("weight", "delay", "spread"):
        assert getattr(layer, name).grad.abs().sum() > 0, name
    assert make().spread is None
    layer.delay.data[:2] = torch.tensor([-1.0, 9.0])
    layer.clamp_()
    assert layer.delay[:2].tolist() == [0.0, 4.0]


def test_delays_start_as_they_are_drawn():
    torch.manual_seed(0)
    delay = DelayedRecurrence(LIF(), 400).delay
    assert 10 <= delay.min() < 10.5 and 29.5 < delay.max() <= 30
    delay = DelayedRecurrence(LIF(), 400, start=HalfNormalDelays(12.0)).delay
    assert delay.min() >= 0 and 8 < delay.mean() < 11  # 12 sqrt(2 / pi) = 9.6


def test_the_spread_narrows_as_published_and_resumes():
    model = nn.Sequential(make(sigma=10.0), make(sigma=10.0))
    schedule = SpreadSchedule(model, epochs=150)
    for _ in range(150):
        schedule.step()
    assert model[1].sigma.item() == pytest.approx(10 * 0.95**100) and 0.05 < model[0].sigma.item() < 0.07
    again = SpreadSchedule(model, epochs=150)
    again.load_state_dict(schedule.state_dict())
    again.step()
    assert model[0].sigma.item() == pytest.approx(10 * (0.95 ** (100 / 150)) ** 151)
    assert "sigma" in model[0].state_dict()


def test_what_cannot_be_meant_is_told():
    for keywords, message in (({"max_delay": -1}, "max_delay must be >= 0"), ({"sigma": -0.5}, "sigma must be >= 0")):
        with pytest.raises(ValueError, match=message):
            DelayedRecurrence(LIF(), 3, **keywords)
    with pytest.warns(UserWarning, match=r"All delays start at max_delay=4, since UniformDelays\(low=10.0"):
        DelayedRecurrence(LIF(), 3, max_delay=4)
    with pytest.raises(ValueError, match="0 <= low <= high, got low=5.0, high=1.0"):
        UniformDelays(5.0, 1.0)
    with pytest.raises(ValueError, match="from 0 to the first one, 1.25, got 2"):
        make().set_sigma(2.0)
    with pytest.raises(ValueError, match="no DelayedRecurrence"):
        SpreadSchedule(nn.Linear(2, 2), 10)
    with pytest.raises(ValueError, match="epochs >= 1"):
        SpreadSchedule(make(), 0)


@every_kind
def test_a_delay_above_max_delay_acts_as_max_delay_in_every_path(kind):
    layer, x = make(kind, sigma=0.5), sequence()
    border = copy.deepcopy(layer)
    layer.delay.data.fill_(9.0), border.delay.data.fill_(4.0)
    y = border(x)
    assert y[5:].ne(make(kind, sigma=0.5, max_delay=0, start=UniformDelays(0.0, 0.0))(x)[5:]).any(), "an echo"
    torch.compiler.reset()
    paths = {
        "eager": layer, "rounded": layer.discretize(), "compiled": torch.compile(layer, backend="eager"),
        "vmap": lambda x: torch.func.vmap(layer)(x[None])[0],
    }  # fmt: skip
    with torch.no_grad():
        for name, path in paths.items():
            assert torch.equal(path(x), y), name
    layer(x).square().sum().backward()
    assert not layer.delay.grad.any() and layer.weight.grad.any()


def test_a_file_with_longer_delays_or_a_wider_spread_is_refused():
    state = make().state_dict()
    for name, value, message in (
        ("delay", 6.3, r"delay reaches 6.3 steps, max_delay=4 is the most here. Build it with max_delay=7"),
        ("delay", float("nan"), "delay must be finite, got nan"),
        ("sigma", 2.5, r"sigma reaches 2.5 steps, sigma=1.25 is the most here. Build it with sigma=2.5"),
    ):
        with pytest.raises(RuntimeError, match=message):
            make().load_state_dict(state | {name: torch.full_like(state[name], value)})
    make(max_delay=7).load_state_dict(state | {"delay": torch.full_like(state["delay"], 6.3)})
    make(sigma=0.1).float().load_state_dict(make(sigma=0.1).state_dict())
