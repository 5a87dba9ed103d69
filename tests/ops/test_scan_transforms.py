"""``scan`` under torch's own tools: compile, fake tensors, autocast, checkpoint, torch.func, workers."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

from snnkit import nn as snn
from snnkit.equations import ALIF, LIF, Soft
from snnkit.ops import scan
from tests.closeness import error
from tests.equations_under_test import drive, with_tensors
from tests.ops.test_scan_layout import LAYOUTS

T, B, C = 7, 2, 3


def sequence(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return drive("ALIF", shape, dtype)


# --- the registered operators -------------------------------------------------------------------------------------


class Calls(TorchDispatchMode):
    """Writes down each call of our operators, with detached arguments, and lets it run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.namespace == "snnkit":
            detached = torch.utils._pytree.tree_map(lambda a: a.detach() if isinstance(a, Tensor) else a, args)
            self.calls.append((function, detached))
        return function(*args, **(kwargs or {}))


def operator_calls(
    x: Tensor, learn: bool, record: tuple[str, ...], steps: int | None
) -> list[tuple[Any, tuple[Any, ...]]]:
    """The calls of forward and backward operator that one training step makes."""
    neuron = (
        with_tensors(ALIF(), x.shape[2:3] + (1,) * (x.ndim - 3) if x.ndim > 2 else (), torch.float32)
        if learn
        else ALIF()
    )
    start = {n: torch.full(x.shape[1:], 0.1).requires_grad_() for n in neuron.states} if learn else None
    x = x.detach().requires_grad_()
    with Calls() as seen:
        s, state, traces = scan(neuron, x, start, record, steps)
        (s.sum() + state["v"].sum() + sum(t.sum() for t in traces.values())).backward()
    return seen.calls


def check_operators(calls: list[tuple[Any, tuple[Any, ...]]]) -> None:
    names = [str(function) for function, _ in calls]
    assert len(names) == 2 and "backward" not in names[0] and "backward" in names[1], names
    for function, arguments in calls:
        torch.library.opcheck(function, arguments)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_of_every_layout(layout):
    check_operators(operator_calls(LAYOUTS[layout](), True, (), None))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("learn", "record", "steps"), [(False, ("a",), None), (True, ("v", "a"), 5)])
def test_opcheck_of_every_dtype(dtype, learn, record, steps):
    check_operators(operator_calls(sequence(1 if steps else T, B, C, dtype=dtype), learn, record, steps))


@pytest.mark.parametrize("shape", [(0, B, C), (T, 0, C), (T, B, 0), (1, B, C), (1, 1, 1)])
def test_opcheck_of_empty_and_single(shape):
    check_operators(operator_calls(sequence(*shape), True, ("v",), None))


# --- torch.compile ------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that counts the graphs that it gets, and their nodes."""

    def __init__(self, backend: str) -> None:
        self.backend, self.nodes = torch._dynamo.lookup_backend(backend), []

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.nodes.append(len(graph.graph.nodes))
        return self.backend(graph, inputs)


def train_step(layer: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, ...]:
    x = x.detach().requires_grad_()
    s = layer(x)
    weights = torch.arange(1.0, len(x) + 1).view(-1, *[1] * (x.ndim - 1)).to(s.dtype)
    found = torch.autograd.grad((s * weights).sum(), [x, *getattr(layer, "parameters", list)()], allow_unused=True)
    return s.detach(), *found


