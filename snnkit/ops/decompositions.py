"""The neuron operator in torch's own operators, for programs that leave it: ``ExportedProgram.run_decompositions``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snnkit.ops.played_back import Lists
from snnkit.ops.scan_operator import kind_of, scan_forward


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The decomposition of the scan: one step after the other, in torch's operators.

    ``torch.export`` keeps a neuron as one operator, which needs snnkit to run. Elsewhere, take it apart. The number of
    steps is then fixed.

    >>> from snnkit.nn import LIF
    >>> program = torch.export.export(LIF().eval(), (torch.zeros(3, 2, 4),))
    >>> plain = program.run_decompositions(torch.export.default_decompositions() | decompositions())
    >>> sum("snnkit" in str(node.target) for node in program.graph.nodes)
    1
    >>> sum("snnkit" in str(node.target) for node in plain.graph.nodes)
    0
    """
    return {scan_forward.op: _forward}


@torch.no_grad()
def _forward(
    x: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor], numbers: Sequence[float], steps: int, key: str
) -> list[Tensor]:
    """As ``played_back.forward``, writing into nothing: an exported program has no memory of its own."""
    kind = kind_of(key)
    step = kind.program.step
    lists = Lists(kind.program, x, coefficients, numbers)
    states = lists.start(before)
    out, traces = [], [[] for _ in kind.record]  # type: list[Tensor], list[list[Tensor]]
    for t in range(len(x) if steps < 0 else steps):
        known = lists.at(t, states, steps >= 0)
        out.append(lists.value(step.output, known).to(x.dtype))
        states = lists.after(known)
        for trace, name in zip(traces, kind.record, strict=True):
            trace.append(states[name])
    after = [states[name].clone() for name in kind.program.states] if kind.final else []
    return [torch.stack(out), *after, *map(torch.stack, traces)]
