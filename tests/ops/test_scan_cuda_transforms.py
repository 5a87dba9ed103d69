"""The scan on the GPU under torch's own tools: graphs, streams, torch.compile, autocast, torch.func, several GPUs."""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from snnkit import nn as snn
from snnkit.equations import ALIF, LIF, Equation, Soft
from snnkit.ops import path, scan
from tests.closeness import error
from tests.equations_under_test import drive, with_tensors
from tests.hidden_parts import cupy_raises
from tests.on_gpu import DEVICE, compare, gpus, on
from tests.ops.test_scan_layout import LAYOUTS
from tests.ops.test_scan_transforms import LAYERS, Calls, check_operators, loss

T, B, C = 7, 2, 3


def sequence(*shape: int, dtype: torch.dtype = torch.float32, device: str | None = None, seed: int = 0) -> Tensor:
    return drive("ALIF", shape, torch.float64, seed).to(device or DEVICE, dtype)


def train_step(layer: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    return steps_of(layer, x.detach().requires_grad_(), torch.arange(1.0, 4 * x.numel() + 1, device=x.device))


def learnt(neuron: Equation, shape: tuple[int, ...], device: str | None = None) -> tuple[Equation, list[Tensor]]:
    """The neuron with every parameter learnt, and these parameters."""
    tensors = with_tensors(neuron, shape, torch.float32).parameters()
    moved = {n: on(v, device or DEVICE).requires_grad_() for n, v in tensors.items() if isinstance(v, Tensor)}
    return neuron.bind(moved), list(moved.values())


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# --- the same bits, and only the memory that must be -------------------------------------------------------------


@gpus()
@pytest.mark.parametrize("shape", [(), (300,)], ids=["one value", "a value a channel"])
def test_parameter_gradients_have_the_same_bits_on_every_run_beside_other_streams_too(shape):
    x, g = sequence(40, 700, 300), torch.rand(40, 700, 300, device=DEVICE)
    neuron, tensors = learnt(ALIF(), shape)
    side, noise, found = torch.cuda.Stream(), torch.rand(1000, 1000, device=DEVICE), []
    for run in range(5):
        if run % 2:
            with torch.cuda.stream(side):
                for _ in range(20):
                    noise = noise @ noise / 500.0
        found.append(torch.autograd.grad(scan(neuron, x).output, tensors, g))
    torch.cuda.synchronize()
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    assert all(t.any() for t in found[0][:2])


@gpus()
def test_a_scalar_parameter_sums_in_float64():
    # 2^24 + 1 has no float32: ones added to a float32 sum stop counting there.
    x = torch.zeros(1, 1, (1 << 24) + 4, device=DEVICE)
    tau = torch.tensor(1.0, requires_grad=True, device=DEVICE)
    neuron = LIF(decay_input=False, v_threshold=1e6).bind({"tau": tau})
    state = scan(neuron, x, {"v": torch.ones(1, x.shape[2], device=DEVICE)}).state
    assert torch.autograd.grad(state["v"].sum(), tau)[0].item() == x.numel()


def allocated() -> int:
    """Bytes in use, once the thread that ran the last backward has let go of its tensors."""
    time.sleep(0.05)
    gc.collect()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


@gpus()
@pytest.mark.parametrize("length", [4, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_step_takes_the_memory_of_its_spikes_and_its_gradients_and_no_more(dtype, length):
    lif = snn.LIF(tau=2.0).to(DEVICE)
    x = sequence(length, 2, 1 << 20, dtype=dtype).requires_grad_()
    g = torch.rand(x.shape, device=DEVICE).to(dtype)
    size = x.numel() * x.element_size()

    def step() -> None:
        torch.autograd.grad(lif(x), x, g)

    step()  # compiles
    before = allocated()
    s = lif(x)
    assert torch.cuda.memory_allocated() - before == size, "forward: s, and nothing else"
    torch.cuda.reset_peak_memory_stats()
    g_x = torch.autograd.grad(s, x, g)[0]
    assert torch.cuda.max_memory_allocated() - before <= 2 * size + 4096, "backward: the gradient of x, nothing else"
    del s, g_x
    assert allocated() == before
    with torch.no_grad():
        s = lif(x)
    assert torch.cuda.memory_allocated() - before == size and not s.requires_grad


@gpus()
def test_a_long_sequence_keeps_the_states_of_some_steps_and_a_learnt_parameter_little():
    x = sequence(1000, 4, 1024).requires_grad_()
    neuron, tensors = learnt(ALIF(), (1024,))
    g, size = torch.rand(x.shape, device=DEVICE), x.numel() * x.element_size()
    torch.autograd.grad(scan(neuron, x).output, [x, *tensors], g)
    before = allocated()
    torch.cuda.reset_peak_memory_stats()
    torch.autograd.grad(scan(neuron, x).output, [x, *tensors], g)
    assert torch.cuda.max_memory_allocated() - before < 2.6 * size  # s, its gradient, two states every fourth step
    assert allocated() == before


# --- streams and graphs -------------------------------------------------------------------------------------------


def steps_of(layer: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> list[Tensor]:
    parameters = list(getattr(layer, "parameters", list)())
    s = layer(x)
    return [s.detach(), *torch.autograd.grad(s, [x, *parameters], g.flatten()[: s.numel()].view(s.shape))]


@gpus()
@pytest.mark.parametrize("layer", LAYERS)
def test_a_busy_side_stream_is_waited_for(layer):
    layer, given = LAYERS[layer]().to(DEVICE), 3.0 * sequence(50, 40, C)
    x, g = torch.zeros_like(given).requires_grad_(), torch.zeros_like(given)
    weights = torch.rand(given.shape, device=DEVICE)
    expected = steps_of(layer, given.clone().requires_grad_(), weights)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(100_000_000)  # what does not wait for this reads zeros
        x.data.copy_(given)
        s = layer(x)
        torch.cuda._sleep(100_000_000)
        g.copy_(weights)
        found = [s.detach(), *torch.autograd.grad(s, [x, *layer.parameters()], g)]
    side.synchronize()
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@gpus()
@pytest.mark.parametrize("length", [4, 150])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_captured_step_replays_on_new_numbers_and_its_memory_does_not_grow(layer, length):
    layer = LAYERS[layer]().to(DEVICE)
    x, g = sequence(length, 40, C).requires_grad_(), torch.rand(length, 40, C, device=DEVICE)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        steps_of(layer, x, g)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = steps_of(layer, x, g)
    memory = []
    for seed in range(1, 9):
        x.data.copy_(3.0 * sequence(length, 40, C, seed=seed))
        g.normal_()
        graph.replay()
        expected = steps_of(layer, x, g)
        assert captured[0].any()
        for a, b in zip(captured, expected, strict=True):
            assert torch.equal(a, b)
        del expected, a, b
        memory.append(allocated())
    assert min(memory[4:]) <= max(memory[:4])


@gpus()
def test_a_kernel_first_needed_inside_a_capture_is_compiled_there():
    class NeverSeen(ALIF):
        def step(self, x, v, a):
            return super().step(x - 0.015625, v, a)

    x = sequence(T, B, C)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        s = scan(NeverSeen(), x).output
    graph.replay()
    assert torch.equal(s, scan(NeverSeen(), x).output) and s.any()


# --- torch.compile ------------------------------------------------------------------------------------------------


@gpus()
@pytest.mark.parametrize("name", LAYERS)
def test_inductor_equals_eager_with_at_most_two_compilations(name):
    layer = LAYERS[name]().to(DEVICE)
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(layer, fullgraph=True)
    for length in (4, 7, 16, 64):
        x = 3.0 * sequence(length, B, C)
        for a, b in zip(train_step(compiled, x), train_step(layer, x), strict=True):
            assert error(a, b) < 1e-5
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


@gpus()
def test_a_compiled_network_equals_the_eager_one_in_half_under_autocast():
    net = torch.nn.Sequential(torch.nn.Linear(C, 64), snn.LIF(tau=1.5, learn=("tau",), shape=(64,))).to(DEVICE)
    compiled, x = torch.compile(net, fullgraph=True), 8.0 * sequence(T, B, C)
    found = []
    for run in (compiled, net):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            s = run(leaf)
        assert s.dtype == torch.bfloat16 and s.any()
        found.append([s, *torch.autograd.grad(s.float().sum(), [leaf, *net.parameters()])])
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype and error(a, b) < 1e-2


@gpus()
def test_reduce_overhead_equals_eager():
    layer = torch.nn.Sequential(torch.nn.Linear(C, 5), snn.LIF(tau=1.5, learn=("tau",), shape=(5,))).to(DEVICE)
    compiled = torch.compile(layer, fullgraph=True, mode="reduce-overhead")
    for seed in range(5):
        x = 8.0 * sequence(T, B, C, seed=seed)
        torch.compiler.cudagraph_mark_step_begin()
        found = [t.clone() for t in train_step(compiled, x)]
        for a, b in zip(found, train_step(layer, x), strict=True):
            assert error(a, b) < 1e-5


# --- operators, autocast, checkpoint, torch.func ------------------------------------------------------------------


@gpus()
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "layout", ["contiguous", "batch first", "channels last", "every second channel", "expanded over all"]
)
def test_operators_pass_opcheck(layout, dtype):
    x = on(LAYOUTS[layout](), DEVICE, dtype).requires_grad_()
    shape = x.shape[2:3] + (1,) * (x.ndim - 3)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    neuron = ALIF().bind({"tau": torch.full(shape, 2.5, device=DEVICE, dtype=compute).requires_grad_()})
    start = {n: torch.full(x.shape[1:], 0.1, device=DEVICE, dtype=compute).requires_grad_() for n in neuron.states}
    with Calls() as seen:
        s, state, traces = scan(neuron, x, start, ("v",))
        (s.sum() + state["v"].sum() + traces["v"].sum()).backward()
    check_operators(seen.calls)


@gpus()
@pytest.mark.parametrize("shape", [(0, B, C), (T, 0, C), (1, 1, 1)])
def test_operators_pass_opcheck_when_there_is_nothing(shape):
    x = torch.zeros(shape, device=DEVICE, requires_grad=True)
    with Calls() as seen:
        s, state, _ = scan(ALIF(), x, record=("a",))
        (s.sum() + state["v"].sum()).backward()
    check_operators(seen.calls)


@gpus()
@pytest.mark.parametrize("learn", [(), ("tau",)], ids=["fixed", "learnt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cast", [None, torch.bfloat16, torch.float16], ids=str)
def test_autocast_leaves_parameters_and_gradients_in_their_own_dtype(cast, dtype, learn):
    net = torch.nn.Sequential(torch.nn.Linear(C, 5).to(dtype), snn.LIF(tau=1.5, learn=learn, shape=(5,))).to(DEVICE)
    x = (8.0 * sequence(T, B, C)).to(dtype).requires_grad_()
    with torch.autocast(DEVICE, dtype=cast or torch.bfloat16, enabled=cast is not None):
        s = net(x)
        assert s.dtype == (cast or dtype)
        s.float().sum().backward()
    assert x.grad.dtype == dtype
    for parameter in net.parameters():
        assert parameter.grad.dtype == parameter.dtype and parameter.grad.isfinite().all()


@gpus()
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(reentrant):
    (neuron, tensors), x = learnt(ALIF(), (C,)), sequence(T, B, C).requires_grad_()

    def run(x: Tensor) -> Tensor:
        s, state, traces = scan(neuron, x, record=("a",))
        return (s + traces["a"]).sum() + state["v"].sum()

    leaves = [x, *tensors]
    run(x).backward()
    expected = [leaf.grad.clone() for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    checkpoint(run, x, use_reentrant=reentrant).backward()
    assert all(torch.equal(leaf.grad, e) for leaf, e in zip(leaves, expected, strict=True))


@gpus()
def test_gradients_per_sample_equal_those_of_the_cpu():
    tau, x, v = torch.rand(C) + 1.5, sequence(4, T, B, C, device="cpu"), torch.rand(4, B, C)
    found = []
    for device in ("cpu", DEVICE):
        there = [t.to(device) for t in (tau, x, v)]
        one = torch.func.grad(weighted, argnums=(0, 1, 2))(there[0], there[1][0], there[2][0])
        each = torch.func.vmap(torch.func.grad(weighted, argnums=(0, 1, 2)), in_dims=(None, 0, 0))(*there)
        alone = torch.func.vmap(torch.func.grad(lambda x: scan(LIF(), x).output.sum()))(there[1])
        found.append([t.cpu() for t in (*one, *each, alone)])
    for a, b in zip(*found, strict=True):
        assert error(a, b) < 1e-5


def weighted(tau: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """``loss`` of the CPU's tests, with its weights where x is."""
    with torch.device(x.device):
        return loss(tau, x, v)


@gpus()
def test_jacrev_equals_that_of_the_cpu():
    x = sequence(4, 1, 2, device="cpu")
    jacobians = [torch.func.jacrev(lambda x: scan(LIF(), x).output)(x.to(d)).cpu() for d in ("cpu", DEVICE)]
    assert error(*jacobians) < 1e-5 and jacobians[0].any()


@gpus()
def test_a_second_derivative_is_an_error_and_never_a_zero():
    x = sequence(T, B, C).requires_grad_()
    g = torch.autograd.grad(scan(LIF(), x).output.sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="differentiated twice"):
        torch.autograd.grad((g + x**2).sum(), x)


# --- machines with other parts ------------------------------------------------------------------------------------


@gpus()
def test_without_cupy_the_lists_run_in_torch_and_one_warning_says_what_mends_it(monkeypatch):
    missing = ModuleNotFoundError("No module named 'cupy'", name="cupy")
    cupy_raises(monkeypatch, missing, torch.version.cuda or "13.0")
    x = sequence(T, B, C)
    with pytest.warns(RuntimeWarning, match="pip install cupy-cuda1.x") as said:
        why = path(LIF(), x)
        assert path(LIF(), x) == why and why.startswith("reference (cuda: cupy is not installed")
        compare(LIF(tau=3.7), x.cpu(), record=("v",))
        compare(with_tensors(ALIF(reset=Soft()), (C,), torch.float32), x.cpu())
    assert len([w for w in said if "cupy" in str(w.message)]) == 1


@gpus()
def test_without_cupy_a_network_trains_and_compiles(monkeypatch):
    cupy_raises(monkeypatch, ModuleNotFoundError("No module named 'cupy'", name="cupy"), torch.version.cuda or "13.0")
    for name in [name for name in sys.modules if name.split(".")[0] == "cupyx"]:
        monkeypatch.delitem(sys.modules, name)
    layer = LAYERS["learnt"]().to(DEVICE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = 3.0 * sequence(T, B, C)
        compiled = train_step(torch.compile(layer, fullgraph=True, backend="aot_eager"), x)
        assert all(error(a, b) < 1e-6 for a, b in zip(compiled, train_step(layer, x), strict=True))


@gpus(2)
@pytest.mark.parametrize("order", [("cuda:0", "cuda:1"), ("cuda:1", "cuda:0")], ids="then".join)
@pytest.mark.parametrize("current", [0, 1])
def test_tensors_on_another_gpu_than_the_current_one(current, order):
    class Fresh(ALIF):
        """A neuron whose kernels no other test has loaded."""

        def step(self, x, v, a):
            return super().step(x + 0.0078125 * (1 + 2 * current + (order[0] == "cuda:1")), v, a)

    expected = None
    with torch.cuda.device(current):
        for device in order:
            neuron, tensors = learnt(Fresh(), (C,), device)
            x = sequence(T, B, C, device=device).requires_grad_()
            s, _, traces = scan(neuron, x, record=("v",))
            plain = scan(Fresh(), x).output
            g_plain = torch.autograd.grad(plain.sum(), x)[0]
            g = torch.autograd.grad(s.sum() + traces["v"].sum(), [x, *tensors])
            found = [t.detach() for t in (s, traces["v"], plain, g_plain, *g)]
            assert {t.device for t in found} == {torch.device(device)} and torch.cuda.current_device() == current
            found = [t.cpu() for t in found]
            expected = expected or found
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert expected[0].any()