LAYERS = {
    "fixed": lambda: snn.LIF(tau=2.0),
    "learnt": lambda: snn.LIF(tau=2.0, v_reset=None, learn=("tau", "v_threshold"), shape=(C,)),
    "PLIF": lambda: snn.PLIF(tau=2.0),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("backend", ["aot_eager"])
def test_compiled_equals_eager_with_at_most_two_compilations_for_all_lengths(backend, layer):
    layer, backend = LAYERS[layer](), Counting(backend)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for length in (4, 7, 16, 64, 1):
        x = 3.0 * sequence(length, B, C)
        for a, b in zip(train_step(compiled, x), train_step(layer, x), strict=True):
            assert torch.equal(a, b)
        if length == 16:
            assert len(backend.nodes) <= 2
    assert len(set(backend.nodes)) <= 2 and max(backend.nodes) < 30, "time was unrolled"


def test_a_first_call_compiles_as_much_at_64_steps_as_at_4():
    layers = [torch.nn.Linear(C, 5), snn.LIF(), torch.nn.Linear(5, 2), snn.LIF(learn=("tau",))]
    graphs = []
    for length in (4, 64):
        torch._dynamo.reset()
        backend = Counting("eager")
        torch.compile(torch.nn.Sequential(*layers), fullgraph=True, backend=backend)(sequence(length, B, C))
        graphs.append(backend.nodes)
    assert graphs[0] == graphs[1] and len(graphs[0]) == 1  # the README's claim; seconds would depend on the machine


def test_inductor_equals_eager():
    layer = torch.nn.Sequential(torch.nn.Linear(C, 5), snn.LIF(tau=1.5, learn=("tau",), shape=(5,)))
    compiled = torch.compile(layer, fullgraph=True)
    for length in (4, 7, 16):
        x = 4.0 * sequence(length, B, C)
        for a, b in zip(train_step(compiled, x), train_step(layer, x), strict=True):
            assert error(a, b) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_compiled_with_state_record_and_steps(dtype):
    def run(x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        s, state, traces = scan(neuron, x, {"v": v, "a": torch.zeros_like(v)}, ("a",))
        again = scan(neuron, x[:1], steps=9).output
        return s, state["v"], traces["a"], again

    neuron, x, v = ALIF(), sequence(T, B, C, dtype=dtype), torch.rand(B, C)
    scan(neuron, x)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(x, v), run(x, v), strict=True):
        assert a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)


def test_a_neuron_that_was_never_traced_is_refused_inside_a_compiled_function():
    class New(ALIF):
        beta = 0.3

    with pytest.raises(Exception, match="make it and run scan once outside"):
        torch.compile(lambda x: scan(New(), x).output, fullgraph=True, backend="aot_eager")(sequence(T, B, C))


@pytest.mark.parametrize("layout", ["batch first", "channels last", "every second channel", "expanded over the batch"])
def test_compiled_on_other_layouts(layout):
    layer = snn.LIF(tau=1.5)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = 3.0 * LAYOUTS[layout]()
    for a, b in zip(train_step(compiled, x), train_step(layer, x), strict=True):
        assert torch.equal(a, b) and a.stride() == b.stride()


