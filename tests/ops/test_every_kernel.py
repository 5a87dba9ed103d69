"""Compiled kernels against the reference: each pair of equation, surrogate, reset, dtype, parameter shape, ... meets.

Spikes and states are equal to the bit. Neurons with exp, which torch rounds otherwise, are compared to their tolerance
in the lanes that fire at the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnkit.ops import scan
from tests.closeness import error, same_bits, tolerance
from tests.compiled_together import compiled_together
from tests.equations_under_test import (
    EQUATIONS,
    RESETS,
    SURROGATES,
    by_reference,
    drive,
    initial_state,
    learnable,
    neuron_of,
    pairwise,
    rounds_as_torch,
    tamed,
    with_tensors,
)
from tests.shared import needs_compiler

T, B, H, C = 7, 2, 5, 3
FACTORS: dict[str, list[Any]] = {
    "equation": list(EQUATIONS),
    "surrogate": list(SURROGATES),
    "reset": list(RESETS),
    "dtype": [torch.float32, torch.float64],
    "shape": [None, (), (H, 1), (H, C)],  # of the parameters: numbers, or tensors with gradient
    "every": [True, False],  # all parameters are tensors, or the first and the last one
    "record": ["nothing", "first", "all"],
    "steps": [None, 4],
    "start": ["initial", "given"],
}


class Run:
    """One case, run by ``scan`` or by the reference."""

    def __init__(self, case: dict[str, Any], scan: Callable[..., Any]) -> None:
        dtype, steps = case["dtype"], case["steps"]
        neuron = neuron_of(case["equation"], case["surrogate"], case["reset"])
        x = drive(case["equation"], (1 if steps else T, B, H, C), dtype)
        if case["shape"] is not None:
            names = learnable(neuron) if case["every"] else [learnable(neuron)[-1], next(iter(neuron.parameters()))]
            neuron = with_tensors(neuron, case["shape"], dtype, names)
        start = None
        if case["start"] == "given":
            noise = torch.rand(x.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(3))
            start = {n: (v + 0.1 * noise).to(dtype).detach() for n, v in initial_state(neuron, x).items()}
            start = {n: v.requires_grad_() for n, v in start.items()}
        x = tamed(neuron, x, start, steps).requires_grad_()
        names = tuple(neuron.states)
        record = {"nothing": (), "first": names[:1], "all": names[::-1]}[case["record"]]
        s, last, traces = scan(neuron, x, start, record, steps)
        self.s = s
        self.outputs = (
            {"s": s} | {f"last {n}": v for n, v in last.items()} | {f"trace {n}": v for n, v in traces.items()}
        )
        tensors = {n: v for n, v in neuron.parameters().items() if isinstance(v, Tensor)}
        self.inputs = {"x": x} | tensors | {f"first {n}": v for n, v in (start or {}).items()}

    def gradients(self, lanes: Tensor) -> dict[str, Tensor]:
        """Gradients of a weighted sum of all outputs in the given lanes; weights > 0 keep sums from cancelling."""
        noise = torch.Generator().manual_seed(2)
        weights = [torch.rand(o.shape, dtype=torch.float64, generator=noise) for o in self.outputs.values()]
        pairs = [(o, (lanes * w).to(o.dtype)) for o, w in zip(self.outputs.values(), weights, strict=True)]
        pairs = [(o, w) for o, w in pairs if o.requires_grad]
        found = torch.autograd.grad(
            [o for o, _ in pairs],
            list(self.inputs.values()),
            [w for _, w in pairs],
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(self.inputs, found, strict=True))


@needs_compiler
def test_compiled_kernels_equal_the_reference_for_each_pair_of_choices():
    cases = pairwise(FACTORS)
    references = [Run(case, by_reference) for case in cases]

    def calls() -> list[tuple[Run, Tensor, dict[str, Tensor]]]:
        results = []
        for case, expected in zip(cases, references, strict=True):
            run = Run(case, scan)
            lanes = same_bits(run.s, expected.s).all(0)
            results.append((run, lanes, run.gradients(lanes)))
        return results

    for case, expected, (run, lanes, gradients) in zip(cases, references, compiled_together(calls), strict=True):
        compare("-".join(map(str, case.values())), case, run, gradients, expected, lanes)


def compare(
    name: str, case: dict[str, Any], run: Run, gradients: dict[str, Tensor], expected: Run, lanes: Tensor
) -> None:
    """Hold one case against the reference."""
    if rounds_as_torch(neuron_of(case["equation"], case["surrogate"], case["reset"])):
        for output, value in run.outputs.items():
            assert same_bits(value, expected.outputs[output]).all(), f"{name}: {output}"
    else:
        assert not EQUATIONS[case["equation"]][0]._fires or lanes.double().mean() > 0.9, f"{name}: spikes"
    for output, value in run.outputs.items():
        e = expected.outputs[output]
        assert (value.dtype, value.shape) == (e.dtype, e.shape), f"{name}: {output}"
        assert error(value[..., lanes], e[..., lanes]) < tolerance(case["dtype"]), f"{name}: {output}"
    for leaf, e in expected.gradients(lanes).items():
        assert gradients[leaf].dtype == e.dtype, f"{name}: gradient of {leaf}"
        assert error(gradients[leaf], e) < tolerance(case["dtype"]), f"{name}: gradient of {leaf}"
