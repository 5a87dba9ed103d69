"""Gradients of ``scan``: for every input, the same on every run, and with nothing but x kept for them."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import resource

import pytest
import torch
from torch import Tensor

from snnkit import nn as snn
from snnkit.equations import ALIF, LIF, Equation, Hard, Soft
from snnkit.ops import scan
from tests.closeness import error, tolerance
from tests.equations_under_test import by_reference, drive, learnable, with_tensors

T, B, H, C = 7, 2, 5, 3


def sequence(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return drive("ALIF", shape, dtype)


def leaves(neuron: Equation, x: Tensor, shape: tuple[int, ...] | None) -> tuple[Equation, dict[str, Tensor]]:
    """A neuron whose parameters are tensors of this shape, and all that gradients may reach."""
    compute = torch.float64 if x.dtype == torch.float64 else torch.float32
    noise = torch.Generator().manual_seed(6)
    start = {f"first {n}": torch.rand(x.shape[1:], generator=noise).to(compute).requires_grad_() for n in neuron.states}
    tensors = {}
    if shape is not None:
        neuron = with_tensors(neuron, shape, compute)
        tensors = {n: neuron.parameters()[n] for n in learnable(neuron)}
    return neuron, {"x": x.detach().requires_grad_()} | start | tensors


def gradients(run, neuron: Equation, inputs: dict[str, Tensor], record=("a",), steps=None) -> dict[str, Tensor]:
    start = {n: inputs[f"first {n}"] for n in neuron.states}
    s, state, traces = run(neuron, inputs["x"], start, record, steps)
    outputs = [s, *state.values(), *traces.values()]
    noise = torch.Generator().manual_seed(4)
    weights = [torch.rand(o.shape, generator=noise).to(o.dtype) for o in outputs]
    found = torch.autograd.grad(outputs, list(inputs.values()), weights, allow_unused=True, materialize_grads=True)
    return dict(zip(inputs, found, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [None, (), (C,), (H, 1), (1, C), (H, C), (1, 1)], ids=str)
@pytest.mark.parametrize("reset", [Hard(-0.25), Soft(detach=True)], ids=repr)
@pytest.mark.parametrize("steps", [None, 5])
def test_gradients_equal_those_of_the_reference(steps, reset, shape, dtype):
    x = sequence(1 if steps else T, B, H, C, dtype=dtype)
    neuron, inputs = leaves(ALIF(reset=reset), x, shape)
    got, expected = (gradients(run, neuron, inputs, steps=steps) for run in (scan, by_reference))
    for name, e in expected.items():
        assert got[name].dtype == e.dtype and error(got[name], e) < tolerance(dtype), name


# The states of a block at all steps lie in the L2 cache, if they fit: else they are computed again chunk by chunk.
MANY = [(1, (3,)), (2, (2, 700)), (63, (1, 3000)), (301, (2, 700)), (1500, (3,)), (1501, (3, 1))]


@pytest.mark.parametrize("shape", [None, (), "lanes"], ids=str)
@pytest.mark.parametrize(("length", "lanes"), MANY, ids=str)
def test_gradients_over_many_steps_and_many_lanes(length, lanes, shape):
    x = sequence(length, *lanes, dtype=torch.float64)
    neuron, inputs = leaves(ALIF(), x, x.shape[2:] if shape == "lanes" else shape)
    got, expected = (gradients(run, neuron, inputs) for run in (scan, by_reference))
    for name, e in expected.items():
        assert error(got[name], e) < 1e-12, name


OUTPUTS = ["s", "v", "a", "last a"]
SOME = [*itertools.combinations(OUTPUTS, 1), *itertools.combinations(OUTPUTS, 2)]


@pytest.mark.parametrize("wanted", SOME, ids="+".join)
def test_an_output_without_gradient_counts_as_zero(wanted):
    neuron, inputs = leaves(ALIF(), sequence(T, B, C), (C,))
    found = []
    for run in (scan, by_reference):
        start = {n: inputs[f"first {n}"] for n in neuron.states}
        s, state, traces = run(neuron, inputs["x"], start, ("v", "a"))
        outputs = {"s": s, "v": traces["v"], "a": traces["a"], "last a": state["a"]}
        total = sum((outputs[n] * outputs[n].detach().cos()).sum() for n in wanted)
        found.append(torch.autograd.grad(total, list(inputs.values()), allow_unused=True, materialize_grads=True))
    for name, g, e in zip(inputs, *found, strict=True):
        assert error(g, e) < 1e-5 or (g - e).norm() < 1e-6, name


@pytest.mark.parametrize("only", ["x", "tau", "beta", "first v", "surrogate.alpha", "reset.v_reset"])
def test_each_input_may_be_the_only_one_with_gradient(only):
    neuron, inputs = leaves(ALIF(reset=Hard(-0.25)), sequence(T, B, C), (C,))
    neuron = neuron.bind({"surrogate.alpha": torch.full((C,), 2.0)})
    inputs["surrogate.alpha"] = neuron.parameters()["surrogate.alpha"]
    for name, value in inputs.items():
        value.requires_grad_(name == only)
    found = []
    for run in (scan, by_reference):
        s, state, _ = run(neuron, inputs["x"], {n: inputs[f"first {n}"] for n in neuron.states})
        assert s.requires_grad or run is by_reference
        total = s.sum() + state["v"].sum()
        found.append(torch.autograd.grad(total, inputs[only], allow_unused=True, materialize_grads=True)[0])
    assert error(found[0], found[1]) < 1e-5
    assert only == "surrogate.alpha" or found[0].any()


def test_a_learnt_reset_value_is_where_the_neuron_starts_too():
    v_reset = torch.tensor(-0.25, dtype=torch.float64, requires_grad=True)
    x = sequence(T, B, C, dtype=torch.float64)
    got, expected = (
        torch.autograd.grad(run(LIF(v_reset=v_reset), x)[0].sum(), v_reset)[0] for run in (scan, by_reference)
    )
    assert expected != 0 and error(got, expected) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_inputs_get_half_gradients_computed_in_float32(dtype):
    x = sequence(T, B, C).to(dtype)
    neuron, inputs = leaves(ALIF(), x, (C,))
    got, expected = gradients(scan, neuron, inputs), gradients(scan, *leaves(ALIF(), x.float(), (C,)))
    assert got["x"].dtype == dtype
    for name, g in got.items():
        e = expected[name]
        assert error(g, e) < (2e-2 if name == "x" or dtype == torch.bfloat16 else 2e-3), name


@pytest.mark.parametrize("shape", [(0, B, C), (T, 0, C), (T, B, 0), (1, B, C)])
def test_without_steps_or_lanes_gradients_are_zero_and_the_state_passes_its_own(shape):
    steps = 0 if shape[0] == 1 else None
    neuron, inputs = leaves(ALIF(), torch.zeros(shape), (shape[2],))
    start = {n: inputs[f"first {n}"] for n in neuron.states}
    s, state, traces = scan(neuron, inputs["x"], start, ("v",), steps)
    g = torch.rand(shape[1:])
    found = torch.autograd.grad([s, traces["v"], state["a"]], list(inputs.values()), [s, traces["v"], g])
    for name, value in zip(inputs, found, strict=True):
        passes = name == "first a" and (shape[0] == 0 or steps == 0)
        assert torch.equal(value, g if passes else torch.zeros_like(inputs[name])), name


def test_gradients_pass_from_chunk_to_chunk():
    x = sequence(T, B, C, dtype=torch.float64).requires_grad_()
    s, *_ = scan(ALIF(), x)
    whole = torch.autograd.grad((s * torch.arange(T).view(T, 1, 1)).sum(), x)[0]
    first, state, _ = scan(ALIF(), x[:3])
    second, *_ = scan(ALIF(), x[3:], state)
    s = torch.cat([first, second])
    assert error(torch.autograd.grad((s * torch.arange(T).view(T, 1, 1)).sum(), x)[0], whole) < 1e-13


def test_gradients_are_bitwise_the_same_on_every_run_and_for_any_number_of_threads():
    x = sequence(40, 20, 300)  # large enough for two threads, and for several blocks and segments
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 1, 2, 3, 2):
            torch.set_num_threads(threads)
            found.append([gradients(scan, *leaves(ALIF(), x, shape)) for shape in ((), (300,))])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert all(torch.equal(a[n], b[n]) for n in a)


def test_parameter_gradients_are_summed_in_float64():
    # 2^24 + 1 has no float32: ones added to a float32 sum stop counting there.
    x = torch.zeros(1, 1, (1 << 24) + 4)
    tau = torch.tensor(1.0, requires_grad=True)
    neuron = LIF(decay_input=False, v_threshold=1e6).bind({"tau": tau})
    state = scan(neuron, x, {"v": torch.ones(1, x.shape[2])}).state
    # v = 1 - 1 / tau: the derivative by tau is 1 / tau^2 = 1 for each of them.
    assert torch.autograd.grad(state["v"].sum(), tau)[0].item() == x.numel()


# --- memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [(), ("v",)])
def test_nothing_but_x_is_kept_for_the_backward(record):
    x = sequence(50, B, C).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        scan(ALIF(), x, record=record)
    assert len(kept) == 1 and kept[0].data_ptr() == x.data_ptr()


def test_a_half_input_is_kept_in_half():
    x = sequence(50, B, C, dtype=torch.float16).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        scan(ALIF(), x)
    assert [t.dtype for t in kept] == [torch.float16]


def allocations(function) -> list[int]:
    """Sizes of the blocks that torch's CPU allocator hands out in a call."""
    function()  # compiles, and makes what is made once
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    events = profile.profiler.kineto_results.events()
    return [e.nbytes() for e in events if e.name() == "[memory]" and e.nbytes() > 0]