def test_export_keeps_the_operator():
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = snn.LIF(tau=1.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(x)

    x = 3.0 * sequence(T, B, C)
    program = torch.export.export(Net(), (x,), dynamic_shapes=({0: torch.export.Dim("T", min=2)},))
    longer = 3.0 * sequence(2 * T, B, C)
    assert torch.equal(program.module()(longer), Net()(longer))


def test_fake_tensors_get_shapes_and_dtypes():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(T, B, C, dtype=torch.bfloat16, requires_grad=True)
        s, state, traces = scan(ALIF(), x, record=("v",))
        assert (s.shape, s.dtype) == (x.shape, x.dtype) and state["a"].dtype == traces["v"].dtype == torch.float32
        s.sum().backward()
        assert x.grad.shape == x.shape


# --- autocast -----------------------------------------------------------------------------------------------------

AUTOCAST = list(
    itertools.product(
        [None, torch.bfloat16, torch.float16], [torch.float32, torch.bfloat16], [False, True], [False, True]
    )
)


@pytest.mark.parametrize(("cast", "dtype", "learn", "compiled"), AUTOCAST, ids=str)
def test_autocast_leaves_parameters_and_gradients_in_their_own_dtype(cast, dtype, learn, compiled):
    linear = torch.nn.Linear(C, 5).to(dtype)
    lif = snn.LIF(tau=1.5, learn=("tau",) if learn else (), shape=(5,))
    net = torch.nn.Sequential(linear, lif)
    run = torch.compile(net, fullgraph=True, backend="aot_eager") if compiled else net
    x = (8.0 * sequence(T, B, C)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=cast or torch.bfloat16, enabled=cast is not None):
        s = run(x)
        assert s.dtype == (cast or dtype)  # the rule: spikes have the dtype of what the neuron reads
        (s.float().sum()).backward()
    assert x.grad.dtype == dtype
    for parameter in net.parameters():
        assert parameter.grad.dtype == parameter.dtype and parameter.grad.isfinite().all()


# --- checkpoint ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(reentrant):
    neuron, x = with_tensors(ALIF(), (C,), torch.float32), sequence(T, B, C).requires_grad_()
    leaves = [x, neuron.parameters()["tau"], neuron.parameters()["beta"]]

    def run(x: Tensor) -> Tensor:
        s, state, traces = scan(neuron, x, record=("a",))
        return (s + traces["a"]).sum() + state["v"].sum()

    run(x).backward()
    expected = [leaf.grad.clone() for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    checkpoint(run, x, use_reentrant=reentrant).backward()
    assert all(torch.equal(leaf.grad, e) for leaf, e in zip(leaves, expected, strict=True))


# --- torch.func ---------------------------------------------------------------------------------------------------


def loss(tau: Tensor, x: Tensor, v: Tensor | None = None) -> Tensor:
    """A number that depends on outputs, last state and trace."""
    start = None if v is None else {"v": v, "a": torch.zeros_like(v)}
    s, state, traces = scan(ALIF(reset=Soft()).bind({"tau": tau}), x, start, ("a",))
    weights = torch.arange(1.0, x.shape[0] + 1).view(-1, 1, 1)
    return (s * weights).sum() + (traces["a"] * weights).sum() + state["v"].square().sum()


def by_autograd(function: Callable[..., Tensor], *arguments: Tensor) -> tuple[Tensor, ...]:
    leaves = [a.detach().clone().requires_grad_() for a in arguments]
    return torch.autograd.grad(function(*leaves), leaves)


def test_grad_equals_autograd():
    tau, x, v = torch.rand(C) + 1.5, sequence(T, B, C), torch.rand(B, C)
    got = torch.func.grad(loss, argnums=(0, 1, 2))(tau, x, v)
    for a, b in zip(got, by_autograd(loss, tau, x, v), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1])
def test_vmap_equals_a_loop_for_any_axis(dim):
    x = sequence(4, T, B, C)

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s, state, traces = scan(ALIF(), x, record=("a",))
        return s, state["v"], traces["a"]

    got = torch.func.vmap(run, in_dims=dim)(x.movedim(0, dim))
    for a, b in zip(got, zip(*map(run, x), strict=True), strict=True):
        assert torch.equal(a, torch.stack(b))


def test_vmap_over_a_start_state_alone_and_over_a_row_read_again():
    x, v = sequence(T, B, C), torch.rand(4, B, C)
    got = torch.func.vmap(lambda v: scan(LIF(), x, {"v": v}).output)(v)
    assert torch.equal(got, torch.stack([scan(LIF(), x, {"v": one}).output for one in v]))
    rows = sequence(4, 1, B, C)
    got = torch.func.vmap(lambda row: scan(LIF(), row, steps=5).output)(rows)
    assert torch.equal(got, torch.stack([scan(LIF(), row, steps=5).output for row in rows]))


PER_SAMPLE = {
    "x": ((None, 0, None), 1),
    "x, with respect to tau": ((None, 0, None), 0),
    "x on axis 2, with respect to tau": ((None, 2, None), 0),
    "x and the start state": ((None, 0, 0), (1, 2)),
    "the start state alone": ((None, None, 0), (0, 1, 2)),
    "tau too": ((0, 0, None), (0, 1)),
    "tau alone": ((0, None, None), (0, 1, 2)),
    "tau on its last axis": ((-1, 0, 0), (0, 1, 2)),
}


@pytest.mark.parametrize("case", PER_SAMPLE)
def test_gradients_per_sample_equal_a_loop(case):
    dims, wanted = PER_SAMPLE[case]
    full = torch.rand(4, C) + 1.5, sequence(4, T, B, C), torch.rand(4, B, C)
    samples = [[a[i] if d is not None else a[0] for a, d in zip(full, dims, strict=True)] for i in range(4)]
    arguments = [a.movedim(0, d) if d is not None else a[0] for a, d in zip(full, dims, strict=True)]
    got = torch.func.vmap(torch.func.grad(loss, argnums=wanted), in_dims=dims)(*arguments)
    got = got if isinstance(got, tuple) else (got,)
    for k, value in zip(wanted if isinstance(wanted, tuple) else (wanted,), got, strict=True):
        expected = torch.stack([by_autograd(loss, *sample)[k] for sample in samples])
        assert error(value, expected) < 1e-6


def test_per_sample_gradients_of_a_layer_in_a_network():
    net = torch.nn.Sequential(
        torch.nn.Linear(C, 5), snn.LIF(tau=1.5, learn=("tau",), shape=(5,)), torch.nn.Linear(5, 2)
    )
    parameters = {n: p.detach() for n, p in net.named_parameters()}
    x = 8.0 * sequence(T, 4, C)

    def sample_loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(net, parameters, (x.unsqueeze(1),)).sum()

    got = torch.func.vmap(torch.func.grad(sample_loss), in_dims=(None, 1))(parameters, x)
    for name in parameters:
        expected = torch.stack(
            [torch.autograd.grad(net(x[:, i : i + 1]).sum(), net.get_parameter(name))[0] for i in range(4)]
        )
        assert error(got[name], expected) < 1e-5, name


def test_jacrev_and_vjp_equal_rows_of_autograd():
    x = sequence(4, 1, 2)
    jacobian = torch.func.jacrev(lambda x: scan(LIF(), x).output)(x)
    _, pull = torch.func.vjp(lambda x: scan(LIF(), x).output, x)
    for index in itertools.product(*map(range, x.shape)):
        leaf = x.clone().requires_grad_()
        expected = torch.autograd.grad(scan(LIF(), leaf).output[index], leaf)[0]
        one = torch.zeros_like(x)
        one[index] = 1.0
        assert torch.equal(jacobian[index], expected) and torch.equal(pull(one)[0], expected)
    assert jacobian.any()


def squared(x: Tensor) -> Tensor:
    return scan(LIF(), x).output.sum() + x.square().sum()


@pytest.mark.parametrize(
    "transform",
    [
        lambda x: torch.func.jvp(squared, (x,), (torch.ones_like(x),)),
        lambda x: torch.func.jacfwd(squared)(x),
        lambda x: torch.func.hessian(squared)(x),
        lambda x: torch.func.grad(lambda x: torch.func.grad(squared)(x).sum())(x),
        lambda x: torch.func.jacrev(torch.func.grad(squared))(x),
        lambda x: torch.autograd.functional.hessian(squared, x),
        lambda x: torch.autograd.functional.jvp(squared, x, torch.ones_like(x)),
    ],
    ids=["jvp", "jacfwd", "hessian", "grad of grad", "jacrev of grad", "autograd hessian", "double backward jvp"],
)
def test_what_kernels_cannot_do_is_an_error_and_never_a_zero(transform):
    with pytest.raises((RuntimeError, NotImplementedError)):
        transform(sequence(4, 1, 2))


def test_compile_over_a_transform_is_right_if_the_graph_may_break_and_else_an_error():
    x = sequence(T, B, C)
    expected = torch.func.grad(squared)(x)
    assert torch.equal(torch.compile(torch.func.grad(squared), backend="aot_eager")(x), expected)
    torch._dynamo.reset()
    # The message is ours, unless an older dynamo stops before it comes so far.
    with pytest.raises(Exception, match="compile the inner function|marked as skipped"):
        torch.compile(torch.func.grad(squared), backend="aot_eager", fullgraph=True)(x)


def test_inference_mode():
    x = sequence(T, B, C)
    with torch.inference_mode():
        s = scan(LIF(), x.clone()).output
    assert torch.equal(s, scan(LIF(), x).output)


# --- processes ----------------------------------------------------------------------------------------------------


class Spikes(Dataset):
    """Runs a scan, large enough for two threads, in the process that reads an item."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        x = (sequence(20, 4, 1000) * (1 + index)).requires_grad_()
        s = scan(LIF(), x).output
        s.sum().backward()
        return torch.stack([s.detach(), x.grad])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_loader_run_scans_after_the_parent_did(context):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = torch.stack([Spikes()[i] for i in range(4)])
        loader = DataLoader(Spikes(), batch_size=2, num_workers=1, multiprocessing_context=context, timeout=100)
        assert torch.equal(torch.cat(list(loader)), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_does_not_wait_for_the_parents_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        x = sequence(20, 4, 1000)
        scan(LIF(), x)
        torch.utils.deterministic.fill_uninitialized_memory = False  # torch's own filling would wait for its threads
        child = multiprocessing.get_context("fork").Process(target=scan, args=(LIF(), x))
        child.start()
        child.join(10)
        alive = child.is_alive()
        child.kill()
        assert not alive and child.exitcode == 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("layer", [snn.LIF(), snn.ALIF(), snn.DelayLinear(3, 4, max_delay=3)], ids=repr)
def test_a_trace_of_torch_jit_holds_the_operator_and_no_empty_memory(layer):
    x = 3.0 * torch.rand(7, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        traced = torch.jit.trace(layer, x)
        for other in (x, 0.5 * x):
            assert torch.equal(traced(other), layer(other))
