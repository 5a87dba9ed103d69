"""Coefficients and parameters' gradients in one CUDA kernel each: torch's own numbers, on the CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from unittest import mock

import pytest
import torch
from torch import Tensor

from snnkit.equations import ALIF, LIF, Equation
from snnkit.ops import coefficients_cuda, cpu, cuda, nvrtc, scan_learnt
from snnkit.ops.program import plan_of
from snnkit.ops.scan import run
from tests.closeness import error
from tests.cuda_on_cpu import Emulated, emulated_cuda
from tests.equations_under_test import EQUATIONS, drive, learnable, neuron_of, with_tensors
from tests.on_gpu import DEVICE, gpus, on

scan_module = import_module("snnkit.ops.scan")  # the package's attribute of this name is the function
TROUBLE = cuda.nvrtc_trouble()
needs_cpp = pytest.mark.skipif(cpu.refusal() is not None, reason=f"no compiler: {cpu.refusal()}")
PARTS = 700  # more than the threads that add them up


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """The kernels' texts run as C++."""
    coefficients_cuda.kernels.cache_clear()
    with mock.patch.object(coefficients_cuda, "Function", Emulated), emulated_cuda():
        yield
    coefficients_cuda.kernels.cache_clear()


def learnt(equation: str, dtype: torch.dtype) -> Equation:
    """Parameters are tensors of one value: of LIF one of them, else all that no initial state depends on."""
    neuron = neuron_of(equation)
    names = [n for n in learnable(neuron) if not plan_of(neuron, (n,)).learnt_initial]
    return with_tensors(neuron, (), dtype, ("tau",) if equation == "LIF" else names)


