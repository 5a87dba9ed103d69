"""Parts of the delay networks: a connection, with delays or without, how it is drawn, and a membrane that learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from snnkit import equations
from snnkit.equations.symbols import sigmoid
from snnkit.nn.delay import DelayLinear
from snnkit.nn.neuron import PLIF
from snnkit.ops.delay import Gauss, Profile, Triangle


@dataclass(frozen=True)
class LearntDelays:
    """Positions are trained: each synapse is a bump over the taps around its delay.

    Attributes:
        profile: form of the bump.
        width: start of its width parameter SIG, in steps. Default: max_delay // 2 for the gauss (to be annealed, see
            ``snnkit.nn.SigmaSchedule``), no width for the others.
        learn_width: train the width, too.
    """

    profile: Profile = Gauss()
    width: float | None = None
    learn_width: bool = False


@dataclass(frozen=True)
class FixedDelays:
    """Whole random delays, drawn once and never trained: the paper's control experiment."""


def connection(
    inputs: int,
    outputs: int,
    max_delay: int,
    delays: LearntDelays | FixedDelays | None,
    kernel_count: int,
    bias: bool,
    sparsity: float,
) -> DelayLinear | nn.Linear:
    """One layer's synapses, initialised as in the paper's code; a share ``sparsity`` of the weights is missing."""
    layer: DelayLinear | nn.Linear
    keywords: dict[str, Any] = dict(kernel_count=kernel_count, bias=bias)
    if delays is None:
        layer = nn.Linear(inputs, outputs, bias=bias)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    elif isinstance(delays, FixedDelays):
        layer = DelayLinear(inputs, outputs, max_delay, profile=Triangle(), learn_delay=False, **keywords)
    else:
        width = delays.width
        if width is None and delays.profile.needs_width:
            width = max(max_delay // 2, 0.23)
        keywords |= dict(profile=delays.profile, learn_width=delays.learn_width, width=width)
        layer = DelayLinear(inputs, outputs, max_delay, **keywords)
    if sparsity:
        # Not in the state dict, as in the paper's code: the zeros among the weights tell.
        layer.register_buffer("exists", torch.rand(layer.weight.shape) >= sparsity, persistent=False)
        layer.register_load_state_dict_post_hook(_follow_zeros)
        with torch.no_grad():
            layer.weight.mul_(layer.get_buffer("exists"))
    return layer


def _follow_zeros(layer: nn.Module, keys: object) -> None:
    layer.get_buffer("exists").copy_(layer.get_parameter("weight") != 0)


class _PLI(equations.Equation):
    """v = v + (x - v) sigmoid(w): LI with PLIF's w."""

    w = 0.0
    decay_input = True
    states = {"v": 0.0}
    _fires = False
    tau = equations.PLIF.tau

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        rate = sigmoid(self.w)  # 1 / tau
        v = v + (x - v) * rate if self.decay_input else v - v * rate + x
        return v, {"v": v}


class LearntLI(PLIF):
    """Leaky integrator that learns its time constant as a PLIF does, 1 / tau = sigmoid(w)."""

    equation = _PLI
