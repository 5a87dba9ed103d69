"""Names of DelRec (Queant et al. 2025): a flat list of layers, in which spike recorders count, too."""

from __future__ import annotations

from torch import nn

from snnkit.models._official.table import Rows, State, Table

PARTS = (("recurrent_weights", "weight"), ("recurrent_delays", "delay"), ("p_spread", "spread"))


def _rows(model: nn.Module) -> Rows:
    """For SHD linear, norm (not in small ones), neuron, recorder, dropout; else linear, dropout, neuron, recorder."""
    rows: list[tuple[str, str]] = []
    number = 0
    for i, block in enumerate(model.get_submodule("blocks").children()):
        normed, small = block.norm is not None, block.norm is None and block.dropout is not None
        place = number + (1 if small else 2)
        rows.append((f"layers.{number}.", f"blocks.{i}.synapse."))
        if normed:
            rows.append((f"layers.{number + 1}.", f"blocks.{i}.norm."))
        neuron = f"layers.{place}."
        if hasattr(block.neuron, "connections"):
            rows += [(f"{neuron}{theirs}", f"blocks.{i}.neuron.{ours}") for theirs, ours in PARTS]
        rows.append((neuron, f"blocks.{i}.neuron."))
        rows.append((f"layers.{place + 1}.", f"blocks.{i}.neuron."))  # for rates
        number += 5 if normed else 4
    return [*rows, (f"layers.{number}.", "head.synapse.")]


def _mend(model: nn.Module, state: State, where: str) -> State:
    """sigma is a Python number there, in no file: the model's own stays."""
    own = model.state_dict()
    return {**state, **{name: value for name, value in own.items() if name.endswith(".sigma") and name not in state}}


TABLE = Table("DelRecNet", r"layers\.\d+\.(weight|bias|P|running|num_batches|recurrent|p_spread)", _rows, mend=_mend)
