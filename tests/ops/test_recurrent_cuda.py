"""The recurrent kernels: every neuron's compiles without a GPU; with one they are the CPU's loop, however they are run.

Of their logic there are more tests in ``test_recurrent_cuda_on_cpu.py``.
"""

from __future__ import annotations

import gc
import itertools
from unittest import mock

import pytest
import torch

from snnkit import equations
from snnkit.nn import LIF, Bidirectional, Recurrent, SEAdLIF
from snnkit.ops import cuda, recurrent_cuda
from snnkit.ops.codegen import divisors
from snnkit.ops.division import Division
from snnkit.ops.program import plan_of
from snnkit.ops.recurrent import path, recurrent_scan
from tests.closeness import error
from tests.equations_under_test import EQUATIONS, learnable, neuron_of, with_tensors
from tests.on_gpu import CLOSE, DEVICE, gpus
from tests.ops.test_every_cuda_kernel import compile_all
from tests.ops.test_recurrent import FORMS, NEURONS, leaves, loss_of, numbers
from tests.ops.test_recurrent_cuda_on_cpu import wide
from tests.shared import needs_compiler

TROUBLE = cuda.nvrtc_trouble()
needs_nvrtc = pytest.mark.skipif(TROUBLE is not None and TROUBLE.absent, reason=f"no NVRTC: {TROUBLE}")


def text_of(name: str, dtype: torch.dtype, letter: str) -> str:
    """A neuron's kernels, which refuse arguments of another size than Python packs."""
    neuron = neuron_of(name, "ATan", "Hard")
    if letter:
        neuron = with_tensors(neuron, (4,), dtype, learnable(neuron))
    program = plan_of(neuron).program
    letters = letter * len(program.tensor_coefficients)
    divisions = (Division.DOUBLE,) * len(divisors(program))

    class Noting:
        def __init__(self, code: str, name: str, device: int) -> None:
            assert f" {name}(" in code

    with mock.patch.object(recurrent_cuda, "Function", Noting):
        made = recurrent_cuda.Kernels(program, dtype, letters, divisions, 1, 0)
    call = recurrent_cuda._Call(made, (1, 1, 1), (), [0.0] * made.numbers, 1, 0)
    size = len(call.arguments(0, 1))
    return f"{recurrent_cuda.text(program, dtype, letters, divisions, 1)}\nstatic_assert(sizeof(Loop) == {size});\n"


@needs_nvrtc
@pytest.mark.parametrize("part", range(4))
def test_every_neurons_loop_compiles_and_takes_the_arguments_that_it_is_given(part):
    choices = itertools.cycle(itertools.product((torch.float32, torch.float64), ("", "s", "l")))
    codes = [text_of(name, *choice) for name, choice in zip(EQUATIONS, choices, strict=False)]
    compile_all(codes[part::4], "compute_90")  # without the assembler, which takes as long again


@needs_nvrtc
def test_a_loop_compiles_to_the_machine_code_of_hopper_and_of_ampere_and_fits_its_shared_memory():
    codes = [text_of("SEAdLIF", dtype, letter) for dtype, letter in ((torch.float32, "s"), (torch.float64, "l"))]
    compile_all(codes, "sm_90")
    compile_all(codes[:1], "sm_80")


def test_the_path_says_how_the_loop_runs(monkeypatch):
    monkeypatch.setattr("snnkit.ops.cpu.refusal", lambda: None)
    assert path(torch.zeros(2, 3, 4)) == "cpu: a compiled loop"
    monkeypatch.setattr("snnkit.ops.cpu.refusal", lambda: "no compiler")
    assert path(torch.zeros(2, 3, 4)) == "step by step in torch (cpu: no compiler)"


def there(given: dict, dtype: torch.dtype = torch.float64) -> dict:
    """The arguments of a call on the GPU."""

    def moved(value):
        return None if value is None else value.detach().to(DEVICE, dtype).requires_grad_(value.requires_grad)

    return {n: {k: moved(s) for k, s in v.items()} if n == "state" else moved(v) for n, v in given.items()}


