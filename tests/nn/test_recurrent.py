"""Recurrent layers against the papers' code, and as layers of this toolkit."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from torch import nn

import snnkit
from snnkit.equations.surrogates import SLAYER
from snnkit.nn import LIF, AdLIF, BatchNorm, EFAdLIF, SEAdLIF
from snnkit.nn.recurrent import Bidirectional, Recurrent
from tests.shared import Fixture, fixture

T, B, N = 9, 3, 5


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).double()


def close(got: torch.Tensor, expected: np.ndarray, what: str) -> None:
    """1e-9 of the norm."""
    difference = np.linalg.norm(got.detach().double().numpy() - expected)
    assert difference <= 1e-9 * max(np.linalg.norm(expected), 1e-6), f"{what}: {difference}"


class Layer(nn.Module):
    """Linear -> norm -> recurrent neurons, as sparch's layers are."""

    def __init__(self, reference: Fixture, neuron: nn.Module) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(10, 12, bias=False), BatchNorm(12, momentum=0.05)
        self.recurrent = Recurrent(neuron, 12, diagonal=False)
        self.double()
        self.linear.weight.data = tensor(reference["state/W.weight"])
        self.recurrent.weight.data = tensor(reference["state/V.weight"]).T.contiguous()
        self.norm.load_state_dict({k[11:]: torch.from_numpy(reference[k]) for k in reference.names("state/norm.")})

    def forward(self, x: torch.Tensor, state: dict | None = None) -> torch.Tensor:
        return self.recurrent(self.norm(self.linear(x)), state)


@pytest.mark.parametrize("name", ["rlif_sparch", "radlif_sparch"])
def test_sparchs_layers_give_their_numbers(name):
    reference = fixture(name)
    adaptive = name == "radlif_sparch"
    learnt = ("alpha", "beta", "a", "b") if adaptive else ("alpha",)
    numbers = {} if adaptive else {"a": 0.0, "b": 0.0}
    neuron = AdLIF(**numbers, learn=learnt, shape=(12,))
    for key in learnt:
        getattr(neuron, key).data = tensor(reference[f"state/{key}"])
    layer = Layer(reference, neuron)
    drawn = [tensor(reference[f"input/rand_{i}"]) for i in range(3 if adaptive else 2)]
    state = dict(zip("uws", drawn, strict=True)) if adaptive else {"u": drawn[0], "w": 0 * drawn[0], "s": drawn[1]}

    x = tensor(reference["input/x"]).requires_grad_()
    again = layer.eval()(x.transpose(0, 1), state).transpose(0, 1)
    assert np.array_equal(again.detach().numpy(), reference["output_eval/spike"])
    y = layer.train()(x.transpose(0, 1), state).transpose(0, 1)
    (y * tensor(reference["input/loss_weight"])).sum().backward()

    assert np.array_equal(y.detach().numpy(), reference["output/spike"])
    close(x.grad, reference["grad_input/x"], "x")
    for key in learnt:
        close(getattr(neuron, key).grad, reference[f"grad/{key}"], key)
    close(layer.recurrent.weight.grad.T, reference["grad/V.weight"], "V")
    close(layer.linear.weight.grad, reference["grad/W.weight"], "W")
    close(layer.norm.weight.grad, reference["grad/norm.weight"], "norm")


