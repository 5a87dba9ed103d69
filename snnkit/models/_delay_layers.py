"""Layers of the delay network: a connection (with delays or without), what stands behind it, and how it is drawn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from snnkit import equations
from snnkit.equations.symbols import sigmoid
from snnkit.nn.delay import DelayLinear
from snnkit.nn.neuron import PLIF
from snnkit.nn.norm import BatchNorm
from snnkit.nn.readout import valid_steps
from snnkit.nn.time import TimeDropout
from snnkit.ops.delay import Gauss, Profile, Triangle

Network = TypeVar("Network", bound=nn.Module)


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


class _Connected(nn.Module):
    """A connection, and what stands behind it."""

    synapse: DelayLinear | nn.Linear

    def current(self, x: Tensor, tail: int) -> Tensor:
        """Apply the delay layer, or the linear one, which knows no tail: ``[T, B, in]`` -> ``[T + tail, B, out]``."""
        return self.synapse(x, tail=tail) if isinstance(self.synapse, DelayLinear) else self.synapse(x)

    def thin_(self) -> None:
        """Set missing weights to 0: an optimiser moves them, too."""
        exists = getattr(self.synapse, "exists", None)
        if exists is not None:
            self.synapse.weight.mul_(exists)


class DelayBlock(_Connected):
    """Connection -> norm -> neuron -> dropout (-> synaptic filter): ``[T, B, in]`` -> ``[T + tail, B, out]``."""

    def __init__(
        self, synapse: DelayLinear | nn.Linear, features: int, neuron: nn.Module, dropout: float, filter: nn.Module
    ) -> None:
        super().__init__()
        self.synapse = synapse
        self.norm = BatchNorm(features)
        self.neuron = neuron
        self.dropout = TimeDropout(dropout)
        self.filter = filter

    def forward(self, x: Tensor, lengths: Tensor | None = None, tail: int = 0) -> Tensor:
        """Spikes; with lengths, zero from step ``lengths + tail`` on."""
        x = self.current(x, tail)
        if lengths is not None:
            lengths = lengths + tail
        x = self.filter(self.dropout(self.neuron(self.norm(x, lengths))))
        # A sample alone would end here. Its batch mates must not make the next block see more of it.
        return x if lengths is None else torch.where(valid_steps(x, lengths), x, 0.0)


class DelayHead(_Connected):
    """Connection -> output neurons (membranes that never fire, or spikes) -> readout: -> ``[B, classes]``."""

    def __init__(self, synapse: DelayLinear | nn.Linear, membrane: nn.Module, readout: nn.Module | None) -> None:
        super().__init__()
        self.synapse = synapse
        self.membrane = membrane
        self.readout = readout

    def forward(self, x: Tensor, lengths: Tensor | None = None, tail: int = 0) -> Tensor:
        """The readout of the valid steps, or without a readout what it would get, ``[T + tail, B, classes]``."""
        v = self.membrane(self.current(x, tail))
        if self.readout is None:
            return v
        return self.readout(v, None if lengths is None else lengths + tail)


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


def evaluation_copy(model: Network, change: Callable[[DelayLinear], object]) -> Network:
    """A copy in eval mode whose delay layers are changed, then rounded to whole steps."""
    twin = copy.deepcopy(model).eval()
    twin.evaluation_copy = True  # type: ignore[assignment]
    for part in list(twin.modules()):
        if isinstance(part, _Connected) and isinstance(part.synapse, DelayLinear):
            with torch.no_grad():
                change(part.synapse)
            part.synapse.clamp_()
            part.synapse = part.synapse.discretize()
    return twin


def require_sizes(**sizes: Any) -> None:
    """Raise ValueError for a size that is no whole number >= 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {size!r}.")


def require_builders(**builders: Any) -> None:
    """Raise TypeError for what can't be called to build a module: above all a module, whose call is its forward."""
    for name, build in builders.items():
        if build is None or (callable(build) and not isinstance(build, nn.Module)):
            continue
        kind = type(build).__name__
        got, remedy = repr(build), ""
        if isinstance(build, nn.Module):
            got, remedy = f"an object {kind}", f" Give the class: {name}={kind}, or {name}=lambda: {kind}(...)."
        raise TypeError(f"{name} must be a class, or a function without arguments, got {got}.{remedy}")


def require_sequence(x: Tensor, features: int, dtype: torch.dtype, who: str) -> None:
    """Raise ValueError or TypeError for an input that is not ``[T, B, features]``, floating, as wide as the weights."""
    if x.ndim != 3 or x.shape[2] != features:
        raise ValueError(f"{who} expects [T, B, {features}], time first, got {tuple(x.shape)}.")
    if not x.is_floating_point():
        raise TypeError(f"{who} expects a floating x, got {x.dtype}: x.float().")
    if torch.promote_types(x.dtype, dtype) != dtype:
        raise TypeError(f"x is {x.dtype}, the weights are {dtype}: x.to({dtype}), or model.to({x.dtype}).")