def outcome(neuron, given: dict, record: tuple[str, ...] = (), learnt=()) -> list[torch.Tensor]:
    """Output, last states, traces and gradients of one call, on the CPU."""
    out, state, traces = recurrent_scan(plan_of(neuron), neuron.parameters(), **given, record=record, final=True)
    total = loss_of(out.cpu(), {k: v.cpu() for k, v in state.items()}, {k: v.cpu() for k, v in traces.items()})
    found = torch.autograd.grad(total, [*leaves(given), *learnt])
    return [t.detach().cpu() for t in (out, *state.values(), *traces.values(), *found)]


@gpus()
@needs_compiler
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NEURONS)
def test_the_loop_of_the_gpu_is_that_of_the_cpu(name, form):
    neuron = NEURONS[name]
    for given in (numbers(form, names=tuple(neuron.states)), wide(form, tuple(neuron.states))):
        record = tuple(neuron.states)[:1]
        expected, got = outcome(neuron, given, record), outcome(neuron, there(given), record)
        assert torch.equal(got[0], expected[0])
        assert all(error(a, b) < 10 * CLOSE[torch.float64] for a, b in zip(got, expected, strict=True))


@gpus()
@needs_compiler
@pytest.mark.parametrize("form", FORMS)
def test_spikes_in_float32_are_bit_equal_to_the_cpus_where_every_sum_is_exact(form):
    given = wide(form, dtype=torch.float32, batch=70, size=160, steps=12)
    exact = {n: torch.round(v.detach() * 64) / 64 for n, v in given.items() if torch.is_tensor(v)}
    exact |= {n: torch.round(exact[n]) for n in ("taps", "mask") if n in exact}
    exact["past"] = (exact["past"] > 0).float()
    given = {**given, **exact, "state": {"v": torch.zeros(70, 160)}}
    given = {n: v if n in ("mask", "state") or v is None else v.requires_grad_() for n, v in given.items()}
    neuron = equations.LIF(tau=2.0)
    expected = outcome_without_state(neuron, given)
    got = outcome_without_state(neuron, there(given, torch.float32))
    assert torch.equal(got[0], expected[0]) and 0.02 < got[0].mean() < 0.98
    assert all(error(a, b) < CLOSE[torch.float32] for a, b in zip(got, expected, strict=True))


def outcome_without_state(neuron, given: dict) -> list[torch.Tensor]:
    """Output, last states and the gradients of all that want one."""
    out, state, _ = recurrent_scan(plan_of(neuron), {}, **given, final=True)
    wanted = [v for v in given.values() if torch.is_tensor(v) and v.requires_grad]
    total = loss_of(out.cpu(), {k: v.cpu() for k, v in state.items()}, {})
    return [t.detach().cpu() for t in (out, *state.values(), *torch.autograd.grad(total, wanted))]


def large(dtype: torch.dtype = torch.float32, steps: int = 50, batch: int = 128, size: int = 512) -> dict:
    """A layer whose tiles fill the GPU."""
    return there(wide("masked", steps=steps, batch=batch, size=size, dtype=dtype), dtype)


@gpus()
@pytest.mark.parametrize("form", ["plain", "axonal masked", "synaptic"])
@pytest.mark.parametrize("batch, size", [(128, 512), (1000, 520), (3, 30)])
def test_one_launch_is_a_launch_a_step_bit_for_bit(form, batch, size):
    given = there(wide(form, batch=batch, size=size, steps=20, dtype=torch.float32), torch.float32)
    together = outcome(NEURONS["lif"], given)
    with mock.patch.object(recurrent_cuda, "step_by_step", lambda device: True):
        apart = outcome(NEURONS["lif"], given)
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))


@gpus()
def test_it_gives_the_same_bits_every_time_on_a_busy_gpu():
    given, other = large(), torch.cuda.Stream()
    first = outcome(NEURONS["lif"], given)
    noise = torch.randn(4096, 4096, device=DEVICE)
    for _ in range(20):
        with torch.cuda.stream(other):
            for _ in range(5):
                noise @ noise
        assert all(torch.equal(a, b) for a, b in zip(outcome(NEURONS["lif"], given), first, strict=True))