@pytest.mark.parametrize("name", ["se_adlif_cell", "ef_adlif_cell"])
def test_se_and_ef_adlif_with_recurrence_give_their_numbers(name):
    reference = fixture(name)
    kind, q = {"se": (SEAdLIF, 120.0), "ef": (EFAdLIF, 60.0)}[name[:2]]
    low, width = {"u": 5.0, "w": 60.0}, {"u": 20.0, "w": 240.0}
    taus = {f"tau_{k}": low[k] + width[k] * tensor(reference[f"state/tau_{k}_trainer.weight"]) for k in "uw"}
    values = taus | {k: tensor(reference[f"state/{k}"]) for k in "ab"}
    learnt = {k: nn.Parameter(v) for k, v in values.items()}
    neuron = kind(**learnt, learn=tuple(learnt), q=q, surrogate=SLAYER(5.0, 1.0))
    layer = Recurrent(neuron, 12).double()
    layer.weight.data = tensor(reference["state/recurrent"])

    x = tensor(reference["input/x"]).requires_grad_()
    weight, bias = (tensor(reference[f"state/{k}"]).requires_grad_() for k in ("weight", "bias"))
    s, traces = layer(nn.functional.linear(x, weight, bias).transpose(0, 1), record=("u", "w"))
    s, u, w = (value.transpose(0, 1) for value in (s, traces["u"], traces["w"]))
    loss = (s * tensor(reference["input/loss_weight"])).sum() + (u * tensor(reference["input/loss_weight_u"])).sum()
    loss.backward()

    assert np.array_equal(s.detach().numpy(), reference["output/spike"])
    close(u, reference["output/u_after_reset"], "u")
    close(w, reference["output/w"], "w")
    got = {"grad_input/x": x.grad, "grad/weight": weight.grad, "grad/bias": bias.grad}
    got |= {"grad/recurrent": layer.weight.grad, "grad/a": neuron.a.grad, "grad/b": neuron.b.grad}
    got |= {f"grad/tau_{k}_trainer.weight": width[k] * getattr(neuron, f"tau_{k}").grad for k in "uw"}
    for key, value in got.items():
        close(value, reference[key], key)


def make(neuron: nn.Module | None = None, **more) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(LIF(tau=1.5) if neuron is None else neuron, N, **more).double()


def sequence(steps: int = T) -> torch.Tensor:
    return 2 * torch.randn(steps, B, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


NEURONS = [LIF(tau=1.5), AdLIF(shape=(N,)), SEAdLIF(tau_u=3.0), EFAdLIF(tau_u=3.0)]
every_neuron = pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: type(n).__name__)


def test_the_weights_are_target_by_source_and_orthogonal_at_first():
    layer = make(LIF(tau=2.0, v_reset=None))
    eye = torch.eye(N, dtype=torch.float64)
    torch.testing.assert_close(layer.weight.detach().float().double() @ layer.weight.detach().T, eye, atol=1e-6, rtol=0)
    layer.weight.data.zero_()
    layer.weight.data[3, 1] = 5.0
    x = torch.zeros(2, 1, N, dtype=torch.float64)
    x[0, 0, 1] = 4.0
    assert layer(x)[:, 0].nonzero().tolist() == [[0, 1], [1, 3]]


def test_a_neuron_that_may_not_hear_itself_ignores_the_stored_diagonal():
    layer, x = make(diagonal=False), sequence()
    y = layer(x)
    y.mul(torch.randn_like(y)).sum().backward()
    assert layer.weight.grad.diagonal().count_nonzero() == 0 and layer.weight.grad.count_nonzero() == N * N - N
    layer.weight.data.fill_diagonal_(7.0)
    assert torch.equal(layer(x), y) and not torch.equal(make()(x), y)


@every_neuron
def test_chunks_in_carry_are_the_whole_and_gradients_reach_back(neuron):
    layer, x = make(copy.deepcopy(neuron)), 4 * sequence()
    x.requires_grad_()
    whole = layer(x)
    assert 0.02 < whole.detach().mean() < 0.9
    weight = torch.randn(whole.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = torch.autograd.grad((whole * weight).sum(), [x, layer.weight])
    with snnkit.carry(layer):
        parts = torch.cat([layer(chunk) for chunk in x.split([1, 4, 4])])
    found = torch.autograd.grad((parts * weight).sum(), [x, layer.weight])
    assert torch.equal(parts, whole)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@every_neuron
def test_a_returned_state_goes_on_where_it_was_taken(neuron):
    layer, x = make(copy.deepcopy(neuron)), 4 * sequence()
    whole, last = layer(x, return_state=True)
    first, state = layer(x[:4], return_state=True)
    second, end = layer(x[4:], state, return_state=True)
    assert torch.equal(torch.cat([first, second]), whole) and end.keys() == last.keys()
    assert all(torch.equal(end[key], last[key]) and last[key].shape == (B, N) for key in last)
    assert ("feedback" in last) == ("s" not in neuron.equation.states)


def test_a_sample_that_carry_resets_starts_in_silence():
    layer, x = make(), sequence()
    with snnkit.carry(layer) as state:
        layer(x[:4])
        state.reset(torch.tensor([True, False, False]))
        y = layer(x[4:])
    assert torch.equal(y[:, 0], layer(x[4:])[:, 0]) and torch.equal(y[:, 1:], layer(x)[4:, 1:])


def test_a_copy_and_a_state_dict_answer_the_same():
    layer, x = make(AdLIF(shape=(N,))), 4 * sequence()
    other = Recurrent(AdLIF(shape=(N,)), N).double()
    other.load_state_dict(layer.state_dict())
    for twin in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))
    assert list(layer.state_dict()) == ["weight", "neuron.alpha", "neuron.beta", "neuron.a", "neuron.b"]


