"""Names of sparch (Bittar and Garner 2022): a list of layers, of which the last is the readout."""

from __future__ import annotations

from torch import nn

from snnkit.models._official.table import Rows, State, Table


def _rows(model: nn.Module) -> Rows:
    """A layer holds everything; alpha and kin belong to the neurons, which a recurrent layer has inside."""
    rows: list[tuple[str, str]] = []
    blocks = list(model.get_submodule("blocks").children())
    for i, block in enumerate(blocks):
        inner = f"blocks.{i}.{'layer.' if hasattr(block, 'layer') else ''}"
        block = getattr(block, "layer", block)
        recurrent = hasattr(block.neuron, "connections")
        neuron = f"{inner}neuron.{'neuron.' if recurrent else ''}"
        rows += [(f"snn.{i}.W.", f"{inner}synapse."), (f"snn.{i}.norm.", f"{inner}norm.")]
        rows += [(f"snn.{i}.V.", f"{inner}neuron.")] if recurrent else []
        rows += [(f"snn.{i}.", neuron)]
    i = len(blocks)
    return [*rows, (f"snn.{i}.W.", "head.synapse."), (f"snn.{i}.norm.", "head.norm."), (f"snn.{i}.", "head.membrane.")]


def _mend(model: nn.Module, state: State, where: str) -> State:
    """V[source, target] is our weight[target, source]; its diagonal has no meaning."""
    mended = dict(state)
    for name, value in state.items():
        if name.endswith("neuron.weight") and value.ndim == 2:
            mended[name] = value.t().contiguous().fill_diagonal_(0.0)
    return mended


TABLE = Table("RadLIFNet", r"snn\.\d+\.", _rows, mend=_mend)
