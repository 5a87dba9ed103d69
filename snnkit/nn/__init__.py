"""Torch modules: neurons, delays, readouts, time."""

from snnkit.nn import losses
from snnkit.nn.carry import Stateful, carry
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.norm import BatchNorm
from snnkit.nn.observer import firing_rates, saturated, silent, unit_rates
from snnkit.nn.readout import LastStep, MaxOverTime, MeanOverTime, Membrane, SumOfSoftmax, SumOverTime
from snnkit.nn.synapse import SynapseFilter
from snnkit.nn.time import PerStep, TimeDropout

__all__ = [
    "BatchNorm",
    "LastStep",
    "MaxOverTime",
    "MeanOverTime",
    "Membrane",
    "PerStep",
    "Stateful",
    "SumOfSoftmax",
    "SumOverTime",
    "SynapseFilter",
    "TimeDropout",
    "carry",
    "checkpoint",
    "firing_rates",
    "losses",
    "saturated",
    "silent",
    "unit_rates",
]