def test_half_precision_comes_out_as_it_went_in_and_is_computed_in_float32():
    layer, x = make().float(), sequence().to(torch.bfloat16)
    y, state = layer(x, return_state=True)
    assert y.dtype == torch.bfloat16 and state["v"].dtype == torch.float32
    assert torch.equal(y.float(), layer(x.float()))


def test_a_relaxed_layer_is_smooth_and_its_gradient_that_of_finite_differences():
    layer = make(LIF(tau=1.5, detach_reset=True))
    with snnkit.relaxed(layer):
        assert torch.autograd.gradcheck(layer, sequence(3).requires_grad_(), atol=1e-5)
        x = sequence(3)
        run = lambda w: torch.func.functional_call(layer, {"weight": w}, (x,))  # noqa: E731
        assert torch.autograd.gradcheck(run, layer.weight.detach().requires_grad_(), atol=1e-5)


def test_firing_rates_are_those_of_the_neurons():
    layer, x = make(), sequence()
    with snnkit.firing_rates(layer) as rates:
        y = layer(x)
    assert rates == {"neuron": pytest.approx(y.mean().item())}


def test_gradients_of_single_samples_through_torch_func():
    layer, x = make(SEAdLIF(tau_u=3.0, learn=("a",), shape=(N,))), 4 * sequence()
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters, row):
        return torch.func.functional_call(layer, parameters, (row[:, None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    for b in range(B):
        found = torch.autograd.grad(layer(x[:, b : b + 1]).square().sum(), list(layer.parameters()))
        for key, g in zip(parameters, found, strict=True):
            torch.testing.assert_close(each[key][b], g, rtol=1e-10, atol=1e-12)


def test_one_compiled_graph_serves_all_lengths():
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    layer = make(SEAdLIF(tau_u=3.0, learn=("a",), shape=(N,)))
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    for steps in (4, 7, 9):
        x = 4 * sequence(steps)
        expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
        found = torch.autograd.grad(compiled(x).square().sum(), list(layer.parameters()))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert counter.frame_count <= 2


def test_both_directions_share_the_layer_and_stand_side_by_side():
    layer, x = make(), sequence()
    y = Bidirectional(layer)(x)
    assert torch.equal(y[..., :N], layer(x)) and torch.equal(y[..., N:], layer(x.flip(0)).flip(0))


def test_a_short_sample_is_reversed_within_its_own_steps():
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make()

        def forward(self, x, lengths):
            assert lengths.tolist() == [9, 4, 6, 9, 4, 6]
            return self.inner(x)

    layer, x = Layer(), sequence()
    y = Bidirectional(layer)(x, torch.tensor([9, 4, 6]))
    alone = Bidirectional(layer.inner)(x[:4, 1:2])
    assert torch.equal(y[:4, 1:2], alone)


def test_both_directions_refuse_a_stream():
    model = Bidirectional(make())
    with snnkit.carry(model), pytest.raises(RuntimeError, match="cannot run inside snnkit.carry"):
        model(sequence())


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: Recurrent(LIF, 3), TypeError, "takes a neuron such as snnkit.nn.LIF\\(\\), got the class LIF"),
        (lambda: Recurrent(nn.ReLU(), 3), TypeError, "got ReLU"),
        (lambda: Recurrent(LIF(), 0), ValueError, "features must be a whole number >= 1, got 0"),
        (lambda: make()(sequence()[..., :4]), ValueError, r"expects \[T, B, 5\], got \(9, 3, 4\)"),
        (lambda: make()(sequence().long()), TypeError, "expects a floating x, got torch.int64"),
        (lambda: make()(sequence(), {"v": sequence()[0], "feedback": sequence()[0, :2]}), ValueError, "feedback"),
    ],
)
def test_what_cannot_be_meant_is_told(call, error, message):
    with pytest.raises(error, match=message):
        call()
