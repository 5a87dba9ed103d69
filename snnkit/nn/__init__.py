"""Torch modules: neurons, delays, readouts, time."""

from snnkit.nn import losses
from snnkit.nn.carry import Stateful, carry
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.neuron import IF, LI, LIF, PLIF, Neuron, check_parameters, neuron_module
from snnkit.nn.norm import BatchNorm
from snnkit.nn.observer import firing_rates, saturated, silent, unit_rates
from snnkit.nn.readout import LastStep, MaxOverTime, MeanOverTime, Membrane, SumOfSoftmax, SumOverTime
from snnkit.nn.relaxed import relaxed
from snnkit.nn.synapse import SynapseFilter
from snnkit.nn.time import PerStep, TimeDropout

__all__ = [
    "IF",
    "LI",
    "LIF",
    "PLIF",
    "BatchNorm",
    "LastStep",
    "MaxOverTime",
    "MeanOverTime",
    "Membrane",
    "Neuron",
    "PerStep",
    "Stateful",
    "SumOfSoftmax",
    "SumOverTime",
    "SynapseFilter",
    "TimeDropout",
    "carry",
    "check_parameters",
    "checkpoint",
    "firing_rates",
    "losses",
    "neuron_module",
    "relaxed",
    "saturated",
    "silent",
    "unit_rates",
]
