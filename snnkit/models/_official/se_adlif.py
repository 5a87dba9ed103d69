"""Names of SE-adlif (Baronig et al. 2025): layers l1, l2, ..., and out_layer."""

from __future__ import annotations

from torch import nn

from snnkit.models._official.table import Rows, State, Table

RANGES = {"tau_u_trainer": (5.0, 25.0), "tau_w_trainer": (60.0, 300.0)}


def _rows(model: nn.Module) -> Rows:
    """A layer holds weights, recurrent weights and neurons side by side."""
    rows: list[tuple[str, str]] = []
    for i, _ in enumerate(model.get_submodule("blocks").children()):
        here, neuron = f"l{i + 1}.", f"blocks.{i}.neuron."
        rows += [(f"{here}recurrent", f"{neuron}weight"), (f"{here}weight", f"blocks.{i}.synapse.weight")]
        rows += [(f"{here}bias", f"blocks.{i}.synapse.bias")]
        rows += [(f"{here}{name}", f"{neuron}neuron.{name}") for name in ("a", "b")]
        rows += [(f"{here}tau_{k}_trainer.weight", f"{neuron}neuron.omega_{k}") for k in "uw"]
    return [*rows, ("out_layer.weight", "head.synapse.weight"), ("out_layer.bias", "head.synapse.bias")]


def _mend(model: nn.Module, state: State, where: str) -> State:
    """The ranges of the time constants lie beside what is trained; the readout's range is one value, 15."""
    mended = dict(state)
    for name, value in state.items():
        if name.startswith("out_layer.tau_u_trainer."):
            if float(value.max()) != 15.0 or float(value.min()) != 15.0:
                raise ValueError(f"{where}: {name} is not 15, the time constant of the readout here.")
            del mended[name]
        elif name.endswith(("tau_min", "tau_max")):
            low, high = RANGES[name.split(".")[-2]]
            expected = high if name.endswith("max") else low
            if float(value) != expected:
                raise ValueError(f"{where}: {name} is {float(value):g}, here {expected:g}.")
            del mended[name]
    return mended


TABLE = Table("SEAdLIFNet", r"(l\d+|out_layer)\.", _rows, mend=_mend)