@gpus()
def test_two_layers_on_two_streams_at_once_do_not_wait_for_each_other_for_ever():
    given = [large(), large(steps=33)]
    alone = [recurrent_scan(plan_of(NEURONS["lif"]), {}, **g).output.clone() for g in given]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    torch.cuda.synchronize()
    for _ in range(10):
        found = []
        for stream, g in zip(streams, given, strict=True):
            with torch.cuda.stream(stream):
                found.append(recurrent_scan(plan_of(NEURONS["lif"]), {}, **g).output)
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))


@gpus()
def test_two_calls_before_a_backward_and_weights_that_change_between_them():
    given = large(torch.float64, steps=9, batch=33, size=70)
    first = recurrent_scan(plan_of(NEURONS["lif"]), {}, **given).output
    kept, expected = first.clone(), torch.autograd.grad(first.sum(), given["x"], retain_graph=True)[0]
    other = {**given, "weight": (-given["weight"]).detach().requires_grad_()}
    second = recurrent_scan(plan_of(NEURONS["lif"]), {}, **other).output
    assert not torch.equal(first, second) and torch.equal(first, kept)
    assert torch.equal(torch.autograd.grad(first.sum(), given["x"])[0], expected)
    with torch.no_grad():
        given["weight"].neg_()
    assert torch.equal(recurrent_scan(plan_of(NEURONS["lif"]), {}, **given).output, second)


@gpus()
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_training_step_can_be_captured_and_replayed_with_other_inputs_and_weights(bidirectional):
    torch.manual_seed(0)
    layer = Recurrent(SEAdLIF(learn=("tau_u", "tau_w", "a", "b"), shape=(70,)), 70)
    net = (Bidirectional(layer) if bidirectional else layer).to(DEVICE)
    x = torch.randn(9, 20, 70, device=DEVICE)

    def step() -> torch.Tensor:
        for p in net.parameters():
            p.grad = None
        out = net(x)
        out.square().sum().backward()
        return out

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        assert path(x) == "cuda: a launch a step, into the graph"
        out = step()
    assert path(x) == "cuda: one launch"
    grads = [p.grad for p in net.parameters()]
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            x.copy_(20 * torch.randn_like(x))
            layer.weight.copy_(torch.randn_like(layer.weight) / 8)
        graph.replay()
        replayed = [out.clone(), *(g.clone() for g in grads)]
        plain = [step().clone(), *(p.grad for p in net.parameters())]
        assert 0.01 < plain[0].mean() < 0.99
        assert all(torch.equal(a, b) for a, b in zip(replayed[:1], plain[:1], strict=True))
        assert all(error(a, b) < 1e-5 for a, b in zip(replayed, plain, strict=True))


@gpus()
def test_compiled_callers_autocast_and_other_lengths():
    layer = Recurrent(LIF(tau=2.0), 40).to(DEVICE)
    compiled = torch.compile(lambda x: layer(2 * x), fullgraph=True)
    for steps in (7, 12, 1):
        x = torch.randn(steps, 5, 40, device=DEVICE, requires_grad=True)
        expected, got = layer(2 * x), compiled(x)
        assert torch.equal(got, expected)
        g = torch.randn_like(got)
        assert torch.equal(torch.autograd.grad(got, x, g)[0], torch.autograd.grad(expected, x, g)[0])
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            half = layer(x.bfloat16())
        assert half.dtype == torch.bfloat16
        assert torch.equal(half.float(), layer(x.bfloat16().float()))


@gpus()
def test_nothing_of_a_call_stays_in_the_memory_of_the_gpu():
    given = large(steps=5)

    def asked_for() -> int:
        outcome(NEURONS["lif"], given)
        torch.cuda.synchronize()
        gc.collect()  # what other tests left would be freed in between
        # Not what is allocated: a block that the allocator has at hand may be larger than what was asked for.
        return torch.cuda.memory_stats()["requested_bytes.all.current"]

    first = asked_for()
    assert [asked_for() for _ in range(5)] == [first] * 5


@gpus(2)
def test_a_layer_on_the_second_gpu_needs_no_device_context():
    layer, x = Recurrent(LIF(), 40).to("cuda:0"), torch.randn(6, 5, 40)
    expected = layer(x.to("cuda:0")).cpu()
    assert torch.equal(layer.to("cuda:1")(x.to("cuda:1")).cpu(), expected)


