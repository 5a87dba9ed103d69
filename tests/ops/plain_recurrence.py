"""The recurrent scan as one would write it: a loop in torch over the equation's step, with autograd through time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnkit.equations import Equation
from snnkit.ops.reference import reference


def plain_recurrence(
    neuron: Equation, x: Tensor, weight: Tensor, past: Tensor, state: dict[str, Tensor], taps: Tensor | None = None,
    mask: Tensor | None = None, record: Sequence[str] = (),
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:  # fmt: skip
    """Output, last state and traces of ``ops.recurrent.recurrent_scan``."""
    heard = list(past)  # the oldest first
    lags, outputs = len(heard), []
    traces: dict[str, list[Tensor]] = {name: [] for name in record}
    for row in x:
        last = heard[len(heard) - lags :][::-1]  # last[k] is of k + 1 steps ago
        if taps is not None:
            back = sum(tap * s for tap, s in zip(taps, last, strict=True)) @ weight.T
        elif weight.ndim == 3:
            back = sum(s @ w.T for w, s in zip(weight, last, strict=True))
        else:
            back = last[0] @ weight.T
        current = row + (back if mask is None else back * mask)
        out, state, _ = reference(neuron, current[None], state)
        outputs.append(out[0])
        heard.append(out[0])
        for name in record:
            traces[name].append(state[name])
    return torch.stack(outputs), state, {name: torch.stack(rows) for name, rows in traces.items()}
