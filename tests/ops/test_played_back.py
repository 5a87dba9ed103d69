"""The lists run by torch: the same bits and gradients as the kernels, under dispatch modes, too."""

from __future__ import annotations

import pytest
import torch
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from snnkit.equations import LIF, AdLIF, Soft
from snnkit.ops import cpu, scan
from snnkit.ops.program import plan_of
from tests.closeness import error

T, B, C = 6, 2, 3
NEURONS = {
    "LIF": lambda: LIF(),
    "tau a channel": lambda: LIF(tau=torch.tensor([1.5, 2.0, 3.0]).double().requires_grad_(), reset=Soft()),
    "three states": lambda: AdLIF(),
}


def results(neuron, x, steps=None):
    out = scan(neuron, x, record=tuple(neuron.states), steps=steps)
    parts = [out.output, *out.state.values(), *out.traces.values()]
    weights = [torch.linspace(0.5, 1.5, part.numel()).view_as(part) for part in parts]
    loss = sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True))
    leaves = [x, *(v for v in neuron.parameters().values() if isinstance(v, torch.Tensor))]
    return parts, torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("steps", [None, 4])
@pytest.mark.parametrize("name", NEURONS)
def test_lists_equal_kernels_also_under_a_dispatch_mode(name, steps, monkeypatch):
    if cpu.refusal():
        pytest.skip("needs a compiler to compare with")
    neuron = NEURONS[name]()
    x = (2 * torch.rand(T if steps is None else 1, B, C, dtype=torch.float64)).requires_grad_()
    compiled, g_compiled = results(neuron, x, steps)
    monkeypatch.setattr(cpu, "refusal", lambda: "not for this test")
    plain, g_plain = results(neuron, x, steps)
    with FlopCounterMode(display=False):
        _, g_watched = results(neuron, x, steps)
    assert all(torch.equal(a, b) for a, b in zip(compiled, plain, strict=True))
    for a, b, c in zip(g_compiled, g_plain, g_watched, strict=True):
        assert error(b, a) < 1e-12 and error(c, a) < 1e-12 and b.abs().sum() > 0


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "lists"])
def test_fake_and_real_agree_for_layouts_and_for_parameters_that_are_not_contiguous(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(cpu, "refusal", lambda: "not for this test")
    tau = (torch.rand(5, 3) + 1.5).t()
    neuron = LIF(tau=tau)
    plan = plan_of(neuron)
    coefficients = plan.program.tensor_values(neuron.parameters(), torch.float32)
    for x in (torch.rand(T, B, 3, 5), torch.rand(B, T, 3, 5).transpose(0, 1), torch.rand(T, B, 5, 3).transpose(2, 3)):
        key = f"{plan.program.key}|v|1"
        rest = (x, coefficients, [], plan.constants, -1, key)
        outputs = torch.ops.snnkit.scan.default(*rest)
        opcheck(torch.ops.snnkit.scan.default, rest)
        opcheck(torch.ops.snnkit.scan_backward.default, ([torch.rand_like(part) for part in outputs], *rest))
