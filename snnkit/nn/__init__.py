"""Torch modules: neurons, delays, readouts, time."""

from typing import Any

from snnkit._suggest import nearest
from snnkit.nn import losses
from snnkit.nn.attention import SDSA1, SDSA2, SDSA3, SDSA4, SSA, ChannelQK, SpikeAttention, TokenQK
from snnkit.nn.axonal_delay import AxonalDelay
from snnkit.nn.carry import Stateful, carry
from snnkit.nn.check_parameters import check_parameters
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.delay import DelayConv1d, DelayLinear
from snnkit.nn.delayed_recurrence import DelayedRecurrence, HalfNormalDelays, SpreadSchedule, UniformDelays
from snnkit.nn.depthwise import DepthwiseMixer
from snnkit.nn.integer import IELIF
from snnkit.nn.local_delay import LocalDelayLinear
from snnkit.nn.max_embed import (
    FlatStem,
    MaxEmbedding,
    MaxStem,
    PooledStem,
    PoolFirstEmbedding,
    PoolLastEmbedding,
    StridedStem,
)
from snnkit.nn.mlp import MLP, Block
from snnkit.nn.neuron import (
    ALIF,
    CLIF,
    CUBA,
    EIF,
    IF,
    ILIF,
    KLIF,
    LI,
    LIF,
    PLIF,
    QIF,
    EFAdLIF,
    Izhikevich,
    SEAdLIF,
    neuron_module,
)
from snnkit.nn.neuron_layer import Neuron
from snnkit.nn.norm import BatchNorm
from snnkit.nn.norm_neuron import Chain, ConvNormNeuron, MembraneShortcut, NormNeuron, SEWShortcut
from snnkit.nn.observer import firing_rates, saturated, silent, unit_rates
from snnkit.nn.qkv import queries_keys_values
from snnkit.nn.quant import LSQConv1d, LSQConv2d, LSQLinear, lsq
from snnkit.nn.quantised_attention import QSDSA
from snnkit.nn.readout import EveryStep, LastStep, MaxOverTime, MeanOverTime, Membrane, SumOfSoftmax, SumOverTime
from snnkit.nn.recurrent import Bidirectional, Recurrent
from snnkit.nn.relaxed import relaxed
from snnkit.nn.repconv import RepConv
from snnkit.nn.sigma_schedule import SigmaSchedule
from snnkit.nn.sparch import AdLIF
from snnkit.nn.synapse import SynapseFilter
from snnkit.nn.time import DropPath, PerStep, TimeDropout
from snnkit.nn.unrolled import UnrolledIELIF, UnrolledLayer

__all__ = [
    "ALIF",
    "CLIF",
    "CUBA",
    "EIF",
    "IELIF",
    "IF",
    "ILIF",
    "KLIF",
    "LI",
    "LIF",
    "MLP",
    "PLIF",
    "QIF",
    "QSDSA",
    "SDSA1",
    "SDSA2",
    "SDSA3",
    "SDSA4",
    "SSA",
    "AdLIF",
    "AxonalDelay",
    "BatchNorm",
    "Bidirectional",
    "Block",
    "Chain",
    "ChannelQK",
    "ConvNormNeuron",
    "DelayConv1d",
    "DelayLinear",
    "DelayedRecurrence",
    "DepthwiseMixer",
    "DropPath",
    "EFAdLIF",
    "EveryStep",
    "FlatStem",
    "HalfNormalDelays",
    "Izhikevich",
    "LSQConv1d",
    "LSQConv2d",
    "LSQLinear",
    "LastStep",
    "LocalDelayLinear",
    "MaxEmbedding",
    "MaxOverTime",
    "MaxStem",
    "MeanOverTime",
    "Membrane",
    "MembraneShortcut",
    "Neuron",
    "NormNeuron",
    "PerStep",
    "PoolFirstEmbedding",
    "PoolLastEmbedding",
    "PooledStem",
    "Recurrent",
    "RepConv",
    "SEAdLIF",
    "SEWShortcut",
    "SigmaSchedule",
    "SpikeAttention",
    "SpreadSchedule",
    "Stateful",
    "StridedStem",
    "SumOfSoftmax",
    "SumOverTime",
    "SynapseFilter",
    "TimeDropout",
    "TokenQK",
    "UniformDelays",
    "UnrolledIELIF",
    "UnrolledLayer",
    "carry",
    "check_parameters",
    "checkpoint",
    "firing_rates",
    "losses",
    "lsq",
    "neuron_module",
    "queries_keys_values",
    "relaxed",
    "saturated",
    "silent",
    "unit_rates",
]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'snnkit.nn' has no attribute {name!r}.{nearest(name, __all__)}")
