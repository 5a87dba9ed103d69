"""Firing rates from observers that the neurons call."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import snnkit
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.neuron import LIF
from snnkit.nn.observer import firing_rates, saturated, silent, unit_rates
from tests.nn.layers import Leak, spikes


class Fire(nn.Module):
    """s = [x > 0]."""

    _observer = None

    def forward(self, x):
        s = (x > 0).to(x.dtype)
        if self._observer is not None:
            self._observer(s)
        return s


def net() -> nn.Sequential:
    return nn.Sequential(Fire(), nn.Identity(), nn.Sequential(Fire()))


X = torch.tensor([[1.0, 0, 0], [1, 1, 0]])[:, None].expand(2, 4, 3)  # T=2, B=4, C=3: rates 1, 1/2, 0


def test_rates_are_means_over_all_calls_weighted_by_elements():
    model = net()
    with firing_rates(model) as rates:
        model(X)
        assert rates["0"] == rates["2.0"] == 0.5
        model(torch.zeros(6, 4, 3))
        assert rates == {"0": 0.125, "2.0": 0.125}
    assert dict(rates) == {"0": 0.125, "2.0": 0.125}
    assert isinstance(rates["0"], float)
    assert repr(rates) == "{'0': 0.125, '2.0': 0.125}"


def test_layers_that_have_not_run_are_absent():
    model = net()
    with firing_rates(model) as rates:
        assert len(rates) == 0
        model[0](X)
        assert list(rates) == ["0"]
        with pytest.raises(KeyError, match="2.0"):
            rates["2.0"]


def test_observers_are_gone_after_the_block_and_after_an_exception():
    model = net()
    with firing_rates(model):
        model(X)
    assert "_observer" not in model[0].__dict__
    with pytest.raises(ZeroDivisionError), firing_rates(model) as rates:
        model(X)
        raise ZeroDivisionError
    assert "_observer" not in model[0].__dict__
    assert rates["0"] == 0.5


def test_two_observations_do_not_disturb_each_other():
    model = net()
    with firing_rates(model) as outer:
        with unit_rates(model) as inner:
            model(X)
        model(torch.zeros(2, 4, 3))
    assert outer["0"] == 0.25
    assert inner["0"].tolist() == [1.0, 0.5, 0.0]
    assert "_observer" not in model[0].__dict__


def test_the_mean_is_taken_in_float64():
    model = Fire()
    with firing_rates(model) as rates:
        model(torch.ones(4097, 2, 3, dtype=torch.float16))
        model(torch.zeros(1, 2, 3))
    assert rates[""] == 4097 / 4098


def test_no_graph_is_kept():
    class Soft(Fire):
        def forward(self, x):
            self._observer(x)

    with firing_rates(Soft()) as rates, unit_rates(nn.Identity()):
        rates._means[""](torch.ones(2, 3, 4, requires_grad=True) * 2)
    assert not rates._means[""].total.requires_grad


def test_silent_and_saturated_layers_are_named_with_their_share():
    model = net()
    with unit_rates(model) as rates:
        model(X)
        model[0](X)
    assert rates["0"].dtype == torch.float64
    assert silent(rates) == saturated(rates) == {"0": pytest.approx(1 / 3), "2.0": pytest.approx(1 / 3)}
    with unit_rates(model) as rates:
        model(X[1:])
    assert saturated(rates) == {"0": pytest.approx(2 / 3), "2.0": pytest.approx(2 / 3)}
    with unit_rates(model) as rates:
        model(X[:, :, 1:2])
    assert silent(rates) == saturated(rates) == {}


def test_a_recomputed_block_is_counted_once():
    model, x = nn.Sequential(nn.Linear(3, 3), Fire(), nn.Linear(3, 3)), torch.randn(2, 4, 3)
    with unit_rates(model) as rates:
        checkpoint(lambda x: model(x).exp(), x).sum().backward()
        assert rates._means["1"].count == 8


def test_an_empty_batch_is_not_a_rate():
    model = Fire()
    with unit_rates(model) as units, firing_rates(model) as rates:
        model(torch.zeros(2, 0, 3))
        assert dict(rates) == dict(units) == {}
        model(X)
    assert rates[""] == 0.5
    assert units[""].tolist() == [1.0, 0.5, 0.0]


def test_a_copy_of_a_layer_with_state_is_not_observed():
    layer = Leak()
    with firing_rates(layer):
        assert copy.deepcopy(layer)._observer is None


@pytest.mark.parametrize("rates", [firing_rates, unit_rates])
def test_the_rates_over_processes_count_each_step_and_sample_once(rates):
    model, parts = net(), (X, X[:2, :1])
    with rates(model) as both:
        for part in parts:
            model(part)
    seen = []
    for part in parts:
        with rates(model) as mine:
            model(part)
        said = []
        mine.over_processes(lambda tensor, said=said: said.append(tensor) or tensor)
        seen.append(said)
    others = iter(seen[0])
    shared = mine.over_processes(lambda tensor: tensor + next(others))
    assert shared.keys() == both.keys() and shared
    for name, rate in both.items():
        torch.testing.assert_close(torch.as_tensor(shared[name]), torch.as_tensor(rate))


def test_observing_changes_neither_the_model_nor_its_copies():
    model = net()
    before = {name: list(module.__dict__) for name, module in model.named_modules()}
    state = torch.get_rng_state()
    with firing_rates(model):
        copy.deepcopy(model)(X)
    assert {name: list(module.__dict__) for name, module in model.named_modules()} == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rates", [firing_rates, unit_rates])
def test_a_compiled_network_compiles_twice_however_often_it_is_observed(rates):
    torch._dynamo.reset()
    counter = CompileCounter()
    net, x = nn.Sequential(nn.Linear(5, 4), LIF()), spikes(7, 3, 5).float()
    fast = torch.compile(net, backend=counter, fullgraph=True)
    for _ in range(2):
        with torch.no_grad(), rates(net) as seen:
            for _ in range(5):
                y = fast(x)
    expected = y.double().mean((0, 1) if rates is unit_rates else (0, 1, 2))
    torch.testing.assert_close(torch.as_tensor(seen["1"], dtype=torch.float64), expected)
    assert counter.frame_count <= 2


def test_padding_of_a_network_that_is_told_lengths_is_not_counted():
    model = snnkit.create_model("delay_snn_digits", in_features=5, hidden=(7, 6), num_classes=3).eval()
    for block in model.blocks:
        torch.nn.init.constant_(block.norm.bias, 10.0)  # every neuron fires at every step
    x, lengths = torch.rand(20, 3, 5), torch.tensor([20, 11, 0])
    with torch.no_grad(), unit_rates(model) as rates, firing_rates(model) as mean:
        model(x, lengths)
    assert saturated(rates) == dict.fromkeys(rates, 1.0) and set(mean.values()) == {1.0}

    model = snnkit.create_model("delay_snn_digits", in_features=5, hidden=(7,), num_classes=3, v_threshold=0.1).eval()
    with torch.no_grad(), unit_rates(model) as rates:
        model(x, lengths)
    alone = 0.0
    for i, length in enumerate(lengths.tolist()):
        with torch.no_grad(), unit_rates(model) as own:
            model(x[:length, i : i + 1])
        alone += own["blocks.0.neuron"] * (length + model.tail)
    assert alone.any()
    torch.testing.assert_close(rates["blocks.0.neuron"], alone / (lengths.sum() + 3 * model.tail))
    with torch.no_grad(), unit_rates(model) as rates:  # the mask is of that call
        model(x, lengths), model(x)
        model(x)
    with torch.no_grad(), unit_rates(model) as twice:
        model(x), model(x)
        model(x, lengths)
    torch.testing.assert_close(rates["blocks.0.neuron"], twice["blocks.0.neuron"])
