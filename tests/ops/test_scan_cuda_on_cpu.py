"""The CUDA kernels' logic without a GPU: their texts run on the CPU, beside the kernels made for it."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from snnkit.equations import ALIF, LIF, AdLIF, Equation
from snnkit.ops import cpu, scan, scan_cpu, scan_cuda, scan_work
from snnkit.ops.program import plan_of
from tests.cuda_on_cpu import emulated_cuda
from tests.equations_under_test import with_tensors

pytestmark = pytest.mark.skipif(cpu.refusal() is not None, reason=f"no compiler: {cpu.refusal()}")

B, C = 3, 8
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def all_of(
    neuron: Equation, x: Tensor, steps: int | None, given: bool, wanted: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of a call and the gradients of all that it was given."""
    noise = torch.Generator().manual_seed(3)
    compute = torch.float64 if x.dtype == torch.float64 else torch.float32
    x = x.clone().requires_grad_()
    start = {n: torch.rand(x.shape[1:], dtype=compute, generator=noise).requires_grad_() for n in neuron.states}
    s, state, traces = scan(neuron, x, start if given else None, ("v",) if "trace" in wanted else (), steps)
    outputs = [s] * ("s" in wanted.split()) + [*traces.values()] + list(state.values()) * ("last" in wanted)
    learnt = [p for p in neuron.parameters().values() if isinstance(p, Tensor)]
    inputs = [x, *(start.values() if given else ()), *learnt]
    g = [torch.rand(o.shape, dtype=torch.float64, generator=noise).to(o.dtype) - 0.5 for o in outputs]
    found = torch.autograd.grad(outputs, inputs, g, allow_unused=True)
    return [o.detach() for o in (s, *state.values(), *traces.values())], [f for f in found if f is not None]


def compare(
    neuron: Equation, x: Tensor, lanes: str, steps: int | None = None, given: bool = True, wanted: str = "s trace last"
) -> None:
    expected, g_expected = all_of(neuron, x, steps, given, wanted)
    few = 1 if lanes == "wide" else 1 << 17
    with emulated_cuda(), mock.patch.object(scan_work, "_FEW_LANES", few):
        got, g_got = all_of(neuron, x, steps, given, wanted)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    assert len(g_got) == len(g_expected)
    for a, b in zip(g_got, g_expected, strict=True):
        a, b = a.double().nan_to_num(7.0), b.double().nan_to_num(7.0)
        assert (a - b).norm() <= CLOSE[x.dtype] * b.norm()


def sequence(steps: int, dtype: torch.dtype = torch.float64) -> Tensor:
    noise = torch.Generator().manual_seed(steps)
    return (2.5 * torch.rand(steps, B, C, dtype=torch.float64, generator=noise)).to(dtype)


@pytest.mark.parametrize("lanes", ["few", "wide"])
@pytest.mark.parametrize("steps", [0, 1, 3, 9, 16, 20, 33, 100])
def test_every_length_gives_what_the_cpu_gives(steps, lanes):
    compare(with_tensors(ALIF(), (), torch.float64, ("tau", "beta")), sequence(steps), lanes)


