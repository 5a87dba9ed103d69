"""SpikingJelly 2.0's neurons as the oracle: the same input, the same loss, spikes, membranes and all gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from snnkit.equations import Equation, Hard, Reset, Soft
from snnkit.ops import scan
from tests.closeness import error, same_bits
from tests.equations_under_test import by_reference

T, B, C = 24, 3, 5
# -0.25, a dyadic number: SpikingJelly starts some neurons at v_reset (and w_rest) rounded to float32.
RESETS = [Hard(0.0), Hard(0.0, detach=True), Hard(-0.25), Hard(-0.25, detach=True), Soft(), Soft(detach=True)]


def drive(low: float, high: float, seed: int = 0) -> Tensor:
    """Return inputs ``[T, B, C]`` in float64, uniform between low and high."""
    noise = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(T, B, C, dtype=torch.float64, generator=noise)


def spikingjelly(name: str, reset: Reset, **keywords: Any) -> Any:
    """Make SpikingJelly's neuron of this class, for whole sequences, with its membranes kept."""
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = getattr(neuron, name)(**keywords).double()
    node.step_mode, node.detach_reset = "m", reset.detach
    node.v_reset = reset.v_reset if isinstance(reset, Hard) else None
    node.set_reset_value("v", reset.v_rest)
    node.reset()
    node.store_v_seq = True
    return node


def agree(
    equation: Equation,
    node: Any,
    x: Tensor,
    states: dict[str, str],
    learnt: dict[str, str] | None = None,
    compiled: bool = False,
) -> None:
    """Compare spikes to the bit, the rest to 1e-12 of its norm (some hundred roundings of 1e-16).

    Args:
        equation: ours; parameters named in ``learnt`` are learnt.
        node: SpikingJelly's.
        x: ``[T, B, C]``.
        states: our states and theirs; the first is the membrane, compared at every step.
        learnt: our parameters and theirs.
        compiled: run ours by ``scan``, else by the plain reference (other tests compare the two).
    """
    learnt = learnt or {}
    ours = {n: torch.tensor(equation.parameters()[n], dtype=torch.float64, requires_grad=True) for n in learnt}
    theirs = [getattr(node, n) for n in learnt.values()]
    noise = torch.Generator().manual_seed(1)
    g_s, g_v, g_last = (torch.randn(x.shape, dtype=torch.float64, generator=noise) for _ in range(3))
    first = next(iter(states))

    x1 = x.clone().requires_grad_()
    s1 = node(x1)
    last1 = [getattr(node, n) for n in states.values()]
    v1 = node.v_seq if node.v_seq is not None else node.state_seqs[0]
    loss = (s1 * g_s).sum() + (v1 * g_v).sum() + sum((a * g_last[k]).sum() for k, a in enumerate(last1))
    expected = torch.autograd.grad(loss, [x1, *theirs])

    x2 = x.clone().requires_grad_()
    s2, last, traces = (scan if compiled else by_reference)(equation.bind(ours), x2, record=(first,))
    last2 = [last[n] for n in states]
    loss = (s2 * g_s).sum() + (traces[first] * g_v).sum() + sum((a * g_last[k]).sum() for k, a in enumerate(last2))
    got = torch.autograd.grad(loss, [x2, *ours.values()])

    assert 0.05 < s1.detach().mean() < 0.95, "the neuron fires always or never: the test says nothing"
    assert same_bits(s2, s1.to(s2.dtype)).all()
    assert error(traces[first], v1) < 1e-12
    for name, a, b in zip(states, last2, last1, strict=True):
        assert error(a, b) < 1e-12, name
    for name, a, b in zip(["x", *ours], got, expected, strict=True):
        assert error(a, b) < 1e-12, f"gradient of {name}"
