"""What an optimiser should do with each parameter of a network of delays."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class ParameterGroups(NamedTuple):
    """What wants its own optimiser settings; the numbers are the paper's."""

    weights: list[nn.Parameter]  # of the connections, and learnable time constants: weight decay 1e-5 (L2)
    others: list[nn.Parameter]  # of norms and filters, and biases: no decay
    positions: list[nn.Parameter]  # and learnable widths: no decay, learning rate 0.1 where the weights have 5e-3


def parameter_groups(model: nn.Module) -> ParameterGroups:
    """The trainable parameters of a network whose connections are called ``synapse``, sorted."""
    groups = ParameterGroups([], [], [])
    for name, parameter in model.named_parameters():
        part, leaf = name.split(".")[-2:]
        if not parameter.requires_grad:
            continue
        if (part == "synapse" and leaf in ("P", "SIG")) or (part == "neuron" and leaf in ("delay", "spread")):
            groups.positions.append(parameter)
        elif (part == "synapse" and leaf == "weight") or part in ("neuron", "membrane"):
            groups.weights.append(parameter)
        else:
            groups.others.append(parameter)
    return groups