@pytest.mark.parametrize("neuron", [LIF(), ALIF(), AdLIF()], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("steps", [3, 8, 16, 20])
def test_sums_over_all_lanes_and_nothing_else_are_complete(steps, dtype, neuron):
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    learnt = with_tensors(neuron, (), compute, neuron.parameter_names)
    many = torch.cat([sequence(steps, dtype)] * 60, 2)
    with mock.patch.object(scan_cuda, "_most_blocks", lambda *_: 2):  # a thread has several places
        compare(learnt, many, "wide", given=False, wanted="s")


@pytest.mark.parametrize("lanes", ["few", "wide"])
@pytest.mark.parametrize("steps", [4, 20, 40])
def test_a_value_a_lane_has_its_gradient(steps, lanes):
    neuron = with_tensors(ALIF(), (C,), torch.float64, ("tau_a", "v_threshold"))
    compare(neuron, sequence(steps), lanes)
    compare(neuron, sequence(steps), lanes, given=False, wanted="s")  # several rows, no states


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("steps", [4, 20, 40])
def test_every_dtype_rounds_as_on_the_cpu(steps, dtype):
    compare(LIF(tau=3.0), sequence(steps, dtype), "wide" if steps < 40 else "few")


@pytest.mark.parametrize("wanted", ["last", "trace", "s"])
@pytest.mark.parametrize("steps", [4, 20])
def test_a_gradient_that_does_not_arrive_counts_as_zero(steps, wanted):
    compare(ALIF(), sequence(steps), "wide", wanted=wanted)


@pytest.mark.parametrize("steps", [5, 21, 50])
def test_a_still_image_has_one_row_of_gradient(steps):
    compare(LIF(), sequence(1), "few", steps=steps, given=False, wanted="s last")


@pytest.mark.parametrize("tau", [2.0, 3.7, 1e-30])
def test_with_few_lanes_and_many_steps_a_division_that_was_not_sure_is_done_again(tau):
    noise = torch.Generator().manual_seed(1)
    x = torch.rand(50, B, C, generator=noise) * torch.exp2(torch.randint(-140, 60, (50, B, C), generator=noise).float())
    x[torch.rand(50, B, C, generator=noise) < 0.3] = 0.0
    x[20, 0], x[21, 1], x[22, 2] = float("inf"), float("nan"), -1e38
    neuron = LIF(tau=tau, v_threshold=1e30)
    expected = scan(neuron, x, record=("v",)).traces["v"]
    with emulated_cuda():
        got = scan(neuron, x, record=("v",)).traces["v"]
    same = (got == expected) | (got.isnan() & expected.isnan())
    assert (same | (expected.abs() < 1.2e-38)).all(), "only the last bit of a subnormal number may differ (divide.cuh)"


def simple(module: Any, neuron: Equation, x: Tensor, g: Tensor, moved: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Forward and backward by the short way of simple calls; in between x may move."""
    plan = plan_of(neuron)
    out, kept, back = module.simple_forward(plan.program, x, plan.constants, True)
    assert (kept is not None) == (len(x) > 16)
    return out, module.simple_backward(g, x if moved is None else moved, kept, back)


@pytest.mark.parametrize("lanes", ["few", "wide"])
@pytest.mark.parametrize("neuron", [LIF(tau=3.0), ALIF()], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("steps", [4, 100])
def test_the_states_that_a_forward_keeps_serve_its_backward(steps, dtype, neuron, lanes):
    x, g = sequence(steps, dtype), sequence(steps + 1, dtype)[:steps] - 1.0
    expected = simple(scan_cpu, neuron, x.float(), g.float())
    with emulated_cuda(), mock.patch.object(scan_work, "_FEW_LANES", 1 if lanes == "wide" else 1 << 17):
        scan_cuda._launches.cache_clear()
        got = simple(scan_cuda, neuron, x, g)
        scan_cuda._launches.cache_clear()
    assert torch.equal(got[0].float(), expected[0])
    assert (got[1] - expected[1]).double().norm() <= CLOSE[dtype] * expected[1].double().norm()


@pytest.mark.parametrize("steps", [4, 100])
@pytest.mark.parametrize("offsets", [(0, 1, 0), (1, 0, 0), (2, 1, 3), (0, 0, 1)])
def test_x_may_come_back_at_another_address_and_g_lie_anywhere(offsets, steps):
    size = steps * B * C
    x, g = sequence(steps, torch.float32), sequence(steps + 1, torch.float32)[:steps] - 1.0
    expected = simple(scan_cpu, LIF(), x, g)
    places = zip(offsets, (x, x, g), strict=True)
    first, then, g = (torch.zeros(size + 4)[o : o + size].view_as(x).copy_(v) for o, v in places)
    with emulated_cuda(), mock.patch.object(scan_work, "_FEW_LANES", 1):
        scan_cuda._launches.cache_clear()
        got = simple(scan_cuda, LIF(), first, g, then)
        scan_cuda._launches.cache_clear()
    assert (got[1] - expected[1]).norm() <= 1e-5 * expected[1].norm()


def of_every_size(steps: int, least: float, dtype: torch.dtype) -> Tensor:
    """Inputs between ``least`` and 1e36, 1e36 times the least, and silence."""
    noise = torch.Generator().manual_seed(steps)
    scale = math.log10(1e36 / least) * torch.rand(steps, B, 1, dtype=torch.float64, generator=noise)
    x = least * 10.0**scale * torch.randn(steps, B, C, dtype=torch.float64, generator=noise)
    x[:, 0] = x[:, 0].clamp(-100 * least, 100 * least)  # a row in which all numbers are tiny
    x[1:, 1] = 0.0  # silence after the first step
    x[0, 2, :3] = torch.tensor([float("inf"), float("-inf"), float("nan")])
    return x.to(dtype)


@pytest.mark.parametrize("neuron", [LIF(tau=1.9), ALIF(tau=3.0), LIF(tau=3.0, v_threshold=1e-32)], ids=repr)
@pytest.mark.parametrize("lanes", ["few", "wide"])
@pytest.mark.parametrize("steps", [4, 20, 100])
def test_a_division_is_exact_for_inputs_of_every_size(steps, lanes, neuron):
    compare(neuron, of_every_size(steps, 1e-44, torch.float32), lanes, given=False)


@pytest.mark.parametrize("neuron", [LIF(tau=3.0), ALIF(tau=3.0), LIF(tau=3.7, v_threshold=1e-15)], ids=repr)
@pytest.mark.parametrize("lanes", ["few", "wide"])
@pytest.mark.parametrize("steps", [4, 20])
def test_in_half_precision_a_division_is_exact_but_for_tiny_numbers(steps, lanes, neuron):
    compare(neuron, of_every_size(steps, 1e-20, torch.bfloat16), lanes, given=False)