def gradients(s: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(s, leaves, torch.ones_like(s), allow_unused=True, materialize_grads=True)


@pytest.mark.skipif(TROUBLE is not None and TROUBLE.absent, reason=f"no NVRTC: {TROUBLE}")
@pytest.mark.parametrize("equation", EQUATIONS)
def test_every_text_compiles(equation):
    for architecture, dtype in (("sm_90", torch.float32), ("sm_80", torch.float64)):
        plan = plan_of(learnt(equation, dtype))
        text = coefficients_cuda.text(plan.program, [dtype] * len(plan.program.tensors), dtype)
        image = nvrtc.cubin(text, architecture).read_bytes()
        assert b"coefficients" in image and b"coefficient_gradients" in image


@needs_cpp
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_values_and_gradients_are_those_of_torch(equation, dtype):
    neuron = learnt(equation, dtype)
    plan = plan_of(neuron)
    given = [v for v in neuron.parameters().values() if isinstance(v, Tensor)]
    count = len(plan.program.tensor_coefficients)
    noise = torch.Generator().manual_seed(1)
    sums = [torch.rand(PARTS, dtype=torch.float64, generator=noise) for _ in range(count)]
    flows = [i in plan.program.g_coefficients for i in plan.program.tensor_coefficients]
    expected = plan.program.tensor_values({**plan.fixed, **dict(zip(plan.program.tensors, given, strict=True))}, dtype)
    g = [f * s.sum().to(c) for f, s, c in zip(flows, sums, expected, strict=True)]
    g_expected = torch.autograd.grad(expected, given, g, allow_unused=True, materialize_grads=True)
    with on_the_cpu():
        kernels = coefficients_cuda.kernels(plan.program, (dtype,) * len(given), dtype, -1)
        numbers = coefficients_cuda.numbers(plan.program, plan.fixed)
        values = kernels.values(given, numbers)
        sent = [s if f else None for f, s in zip(flows, sums, strict=True)]
        found = kernels.gradients(given, [True] * len(given), sent, numbers)
    single = dtype == torch.float32
    for a, b in zip(values.unbind(), expected, strict=True):
        assert a.dtype == b.dtype and error(a, b) < (2e-7 if single else 1e-14)
    assert [a is not None for a in found] == list(kernels.reached)
    found = [torch.zeros_like(b) if a is None else a for a, b in zip(found, g_expected, strict=True)]
    for a, b in zip(found, g_expected, strict=True):  # torch rounds each coefficient's part before it adds them up
        assert a.dtype == b.dtype and error(a, b) < (1e-5 if single else 1e-12)


@needs_cpp
def test_a_parameter_that_must_be_positive_and_is_not_gives_nan_and_gets_no_gradient():
    tau = torch.tensor(-2.0, requires_grad=True)
    plan = plan_of(LIF().bind({"tau": tau}))
    count = len(plan.program.tensor_coefficients)
    with on_the_cpu():
        kernels = coefficients_cuda.kernels(plan.program, (torch.float32,), torch.float32, -1)
        assert kernels.values([tau], ()).isnan().all()
        sums = [torch.ones(3, dtype=torch.float64)] * count
        assert kernels.gradients([tau], [True], sums, ())[0].item() == 0.0
        assert kernels.gradients([tau], [False], sums, ()) == [None]


@needs_cpp
@pytest.mark.parametrize("equation", ["LIF", "PLIF", "ALIF", "AdLIF"])
def test_the_short_way_equals_the_long_one(equation):
    neuron, x = learnt(equation, torch.float32), drive(equation, (9, 2, 3), torch.float32).requires_grad_()
    plan, given = plan_of(neuron), neuron.parameters()
    leaves = [x, *(v for v in given.values() if isinstance(v, Tensor))]
    expected = run(plan, given, x, None, (), None, False).output
    with on_the_cpu():
        s = scan_learnt.learnt_scan(plan, given, x)
        found = gradients(s, leaves)
    assert torch.equal(s, expected) and s.any()
    for a, b in zip(found, gradients(expected, leaves), strict=True):
        assert a.dtype == b.dtype and error(a, b) < 1e-5


# --- on a GPU -----------------------------------------------------------------------------------------------------


def both_ways(neuron: Equation, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    found = []
    for short in (True, False):
        with monkeypatch.context() as patch:
            if not short:
                patch.setattr(scan_module, "is_learnt", lambda *call: False)
            given = neuron.parameters()
            leaves = [x, *(v for v in given.values() if isinstance(v, Tensor) and v.requires_grad)]
            s = run(plan_of(neuron), given, x, None, (), None, False).output
            found.append([s.detach(), *gradients(s, leaves)])
    return found


@gpus()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_on_a_gpu_both_ways_give_the_same(equation, dtype, monkeypatch):
    neuron = learnt(equation, torch.float64 if dtype == torch.float64 else torch.float32)
    tensors = {n: on(v, DEVICE).requires_grad_() for n, v in neuron.parameters().items() if isinstance(v, Tensor)}
    neuron = neuron.bind(tensors)
    for length in (4, 12, 40):
        x = drive(equation, (length, 2, 3), torch.float64).to(DEVICE, dtype).requires_grad_()
        assert scan_learnt.is_learnt(plan_of(neuron), neuron.parameters(), x)
        short, long = both_ways(neuron, x, monkeypatch)
        for a, b in zip(short, long, strict=True):
            # The same sums, rounded once instead of twice; an exp may differ in its last bit.
            assert a.dtype == b.dtype and error(a, b) < (1e-12 if dtype == torch.float64 else 1e-6)


@gpus()
def test_a_second_derivative_raises_and_frozen_parameters_get_none():
    tau, beta = torch.tensor(2.5, device=DEVICE, requires_grad=True), torch.tensor(0.5, device=DEVICE)
    neuron = ALIF().bind({"tau": tau, "beta": beta})
    x = drive("ALIF", (6, 2, 3), torch.float32).to(DEVICE).requires_grad_()
    s = run(plan_of(neuron), neuron.parameters(), x, None, (), None, False).output
    s.sum().backward(retain_graph=True)
    assert beta.grad is None and tau.grad is not None
    g = torch.autograd.grad(s.sum(), tau, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="differentiated twice"):
        g.backward()
