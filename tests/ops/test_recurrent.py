"""The recurrent scan against a plain loop with autograd, in every form of the weights."""

import pytest
import torch

from snnkit.equations import LIF, AdLIF, ATan, EFAdLIF, SEAdLIF
from snnkit.ops import recurrent_operator, recurrent_step
from snnkit.ops.program import plan_of
from snnkit.ops.recurrent import recurrent_scan
from snnkit.ops.scan_operator import implementation
from tests.ops.plain_recurrence import plain_recurrence
from tests.shared import needs_compiler

T, B, N, L = 9, 3, 5, 4
NEURONS = {
    "lif": LIF(tau=1.7, surrogate=ATan(2.0)),
    "soft": LIF(tau=1.7, v_reset=None, decay_input=False),
    "adlif": AdLIF(a=0.3, b=0.4),
    "se": SEAdLIF(tau_u=5.0, q=2.0),
    "ef": EFAdLIF(tau_u=5.0, q=2.0),
}
FORMS = ["plain", "masked", "axonal", "axonal masked", "synaptic", "synaptic masked"]


def numbers(form: str, steps: int = T, dtype: torch.dtype = torch.float64, seed: int = 0, names=("v",)):
    """Arguments of a call, all of which want a gradient but the mask."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    lags = L if form.startswith(("axonal", "synaptic")) else 1
    taps = draw(lags, N).requires_grad_() if form.startswith("axonal") else None
    weight = draw(lags, N, N) if form.startswith("synaptic") else draw(N, N)
    mask = (torch.rand(B, N, generator=g) > 0.3).to(dtype) * 1.4 if "masked" in form else None
    scale = 2 if names == ("v",) else 10
    x, past = (scale * draw(steps, B, N)).requires_grad_(), draw(lags, B, N).requires_grad_()
    state = {name: (0.3 * draw(B, N)).requires_grad_() for name in names}
    return dict(x=x, weight=weight.requires_grad_(), past=past, taps=taps, mask=mask, state=state)


def loss_of(out: torch.Tensor, state: dict, traces: dict) -> torch.Tensor:
    """A number that depends on everything that a call returns."""
    parts = [out, *state.values(), *traces.values()]
    g = torch.Generator().manual_seed(5)
    return sum((p * torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype)).sum() for p in parts)


def leaves(given: dict) -> list[torch.Tensor]:
    """What a gradient reaches."""
    first = [given[name] for name in ("x", "weight", "past", "taps") if given[name] is not None]
    return [*first, *given["state"].values()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NEURONS)
def test_output_states_and_gradients_are_those_of_a_plain_loop(name, form):
    neuron = NEURONS[name]
    record = tuple(neuron.states)[:1]
    given = numbers(form, names=tuple(neuron.states))
    out, state, traces = recurrent_scan(plan_of(neuron), {}, **given, record=record, final=True)
    expected = plain_recurrence(neuron, **given, record=record)
    assert 0.05 < out.detach().mean() < 0.95
    assert torch.equal(out, expected[0])
    for mine, plain in ((state, expected[1]), (traces, expected[2])):
        for key in plain:
            torch.testing.assert_close(mine[key], plain[key], rtol=1e-12, atol=1e-13)
    mine = torch.autograd.grad(loss_of(out, state, traces), leaves(given))
    plain = torch.autograd.grad(loss_of(*expected), leaves(given))
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (N,), (1,)], ids=str)
@pytest.mark.parametrize("form", ["plain", "axonal masked"])
def test_gradients_of_learnt_parameters_are_those_of_a_plain_loop(form, shape):
    values = {"tau_u": 5.0, "tau_w": 60.0, "a": 0.5, "b": 1.0}
    learnt = {k: torch.full(shape, v, dtype=torch.float64, requires_grad=True) for k, v in values.items()}
    neuron = SEAdLIF(q=2.0).bind(learnt)
    given = numbers(form, names=tuple(neuron.states))
    results = (
        recurrent_scan(plan_of(neuron), neuron.parameters(), **given, final=True),
        plain_recurrence(neuron, **given),
    )
    mine, plain = (torch.autograd.grad(loss_of(*result), list(learnt.values())) for result in results)
    for a, b in zip(mine, plain, strict=True):
        assert b.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_spikes_are_bit_equal_where_every_sum_is_exact(form):
    neuron = LIF(tau=2.0)
    given = numbers(form, dtype=torch.float32)
    exact = {name: torch.round(value.detach() * 64) / 64 for name, value in given.items() if torch.is_tensor(value)}
    if given["mask"] is not None:
        exact["mask"] = torch.round(given["mask"])
    if given["taps"] is not None:
        exact["taps"] = torch.round(given["taps"].detach())
    exact["past"] = (exact["past"] > 0).float()
    given = {**given, **exact, "state": {"v": torch.zeros(B, N)}}
    out, state, _ = recurrent_scan(plan_of(neuron), {}, **given, final=True)
    expected = plain_recurrence(neuron, **given)
    assert torch.equal(out, expected[0]) and torch.equal(state["v"], expected[1]["v"])


@pytest.mark.parametrize("form", FORMS)
def test_chunks_are_the_whole_bit_for_bit(form):
    neuron, given = NEURONS["lif"], numbers(form)
    whole, last, _ = recurrent_scan(plan_of(neuron), {}, **given, final=True)
    state, past, parts = given["state"], given["past"], []
    for chunk in given["x"].split([1, 5, 3]):
        here = {**given, "x": chunk, "state": state, "past": past}
        out, state, _ = recurrent_scan(plan_of(neuron), {}, **here, final=True)
        past = torch.cat([past, out])[-len(past) :]
        parts.append(out)
    assert torch.equal(torch.cat(parts), whole) and torch.equal(state["v"], last["v"])


@pytest.mark.parametrize("form", FORMS)
def test_no_step_at_all_gives_the_start_and_its_gradient(form):
    given = numbers(form, steps=0)
    out, state, _ = recurrent_scan(plan_of(LIF()), {}, **given, final=True)
    assert out.shape == (0, B, N) and torch.equal(state["v"], given["state"]["v"])
    found = torch.autograd.grad(state["v"].sum(), leaves(given), allow_unused=True)
    assert torch.equal(found[-1], torch.ones(B, N, dtype=torch.float64))
    assert all(g is None or not g.any() for g in found[:-1])


@pytest.mark.parametrize("form", FORMS)
def test_without_gradient_nothing_is_kept_and_the_answer_is_the_same(form):
    given = numbers(form)
    record = ("v",)
    kept = recurrent_scan(plan_of(LIF()), {}, **given, record=record, final=True)
    with torch.no_grad():
        free = recurrent_scan(plan_of(LIF()), {}, **given, record=record, final=True)
        plain = recurrent_scan(plan_of(LIF()), {}, **given)
    assert torch.equal(kept.output, free.output) and torch.equal(free.output, plain.output)
    assert torch.equal(kept.state["v"], free.state["v"]) and torch.equal(kept.traces["v"], free.traces["v"])


@pytest.mark.parametrize("form", FORMS)
def test_the_operators_keep_the_rules_of_torch(form):
    neuron = SEAdLIF(tau_u=5.0).bind({"tau_u": torch.full((N,), 5.0, dtype=torch.float64)})
    given = numbers(form, steps=4, names=tuple(neuron.states))
    plan = plan_of(neuron)
    values = plan.program.tensor_values({**plan.fixed, **neuron.parameters()}, torch.float64)
    coefficients = [c.detach() for c in values]
    before = [s.detach() for s in given["state"].values()]
    fixed = {k: None if v is None else v.detach() for k, v in given.items() if k != "state"}
    key = f"{plan.program.key}|u|1"
    arguments = [fixed[k] for k in ("x", "weight", "taps", "mask", "past")]
    arguments += [coefficients, before, plan.constants, key]
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(recurrent_operator.recurrent_forward.op, (*arguments, True), test_utils=tests)
    torch.library.opcheck(recurrent_operator.recurrent_forward.op, (*arguments, False), test_utils=tests)
    found = recurrent_operator.recurrent_forward.op(*arguments, True)
    out = found[0][len(fixed["past"]) :]
    gradients = [torch.ones_like(f) for f in (out, *found[1:-3])]
    arguments = [gradients, *arguments[1:5], out, *found[-3:], *arguments[5:]]
    torch.library.opcheck(recurrent_operator.recurrent_backward.op, tuple(arguments), test_utils=tests)


@needs_compiler
@pytest.mark.parametrize("name", NEURONS)
def test_the_compiled_step_is_the_scans_own_kernel_bit_for_bit(name, monkeypatch):
    neuron = NEURONS[name].bind({next(iter(NEURONS[name].parameters())): torch.full((N,), 0.9, dtype=torch.float64)})
    results = []
    for step in (recurrent_step.step_of, recurrent_step.Step):
        monkeypatch.setattr("snnkit.ops.recurrent_loop.step_of", step)
        given = numbers("synaptic", names=tuple(neuron.states))  # the products are torch's in both
        out, state, _ = recurrent_scan(plan_of(neuron), neuron.parameters(), **given, final=True)
        results.append([out, *state.values(), *torch.autograd.grad(loss_of(out, state, {}), leaves(given))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert implementation(out).__name__.endswith("scan_cpu")


def wide(batch: int, size: int, steps: int, dtype: torch.dtype = torch.float64):
    """Weights, input and a learnt coefficient of a layer that spans several blocks and panels of the product."""
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(size, size, generator=g, dtype=torch.float64) / size**0.5
    x = 2 * torch.randn(steps, batch, size, generator=g, dtype=torch.float64)
    tau = torch.linspace(1.2, 3.0, size, dtype=torch.float64)
    return [v.to(dtype).requires_grad_() for v in (x, weight, tau)]


def run(x: torch.Tensor, weight: torch.Tensor, tau: torch.Tensor) -> list[torch.Tensor]:
    """Output, and the gradients of a number that weighs all of it."""
    neuron = LIF(tau=2.0).bind({"tau": tau})
    out = recurrent_scan(plan_of(neuron), neuron.parameters(), x, weight, x.new_zeros(1, *x.shape[1:])).output
    return [out, *torch.autograd.grad((out * x.detach()).sum(), [x, weight, tau])]


@needs_compiler
@pytest.mark.parametrize("batch, size", [(1, 37), (8, 32), (11, 37), (9, 70)])
def test_the_compiled_product_is_right_at_every_edge_of_blocks_and_panels(batch, size):
    x, weight, tau = wide(batch, size, 6)
    out, *found = run(x, weight, tau)
    state = {"v": x.new_zeros(batch, size)}
    neuron = LIF(tau=2.0).bind({"tau": tau})
    plain = plain_recurrence(neuron, x, weight, x.new_zeros(1, batch, size), state)[0]
    assert torch.equal(out, plain) and 0.1 < out.mean() < 0.6
    expected = torch.autograd.grad((plain * x.detach()).sum(), [x, weight, tau])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@needs_compiler
def test_a_sample_does_not_see_its_batch_mates_to_the_last_bit():
    x, weight, tau = wide(11, 37, 9, torch.float32)
    out, g_x, *_ = run(x, weight, tau)
    for rows in ([3], [0, 5, 10], list(range(9, -1, -1))):
        alone, g_alone, *_ = run(x[:, rows].detach().requires_grad_(), weight, tau)
        assert torch.equal(alone, out[:, rows]) and torch.equal(g_alone, g_x[:, rows])


@needs_compiler
def test_the_number_of_threads_changes_no_bit():
    given, threads, results = wide(70, 512, 3, torch.float32), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            out, g_x, _, g_tau = run(*given)  # the gradient of the weights is torch's own product
            results.append((out, g_x, g_tau))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_second_derivative_is_refused():
    given = numbers("plain")
    out = recurrent_scan(plan_of(LIF()), {}, **given).output
    (g,) = torch.autograd.grad(out.sum(), given["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        g.sum().backward()


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(weight=torch.zeros(N, N + 1)), r"weight must be \[N, N\] or \[L, N, N\] with N = 5, got \(5, 6\)"),
        (dict(past=torch.zeros(2, B, N)), r"past must be \[L, B, N\] = \(1, 3, 5\), got \(2, 3, 5\)"),
        (dict(taps=torch.zeros(2, N + 1)), r"taps must be \[L, 5\], got \(2, 6\)"),
        (dict(x=torch.zeros(4, N)), r"expects x as \[T, B, N\]"),
        (dict(record=("w",)), "LIF has no state 'w' to record. It has: v"),
    ],
)
def test_what_does_not_fit_is_told(change, message):
    with pytest.raises(ValueError, match=message):
        recurrent_scan(plan_of(LIF()), {}, **{**numbers("plain"), **change})
