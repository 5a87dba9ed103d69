"""LSQ: the paper's code, the formulas by hand, where the steps start."""

import copy
import math

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import grad, vmap

from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.quant import LSQConv1d, LSQConv2d, LSQLinear, lsq
from tests.closeness import error
from tests.shared import fixture

KINDS = {
    "linear": lambda **k: LSQLinear(6, 5, **k),
    "conv2d": lambda **k: LSQConv2d(4, 6, 3, padding=1, groups=2, **k),
    "conv1d": lambda **k: LSQConv1d(4, 6, 1, bias=False, **k),
}
SHAPES = {"linear": (4, 6), "conv2d": (2, 4, 5, 4), "conv1d": (2, 4, 5)}
kinds = pytest.mark.parametrize("kind", KINDS)
CASES = [f"{kind}_b{bits}_{alpha}" for bits in (2, 3, 4, 8) for kind in KINDS for alpha in ("first", "given")]


def layer(kind: str, **options) -> nn.Module:
    torch.manual_seed(1)
    return KINDS[kind](**options).double()


def batch(kind: str, seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPES[kind], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def start(module: nn.Module) -> float:
    return 2 * module.weight.abs().mean().item() / math.sqrt(2 ** (module.bits - 1) - 1)


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_papers_code(case):
    numbers = fixture("lsq_weight")
    module = layer(case.split("_")[0], bits=int(case.split("_b")[1][0]))
    prefix = f"state/{case}."
    state = {n.removeprefix(prefix): torch.as_tensor(numbers[n]) for n in numbers.names(prefix)}
    module.load_state_dict(state)
    x = torch.as_tensor(numbers[f"input/{case}.x"]).double().requires_grad_()
    y = module(x)
    (y * torch.as_tensor(numbers[f"input/{case}.loss_weight"])).sum().backward()
    assert error(y, numbers[f"output/{case}.y"]) < 1e-12
    if f"output/{case}.w_q" in numbers:
        assert error(module.quantized_weight(), numbers[f"output/{case}.w_q"]) < 1e-12
    assert error(x.grad, numbers[f"grad_input/{case}.x"]) < 1e-12
    names = numbers.names(f"grad/{case}.")
    assert {n.rpartition(".")[2] for n in names} >= {"weight", "alpha"}
    for name in names:
        assert error(getattr(module, name.rpartition(".")[2]).grad, numbers[name]) < 1e-12
    for name in numbers.names(f"state_after/{case}."):
        assert error(getattr(module, name.rpartition(".")[2]), numbers[name]) < 1e-12


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_values_and_gradients_are_the_formulas_in_a_loop(bits):
    draw = torch.Generator().manual_seed(bits)
    weight = torch.randn(3, 4, 2, generator=draw, dtype=torch.float64).requires_grad_()
    alpha = torch.tensor([0.3, -0.2, 2.0], dtype=torch.float64, requires_grad=True)  # learning may turn the sign
    arriving = torch.randn(3, 4, 2, generator=draw, dtype=torch.float64)
    w_q = lsq(weight, alpha, bits)
    w_q.backward(arriving)
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for c in range(3):
        total = 0.0
        for w, got, passed, arrived in zip(
            weight[c].flatten(), w_q[c].flatten(), weight.grad[c].flatten(), arriving[c].flatten(), strict=True
        ):
            u, a = w.item() / alpha[c].item(), arrived.item()
            level = round(min(max(u, least), most))
            assert got.item() == pytest.approx(level * alpha[c].item(), abs=1e-15)
            assert passed.item() == (a if least <= u <= most else 0.0)
            total += a * (level - u if least <= u <= most else least if u < least else most)
        assert alpha.grad[c].item() == pytest.approx(total / math.sqrt(24 * most), rel=1e-12)


def test_halves_go_to_even_and_the_ends_still_pass_the_gradient():
    weight = torch.tensor([[0.5, 1.5, -0.5, -2.0, 1.0, 1.001, -2.001]], requires_grad=True)
    w_q = lsq(weight, torch.ones(1), bits=2)
    assert w_q.tolist() == [[0.0, 1.0, 0.0, -2.0, 1.0, 1.0, -2.0]]
    w_q.sum().backward()
    assert weight.grad.tolist() == [[1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]]


@kinds
def test_the_first_pass_in_train_mode_sets_the_steps_and_no_later_one_does(kind):
    module = layer(kind, bits=3)
    with torch.no_grad():
        module.weight.mul_(3.0)  # as if loaded from a layer of full precision
    expected = start(module)
    module(batch(kind))
    assert module.init_state.tolist() == [1.0]
    torch.testing.assert_close(module.alpha.detach(), torch.full_like(module.alpha, expected))
    with torch.no_grad():
        module.weight.mul_(2.0)
    module(batch(kind))
    torch.testing.assert_close(module.alpha.detach(), torch.full_like(module.alpha, expected))


@kinds
def test_eval_mode_before_any_training_answers_as_the_first_pass_will_and_changes_nothing(kind):
    module = layer(kind)
    with torch.no_grad():
        module.weight.mul_(3.0)
        module.alpha.fill_(math.nan)  # the papers' files may hold anything here
    before = copy.deepcopy(module.state_dict())
    y, w_q = module.eval()(batch(kind)), module.quantized_weight()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(module.train()(batch(kind)), y) and torch.equal(module.quantized_weight(), w_q)


@kinds
def test_a_new_layer_has_finite_steps_and_torchs_own_weights(kind):
    module = layer(kind)
    theirs = {"linear": nn.Linear, "conv2d": nn.Conv2d, "conv1d": nn.Conv1d}[kind]
    options = {"linear": (6, 5), "conv2d": (4, 6, 3, 1, 1, 1, 2), "conv1d": (4, 6, 1, 1, 0, 1, 1, False)}[kind]
    torch.manual_seed(1)
    assert torch.equal(module.weight, theirs(*options).weight.double())
    torch.testing.assert_close(module.alpha.detach(), torch.full_like(module.alpha, start(module)))
    bias = ["bias"] if module.bias is not None else []
    assert sorted(module.state_dict()) == sorted(["weight", "alpha", "init_state", *bias])


def test_reset_parameters_forgets_the_steps():
    module = layer("conv2d")
    module(batch("conv2d"))
    module.reset_parameters()
    assert module.init_state.item() == 0
    torch.testing.assert_close(module.alpha.detach(), torch.full_like(module.alpha, start(module)))


def test_steps_that_were_loaded_or_set_back_are_looked_at_in_each_pass():
    module, fresh = layer("linear"), layer("linear")
    module(batch("linear"))
    with torch.no_grad():
        module.weight.mul_(2.0)
    module(batch("linear"))
    assert module.alpha[0].item() == pytest.approx(start(module) / 2)
    module.load_state_dict(fresh.state_dict() | {"alpha": torch.full((5,), math.nan, dtype=torch.float64)})
    module(batch("linear"))
    assert module.init_state.item() == 1 and module.alpha[0].item() == pytest.approx(start(fresh))
    module.load_state_dict(module.state_dict() | {"alpha": torch.arange(1.0, 6.0)})
    module(batch("linear"))
    module.eval()(batch("linear"))
    assert module.alpha.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_second_derivatives_are_those_of_the_functional_spelling():
    weight, alpha, v = torch.randn(3, 4).double(), torch.tensor([0.3, -0.2, 2.0]).double(), torch.randn(3, 4).double()

    def by_grad(w, a):
        return (grad(lambda w, a: lsq(w, a, 3).pow(3).sum(), argnums=0)(w, a) * v).sum()

    leaves = [weight.requires_grad_(), alpha.requires_grad_()]
    first = torch.autograd.grad(lsq(*leaves, 3).pow(3).sum(), leaves[0], create_graph=True)[0]
    found = torch.autograd.grad((first * v).sum(), leaves)
    for a, b in zip(found, grad(by_grad, argnums=(0, 1))(weight.detach(), alpha.detach()), strict=True):
        torch.testing.assert_close(a, b)
    assert found[0].any()


def test_steps_may_change_between_a_pass_in_eval_mode_and_its_backward():
    module = layer("linear")
    module(batch("linear"))
    y = module.eval()(batch("linear"))
    with torch.no_grad():
        module.alpha += 1.0
    y.sum().backward()
    assert module.weight.grad.isfinite().all()


def test_a_layer_that_starts_at_zero_trains_and_takes_its_steps_when_it_has_left_zero():
    module = layer("linear")
    nn.init.zeros_(module.weight)
    y = module(batch("linear"))
    assert torch.equal(y, module.bias.expand_as(y)) and module.init_state.item() == 0
    y.sum().backward()
    assert module.weight.grad.abs().sum() > 0
    with torch.no_grad():
        module.weight -= 0.1 * module.weight.grad
    expected = start(module)
    module(batch("linear"))
    assert module.init_state.item() == 1 and module.alpha[0].item() == pytest.approx(expected)


def test_two_passes_before_one_backward_add_their_gradients():
    module, alone = layer("conv2d"), layer("conv2d")
    (module(batch("conv2d", 0)).square().sum() + module(batch("conv2d", 1)).square().sum()).backward()
    for seed in (0, 1):
        alone(batch("conv2d", seed)).square().sum().backward()
    for p, q in zip(module.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_a_checkpointed_first_pass_has_the_gradients_of_a_plain_one():
    module, plain = layer("conv2d"), layer("conv2d")
    checkpoint(module, batch("conv2d").requires_grad_()).square().sum().backward()
    plain(batch("conv2d")).square().sum().backward()
    for p, q in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@kinds
def test_it_compiles_without_a_break_and_once(kind):
    torch._dynamo.reset()
    module = layer(kind)
    other = copy.deepcopy(module)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    for seed in range(3):
        y, expected = compiled(batch(kind, seed)), other(batch(kind, seed))
        assert torch.equal(y, expected)
        y.square().sum().backward()
        expected.square().sum().backward()
    assert counter.frame_count == 1
    for p, q in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q) and torch.equal(p.grad, q.grad)


def test_it_maps_over_an_ensemble():
    weight, alpha = torch.randn(4, 3, 2), torch.rand(4, 3) + 0.1
    loss = lambda w, a: lsq(w, a, 3).square().sum()  # noqa: E731
    got = vmap(grad(loss, argnums=(0, 1)))(weight, alpha)
    for i in range(4):
        for ours, one in zip(got, grad(loss, argnums=(0, 1))(weight[i], alpha[i]), strict=True):
            torch.testing.assert_close(ours[i], one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_runs_in_other_dtypes_and_under_autocast(dtype):
    module = LSQConv2d(4, 6, 3).to(dtype)
    y = module(torch.randn(2, 4, 5, 4, dtype=dtype))
    y.sum().backward()
    assert y.dtype == dtype and all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in module.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert LSQConv2d(4, 6, 3)(torch.randn(2, 4, 5, 4)).dtype == torch.bfloat16


@kinds
@pytest.mark.parametrize("bits", [2, 4])
def test_the_weights_have_no_more_levels_than_the_bits_allow(kind, bits):
    module = layer(kind, bits=bits)
    module(batch(kind))
    levels = module.quantized_weight() / module.alpha[0]
    torch.testing.assert_close(levels, levels.round())
    assert levels.min() >= -(2 ** (bits - 1)) and levels.max() <= 2 ** (bits - 1) - 1
    assert f"bits={bits}" in repr(module)


@pytest.mark.parametrize(
    ("bits", "kind", "text"),
    [
        (1, ValueError, r"bits must be >= 2, got 1: .* Take bits=2\."),
        (-1, ValueError, r"bits must be from 2 to 16, got -1\. For weights of full precision"),
        (32, ValueError, "bits must be from 2 to 16, got 32"),
        (4.0, TypeError, "bits must be a whole number, got 4.0"),
        (True, TypeError, "bits must be a whole number, got True"),
    ],
)
def test_impossible_bits_are_refused(bits, kind, text):
    for make in KINDS.values():
        with pytest.raises(kind, match=text):
            make(bits=bits)
    with pytest.raises(kind, match=text):
        lsq(torch.ones(2, 3), torch.ones(2), bits)


def test_wrong_steps_and_keywords_are_refused():
    with pytest.raises(ValueError, match=r"alpha must be one step for each output channel, \(2,\), got \(3,\)"):
        lsq(torch.ones(2, 3), torch.ones(3), 4)
    with pytest.raises(TypeError, match=r"LSQConv1d has no 'bit'\. Near: bits"):
        LSQConv1d(3, 4, 1, bit=4)
