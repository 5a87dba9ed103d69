"""The recurrent kernels' logic without a GPU: their text runs on the CPU, its threads in turns, beside a plain loop."""

from __future__ import annotations

import pytest
import torch

from snnkit.equations import LIF, SEAdLIF
from snnkit.ops import cpu, recurrent_cuda
from snnkit.ops.program import plan_of
from snnkit.ops.recurrent import recurrent_scan
from tests.cuda_together import Together, recurrent_kernels
from tests.ops.plain_recurrence import plain_recurrence
from tests.ops.test_recurrent import FORMS, NEURONS, L, leaves, loss_of, numbers

pytestmark = pytest.mark.skipif(cpu.refusal() is not None, reason=f"no compiler: {cpu.refusal()}")
T, B, N = 7, 19, 37  # two groups of samples and two tiles each, none of them full


def wide(form: str, names=("v",), steps: int = T, batch: int = B, size: int = N, dtype=torch.float64):
    """``numbers`` for a layer that spans several tiles."""
    g = torch.Generator().manual_seed(3)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return (scale * torch.randn(*shape, generator=g, dtype=torch.float64)).to(dtype)

    lags = L if form.startswith(("axonal", "synaptic")) else 1
    weight = draw(*([lags] if form.startswith("synaptic") else []), size, size, scale=size**-0.5)
    mask = (torch.rand(batch, size, generator=g) > 0.3).to(dtype) * 1.4 if "masked" in form else None
    taps = draw(lags, size).requires_grad_() if form.startswith("axonal") else None
    x, past = draw(steps, batch, size, scale=2.0).requires_grad_(), draw(lags, batch, size).requires_grad_()
    state = {name: draw(batch, size, scale=0.3).requires_grad_() for name in names}
    return dict(x=x, weight=weight.requires_grad_(), past=past, taps=taps, mask=mask, state=state)


def outcome(neuron, given, record=(), parameters=()):
    """Output, last states, traces and gradients of one call."""
    out, state, traces = recurrent_scan(plan_of(neuron), neuron.parameters(), **given, record=record, final=True)
    wanted = [*leaves(given), *parameters]
    return [out, *state.values(), *traces.values(), *torch.autograd.grad(loss_of(out, state, traces), wanted)]


def plain(neuron, given, record=(), parameters=()):
    """The same by a plain loop."""
    out, state, traces = plain_recurrence(neuron, **given, record=record)
    wanted = [*leaves(given), *parameters]
    return [out, *state.values(), *traces.values(), *torch.autograd.grad(loss_of(out, state, traces), wanted)]


def check(mine, expected):
    assert torch.equal(mine[0], expected[0]) and 0.02 < mine[0].mean() < 0.98
    for a, b in zip(mine, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NEURONS)
def test_output_states_traces_and_gradients_are_those_of_a_plain_loop(name, form):
    neuron, record = NEURONS[name], tuple(NEURONS[name].states)[:1]
    given = numbers(form, names=tuple(neuron.states))
    with recurrent_kernels():
        mine = outcome(neuron, given, record)
    check(mine, plain(neuron, given, record))


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize("form", FORMS)
def test_several_tiles_wait_for_each_other_and_for_those_of_their_samples_alone(form, most):
    given = wide(form)
    with recurrent_kernels(most=most):
        mine = outcome(NEURONS["lif"], given)
    check(mine, plain(NEURONS["lif"], given))