@pytest.mark.parametrize("layout", ["contiguous", "batch first", "channels last"])
def test_forward_and_backward_allocate_the_output_and_the_gradient_and_nothing_else_of_that_size(layout):
    x = {
        "contiguous": lambda: sequence(50, 4, 16, 10),
        "batch first": lambda: sequence(4, 50, 16, 10).transpose(0, 1),
        "channels last": lambda: sequence(50, 4, 10, 16).transpose(2, 3),
    }[layout]().requires_grad_()
    neuron = with_tensors(ALIF(), (16, 1), torch.float32)
    tensors = [neuron.parameters()[n] for n in ("tau", "beta")]
    g = torch.rand(x.shape)
    if layout != "batch first":  # there the output, and so its gradient, lies time first
        g = g.as_strided(x.shape, x.stride())

    def step() -> None:  # x.grad would be a copy where x lies otherwise than its gradient
        torch.autograd.grad(scan(neuron, x).output, [x, *tensors], g)

    size = x.numel() * x.element_size()
    large = [n for n in allocations(step) if n > size // 4]
    assert len(large) == 2 and max(large) < 1.01 * size


def test_an_inference_allocates_the_output_only():
    x = sequence(50, 4, 160)
    size = x.numel() * x.element_size()
    with torch.no_grad():
        assert [n for n in allocations(lambda: scan(ALIF(), x)) if n > size // 4] == [size]


def test_memory_does_not_grow_from_call_to_call():
    x = sequence(200, 8, 128).requires_grad_()  # 0.8 MB: a hundred leaks are 80 MB
    neuron = with_tensors(ALIF(), (128,), torch.float32)

    def calls(count: int) -> None:
        for _ in range(count):
            s, state, traces = scan(neuron, x, record=("v",))
            (s.sum() + state["v"].sum()).backward()
            scan(neuron, x)  # its graph is dropped without a backward

    calls(5)
    gc.collect()
    tensors, peak = alive(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calls(50)
    assert alive() == tensors
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 20_000  # kilobytes


def alive() -> int:
    """How many tensors Python knows."""
    return sum(issubclass(type(o), Tensor) for o in gc.get_objects())


def test_a_thousand_neurons_leave_nothing_behind():
    x = sequence(2, 1, 1)
    from snnkit.ops import program, scan_cpu

    for tau in (2.0, 3.0):  # a product, a division
        scan(LIF(tau=tau), x)
    before = len(program._programs), len(scan_cpu._kernels)
    for k in range(1000):
        scan(LIF(tau=2.0 + k), x)
    assert (len(program._programs), len(scan_cpu._kernels)) == before


# --- mistakes are seen ------------------------------------------------------------------------------------------


def test_changing_x_before_the_backward_is_an_error():
    x = sequence(T, B, C).requires_grad_()
    y = x * 1.0
    s, *_ = scan(LIF(), y)
    y.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        s.sum().backward()


def test_changing_a_start_state_before_the_backward_is_an_error():
    neuron, inputs = leaves(ALIF(), sequence(T, B, C), (C,))
    s, *_ = scan(neuron, inputs["x"], {n: inputs[f"first {n}"] for n in neuron.states})
    with torch.no_grad():
        inputs["first v"].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        s.sum().backward()


def test_changing_a_parameter_before_the_backward_is_an_error_or_changes_nothing():
    x = sequence(T, B, C)
    found = []
    for change in (0.0, 1.0):
        neuron = with_tensors(ALIF(), (C,), torch.float32)
        tensors = [neuron.parameters()[n] for n in learnable(neuron)]
        s, *_ = scan(neuron, x)
        try:
            with torch.no_grad():
                for tensor in tensors:
                    tensor.add_(change)
            found.append(torch.autograd.grad(s.sum(), tensors))
        except RuntimeError as refused:
            assert change and "modified by an inplace operation" in str(refused)
            return
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_second_backward_needs_retain_graph_and_then_adds_up():
    x = sequence(T, B, C).requires_grad_()
    s = scan(LIF(), x).output.sum()
    s.backward(retain_graph=True)
    once = x.grad.clone()
    s.backward()
    assert torch.equal(x.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        s.backward()


@pytest.mark.parametrize("penalty", [lambda x, g: g.sum(), lambda x, g: (g + x**2).sum()], ids=["alone", "in a sum"])
def test_a_second_derivative_is_an_error_and_never_a_zero(penalty):
    x = sequence(T, B, C).requires_grad_()
    g = torch.autograd.grad(scan(LIF(), x).output.sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="differentiated twice"):
        torch.autograd.grad(penalty(x, g), x)


def test_forward_mode_is_an_error_and_never_a_zero():
    x = sequence(T, B, C)
    for run in (
        lambda: torch.func.jvp(lambda x: scan(LIF(), x).output, (x,), (torch.ones_like(x),)),
        lambda: dual(x),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)):
            run()
    with pytest.raises(NotImplementedError, match="no rule for neurons. Use reverse mode"):
        torch.func.jacfwd(lambda x: scan(LIF(), x).output)(x)


def dual(x: Tensor) -> Tensor:
    import torch.autograd.forward_ad as forward_ad

    with forward_ad.dual_level(), torch.no_grad():
        s = scan(LIF(), forward_ad.make_dual(x, torch.ones_like(x))).output
        return forward_ad.unpack_dual(s).tangent


# --- copies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_copies_of_neurons_and_layers_run_alike(copied):
    x = 4.0 * sequence(T, B, C)
    neuron = ALIF(tau=1.5, reset=Soft())
    expected = scan(neuron, x).output
    assert torch.equal(scan(copied(neuron), x).output, expected)
    layer = snn.LIF(tau=1.5, learn=("tau",), shape=(C,))
    other = copied(layer)
    assert torch.equal(other(x), layer(x)) and other.tau is not layer.tau
    with torch.no_grad():
        other.tau.fill_(30.0)
    assert not torch.equal(other(x), layer(x))


@pytest.mark.parametrize("layer", [snn.LIF(tau=3.0), snn.LIF(), snn.ALIF()], ids=repr)
@pytest.mark.parametrize("shape", [(16, 1, 1025), (17, 2, 40), (40, 1, 2049), (257, 1, 1), (300, 3, 63)], ids=str)
def test_a_plain_call_of_any_length_and_width_has_the_references_gradient(shape, layer):
    x, g = sequence(*shape, dtype=torch.float64).requires_grad_(), sequence(*shape, dtype=torch.float64) - 0.3
    s, expected = layer(x), by_reference(layer.neuron, x)[0]
    assert torch.equal(s, expected)
    found, expected = (torch.autograd.grad(o, x, g)[0] for o in (s, expected))
    assert error(found, expected) < tolerance(torch.float64)


def in_another_layout(x: Tensor) -> Tensor:
    """The same numbers, the last axis first in memory."""
    return x.transpose(0, -1).contiguous().transpose(0, -1)


@pytest.mark.parametrize(
    "g",
    [
        torch.linspace(-1, 1, 4)[:, None, None].expand(4, 3, 5), in_another_layout(torch.rand(4, 3, 5)),
        torch.complex(torch.rand(4, 3, 5), torch.rand(4, 3, 5)).conj().imag, torch._neg_view(torch.rand(4, 3, 5)),
    ],
    ids=["expanded", "transposed", "imaginary", "negative"],
)  # fmt: skip
def test_a_small_calls_gradient_may_lie_in_memory_in_any_way(g):
    x = (2.0 * torch.rand(4, 3, 5)).requires_grad_()
    found, expected = (torch.autograd.grad(snn.LIF(tau=3.0)(x), x, v)[0] for v in (g, g.resolve_neg().contiguous()))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("steps", [4, 40])  # with 40 the states before each chunk are kept, too
def test_a_small_calls_input_may_lie_in_memory_in_any_way(steps):
    x = 2.0 * torch.rand(steps, 3, 5)
    assert torch.equal(snn.LIF(tau=3.0)(torch._neg_view(-x)), snn.LIF(tau=3.0)(x))
    leaf, g = x.requires_grad_(), torch.rand(steps, 3, 5)
    (expected,) = torch.autograd.grad(snn.LIF(tau=3.0)(leaf), leaf, g)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, in_another_layout):
        s = snn.LIF(tau=3.0)(leaf)
    assert torch.equal(torch.autograd.grad(s, leaf, g)[0], expected)


@pytest.mark.parametrize("steps", [4, 40])
def test_a_small_call_asks_what_a_hook_gives_back(steps):
    leaf, g = (2.0 * torch.rand(steps, 3, 5)).requires_grad_(), torch.rand(steps, 3, 5)
    (expected,) = torch.autograd.grad(snn.LIF(tau=3.0)(leaf), leaf, g)

    def spread(t: Tensor) -> Tensor:
        return t.repeat_interleave(2)[::2] if t.ndim == 1 else t

    def in_double(t: Tensor) -> Tensor:
        return t.double() if t.ndim == 1 else t

    for given_back in (lambda t: torch._neg_view(-t), spread, in_double):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, given_back):
            s = snn.LIF(tau=3.0)(leaf)
        assert torch.equal(torch.autograd.grad(s, leaf, g)[0], expected)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t.to("meta")):
        s = snn.LIF(tau=3.0)(leaf)
    with pytest.raises((ValueError, RuntimeError, NotImplementedError), match="meta|device"):
        torch.autograd.grad(s, leaf, g)
