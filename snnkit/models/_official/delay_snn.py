"""Names of SNN-delays (Hammouamri et al. 2024): a flat list of layers."""

from __future__ import annotations

import torch
from torch import nn

from snnkit.models._official.table import Rows, State, Table


def _rows(model: nn.Module) -> Rows:
    """Four entries a block (delays, norm, neuron, dropout), five with a filter."""
    rows = []
    number = 0
    for i, block in enumerate(model.get_submodule("blocks").children()):
        parts = ["synapse", "norm", "neuron", "dropout", "filter"][: 5 if hasattr(block.filter, "w") else 4]
        rows += [(f"model.{number + k}.", f"blocks.{i}.{part}.") for k, part in enumerate(parts)]
        number += len(parts)
    return [*rows, (f"model.{number}.", "head.synapse."), (f"model.{number + 1}.", "head.membrane.")]


def _mend(model: nn.Module, state: State, where: str) -> State:
    """The kind of kernel is not in these files; an all-zero SIG tells the fixed or triangular one from the gaussian."""
    own = model.state_dict()
    widths = {name: value for name, value in state.items() if name.endswith(".SIG")}
    if widths and not any(torch.any(value) for value in widths.values()):
        if any(name in own for name in widths):
            raise ValueError(
                f"{where} has SIG = 0 everywhere: triangular kernels of width 1. Build the model with "
                "delays=FixedDelays(), or LearntDelays(Triangle()) if they are to go on learning."
            )
        return {name: value for name, value in state.items() if name not in widths}
    return state


TABLE = Table("DelaySNN", r"model\.\d+\.\w+$", _rows, mend=_mend, mark=r"model\.\d+\.P$")
