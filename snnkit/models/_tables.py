"""Names of the papers' official state dicts in ours: one table a paper."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Table:
    """How one paper's code names its tensors.

    Attributes:
        model: name of our class.
        pattern: what each of their names looks like.
        rows: function of our model that returns (their prefix, ours).
        mend: function (model, state in our names, where) that adapts values and raises on what can't be meant.
    """

    model: str
    pattern: str
    rows: Callable[[nn.Module], list[tuple[str, str]]]
    mend: Callable[[nn.Module, State, str], State]

    def fits(self, model: nn.Module, state: State) -> bool:
        """Whether the names of a state dict are of this table."""
        return type(model).__name__ == self.model and all(re.match(self.pattern, key) for key in state)

    def translate(self, model: nn.Module, state: State, where: str) -> tuple[State, dict[str, str]]:
        """Return the state in our names, and their name for each of ours."""
        rows = self.rows(model)
        ours: State = {}
        for key, value in state.items():
            new = next((b + key.removeprefix(a) for a, b in rows if key.startswith(a)), key)
            ours[new] = value
        names = [*ours, *model.state_dict()]
        theirs = {new: next((a + new.removeprefix(b) for a, b in rows if new.startswith(b)), new) for new in names}
        return self.mend(model, ours, where), theirs


def _delay_rows(model: nn.Module) -> list[tuple[str, str]]:
    """SNN-delays: a flat list with four entries a block (delays, norm, neuron, dropout), five with a filter."""
    rows = []
    number = 0
    for i, block in enumerate(model.get_submodule("blocks").children()):
        parts = ["synapse", "norm", "neuron", "dropout", "filter"][: 5 if hasattr(block.filter, "w") else 4]
        rows += [(f"model.{number + k}.", f"blocks.{i}.{part}.") for k, part in enumerate(parts)]
        number += len(parts)
    return [*rows, (f"model.{number}.", "head.synapse."), (f"model.{number + 1}.", "head.membrane.")]


def _delay_values(model: nn.Module, state: State, where: str) -> State:
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


TABLES = {"SNN-delays": Table("DelaySNN", r"model\.\d+\.\w+$", _delay_rows, _delay_values)}