@pytest.mark.parametrize("form", FORMS)
def test_one_launch_and_a_launch_a_step_are_equal_bit_for_bit(form):
    given, counts, results = wide(form, dtype=torch.float32), [], []
    for capturing, most in ((False, 4), (True, 4), (False, 2), (False, 0)):
        before = Together.launches
        with recurrent_kernels(capturing, most):
            results.append(outcome(NEURONS["lif"], given))
        counts.append(Together.launches - before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
    delayed = form.startswith("axonal")
    assert counts[0] == counts[2] == 4 + delayed and counts[1] == counts[3] == 2 + 2 * T + 2 * delayed


@pytest.mark.parametrize("shape", [(), (N,), (1,)], ids=str)
@pytest.mark.parametrize("most", [3, 100])
@pytest.mark.parametrize("form", ["plain", "axonal masked"])
def test_gradients_of_learnt_parameters_are_those_of_a_plain_loop(form, most, shape):
    values = {"tau_u": 5.0, "tau_w": 60.0, "a": 0.5, "b": 1.0}
    learnt = {k: torch.full(shape, v, dtype=torch.float64, requires_grad=True) for k, v in values.items()}
    neuron = SEAdLIF(q=2.0).bind(learnt)
    given = wide(form, tuple(neuron.states))
    given["x"] = (4 * given["x"].detach()).requires_grad_()
    with recurrent_kernels(most=most):
        mine = outcome(neuron, given, parameters=list(learnt.values()))
    check(mine, plain(neuron, given, parameters=list(learnt.values())))


@pytest.mark.parametrize("size", [1, 4, 32, 33, 300])
@pytest.mark.parametrize("form", ["plain", "synaptic"])
def test_every_width_of_a_layer_is_right(form, size):
    given = wide(form, steps=3, batch=17 if size < 100 else 2, size=size)
    with recurrent_kernels(most=2):
        mine = outcome(NEURONS["lif"], given)
    for a, b in zip(mine, plain(NEURONS["lif"], given), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_spikes_are_bit_equal_to_the_cpus_where_every_sum_is_exact(form):
    given = wide(form, dtype=torch.float32)
    exact = {name: torch.round(value.detach() * 64) / 64 for name, value in given.items() if torch.is_tensor(value)}
    exact |= {n: torch.round(exact[n]) for n in ("taps", "mask") if n in exact}
    exact["past"] = (exact["past"] > 0).float()
    given = {**given, **exact, "state": {"v": torch.zeros(B, N)}}
    expected = recurrent_scan(plan_of(LIF(tau=2.0)), {}, **given, record=("v",), final=True)
    with recurrent_kernels():
        found = recurrent_scan(plan_of(LIF(tau=2.0)), {}, **given, record=("v",), final=True)
    assert torch.equal(found.output, expected.output) and 0.05 < found.output.mean() < 0.95
    assert torch.equal(found.traces["v"], expected.traces["v"])


@pytest.mark.parametrize("form", FORMS)
def test_chunks_without_gradient_are_the_whole_bit_for_bit(form):
    given = wide(form, dtype=torch.float32)
    with recurrent_kernels():
        whole, last, _ = recurrent_scan(plan_of(NEURONS["lif"]), {}, **given, final=True)
        state, past, parts = given["state"], given["past"], []
        with torch.no_grad():
            for chunk in given["x"].split([1, 4, 2]):
                here = {**given, "x": chunk, "state": state, "past": past}
                out, state, _ = recurrent_scan(plan_of(NEURONS["lif"]), {}, **here, final=True)
                past = torch.cat([past, out])[-len(past) :]
                parts.append(out)
    assert torch.equal(torch.cat(parts), whole) and torch.equal(state["v"], last["v"])


def test_a_sample_does_not_see_its_batch_mates_to_the_last_bit():
    given = wide("synaptic masked", dtype=torch.float32)
    with recurrent_kernels():
        whole = recurrent_scan(plan_of(LIF()), {}, **given).output
        for rows in ([3], [0, 17, 18], list(range(18, -1, -1))):
            some = {n: given[n][:, rows] for n in ("x", "past")} | {"mask": given["mask"][rows]}
            some |= {"state": {"v": given["state"]["v"][rows]}}
            assert torch.equal(recurrent_scan(plan_of(LIF()), {}, **{**given, **some}).output, whole[:, rows])


def test_weights_inputs_and_gradients_may_lie_in_memory_as_they_like():
    given = wide("synaptic masked")
    expected = plain(NEURONS["lif"], given)
    for name in ("x", "weight", "past"):
        given[name] = given[name].detach().transpose(-1, -2).contiguous().transpose(-1, -2).requires_grad_()
    given["mask"] = given["mask"].t().contiguous().t()
    with recurrent_kernels():
        check(outcome(NEURONS["lif"], given), expected)


def test_two_calls_before_a_backward_keep_what_each_needs_and_read_the_weights_of_their_time():
    given = wide("plain")
    with recurrent_kernels():
        first = recurrent_scan(plan_of(LIF()), {}, **given).output
        expected = torch.autograd.grad(first.sum(), given["x"], retain_graph=True)[0]
        other = {**given, "weight": (-given["weight"]).detach().requires_grad_()}
        second = recurrent_scan(plan_of(LIF()), {}, **other).output
        assert torch.equal(second, plain_recurrence(LIF(), **other)[0]) and not torch.equal(first, second)
        assert torch.equal(torch.autograd.grad(first.sum(), given["x"])[0], expected)


def test_kernels_are_kept_for_a_program_and_not_for_a_shape():
    with recurrent_kernels():
        for steps, batch in ((2, 3), (5, 3), (2, 8)):
            recurrent_scan(plan_of(LIF()), {}, **wide("plain", steps=steps, batch=batch))
        assert recurrent_cuda.kernels.cache_info().currsize == 1
        recurrent_scan(plan_of(LIF()), {}, **wide("plain", steps=2, batch=90))  # more tiles than multiprocessors
        assert recurrent_cuda.kernels.cache_info().currsize == 2
