"""Networks for sequences of features: blocks of synapses and neurons, then a head that is read over time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.models._classifier import Classifier
from snnkit.models._delay_groups import ParameterGroups, parameter_groups
from snnkit.models._sequence_arguments import require_sequence
from snnkit.nn.carry import Stateful
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.delay import DelayLinear
from snnkit.nn.delayed_recurrence import DelayedRecurrence
from snnkit.nn.norm import BatchNorm
from snnkit.nn.observer import count_only
from snnkit.nn.recurrent import Bidirectional
from snnkit.nn.time import step_counts, valid_steps


class Connected(nn.Module):
    """A connection, and what stands behind it."""

    synapse: DelayLinear | nn.Linear
    extra: int  # steps that delays append to a sequence, so that late spikes arrive

    @property
    def tail(self) -> int:
        """Steps added at the end; 0 inside ``carry``, where the next chunk goes on."""
        inside = isinstance(self.synapse, Stateful) and self.synapse.in_carry
        return 0 if inside else self.extra

    def current(self, x: Tensor, tail: int) -> Tensor:
        """Apply the delay layer, or the linear one, which knows no tail: ``[T, B, in]`` -> ``[T + tail, B, out]``."""
        return self.synapse(x, tail=tail) if isinstance(self.synapse, DelayLinear) else self.synapse(x)

    def thin_(self) -> None:
        """Set missing weights to 0: an optimiser moves them, too."""
        exists = getattr(self.synapse, "exists", None)
        if exists is not None:
            with torch.no_grad():
                self.synapse.weight.mul_(exists)


class TemporalBlock(Connected):
    """Synapses, norm, dropout of the current, neurons, dropout, filter: ``[T, B, in]`` -> ``[T + tail, B, out]``.

    Every part but synapses and neurons may be None; ``extra`` is the tail that delays at the synapses add.
    """

    def __init__(
        self, synapse: nn.Linear | DelayLinear, neuron: nn.Module, norm: nn.Module | None = None,
        current_dropout: nn.Module | None = None, dropout: nn.Module | None = None, extra: int = 0,
        filter: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.synapse, self.norm, self.current_dropout = synapse, norm, current_dropout
        self.neuron, self.dropout, self.filter, self.extra = neuron, dropout, filter, extra

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Spikes; with lengths, zero from step ``lengths + tail`` on."""
        tail = self.tail
        x = self.current(x, tail)
        if lengths is not None:
            lengths = lengths + tail
        if self.norm is not None:
            x = self.norm(x, lengths) if isinstance(self.norm, BatchNorm) else self.norm(x)
        if self.current_dropout is not None:
            x = self.current_dropout(x)
        valid = None if lengths is None else valid_steps(x, lengths)
        if valid is not None:
            count_only(self.neuron, valid)
        x = self.neuron(x)
        if self.dropout is not None:
            x = self.dropout(x)
        if self.filter is not None:
            x = self.filter(x)
        # A sample alone would end here. Its batch mates must not make the next block see more of it.
        return x if valid is None else torch.where(valid, x, 0.0)


class TemporalHead(Connected):
    """Synapses -> norm -> membranes that never fire -> readout; norm, membranes and readout may be None."""

    def __init__(
        self, synapse: nn.Linear | DelayLinear, membrane: nn.Module | None, readout: nn.Module | None,
        norm: nn.Module | None = None, extra: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.synapse, self.norm, self.membrane, self.readout, self.extra = synapse, norm, membrane, readout, extra

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The readout of the valid steps, or without a readout what it would get, ``[T + tail, B, classes]``."""
        tail = self.tail
        x = self.current(x, tail)
        if lengths is not None:
            lengths = lengths + tail
        if self.norm is not None:
            x = self.norm(x, lengths) if isinstance(self.norm, BatchNorm) else self.norm(x)
        if self.membrane is not None:
            if lengths is not None:
                count_only(self.membrane, valid_steps(x, lengths))
            x = self.membrane(x)
        return x if self.readout is None else self.readout(x, lengths)


class TemporalClassifier(Classifier):
    """Base: ``blocks`` and a ``head`` on ``[T, B, in_features]``, and what a training script asks of such a network."""

    in_features: int
    blocks: nn.ModuleList
    head: TemporalHead
    evaluation_copy = False

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits ``[B, num_classes]``, or without a readout what it would get at each step.

        Args:
            x: ``[T, B, in_features]``, floating.
            lengths: ``[B]``, valid steps of each sample. A sample then answers as if it were alone. None: all steps.

        Raises:
            ValueError: x is not ``[T, B, in_features]``, or lengths not ``[B]``.
            TypeError: x is not floating, or wider than the weights.
        """
        require_sequence(x, self.in_features, self.head.synapse.weight.dtype, self.variant or type(self).__name__)
        x = self.forward_features(x, lengths)
        if lengths is not None:
            lengths = step_counts(lengths) + self.added_steps()
        return self.forward_head(x, lengths)

    def added_steps(self) -> int:
        """Steps that ``forward_features`` adds at the end of a sequence; 0 inside ``carry``."""
        return sum(_tail(block) for block in self.blocks)

    def forward_features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Output of the last block, ``[T + tails, B, num_features]``."""
        if lengths is not None:
            x, lengths = torch.where(valid_steps(x, lengths), x, 0.0), step_counts(lengths)
        for block in self.blocks:
            again = self.grad_checkpointing and torch.is_grad_enabled()
            x = checkpoint(block, x, lengths) if again else block(x, lengths)
            if lengths is not None:
                lengths = lengths + _tail(block)
        return x

    def forward_head(self, x: Tensor, lengths: Tensor | None = None, pre_logits: bool = False) -> Tensor:
        """The answer, from the features and their valid steps."""
        return x if pre_logits else self.head(x, None if lengths is None else step_counts(lengths))

    def make_head(self, num_classes: int) -> TemporalHead:
        """A fresh head."""
        raise NotImplementedError

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh head for another number of classes in place of the old one."""
        old = self.head.synapse.weight
        self.num_classes = self.arguments["num_classes"] = num_classes
        self.head = self.make_head(num_classes).to(old.device, old.dtype).train(self.training)

    def parameter_groups(self) -> ParameterGroups:
        """The trainable parameters, sorted by what an optimiser should do with them."""
        return parameter_groups(self)

    def schedules(self, epochs: int) -> list[Any]:
        """What changes from epoch to epoch beside the learning rates: objects with ``step()``, once an epoch."""
        return []

    def delay_layers(self) -> Iterator[Any]:
        """The layers with delays, from input to output, at the synapses and recurrent ones."""
        return (layer for layer in self.modules() if isinstance(layer, (DelayLinear, DelayedRecurrence)))

    def clamp_(self) -> None:
        """Bring parameters back into their ranges, missing weights to 0; call it after each step of the optimiser."""
        for layer in self.modules():
            if layer is not self and hasattr(layer, "clamp_"):
                layer.clamp_()  # type: ignore[operator]
            if isinstance(layer, Connected):
                layer.thin_()

    def discretize(self) -> TemporalClassifier:
        """Return the network that the paper evaluates, a copy in eval mode: every delay in whole steps."""
        return _rounded(_evaluated(self))

    def without_delays(self) -> TemporalClassifier:
        """Return the evaluated network with every delay at its least: what is left shows how much the delays carry."""
        twin = copy.deepcopy(self)
        with torch.no_grad():
            for layer in twin.modules():
                if isinstance(layer, DelayedRecurrence):
                    layer.delay.zero_()
        return _rounded(_evaluated(twin, lambda layer: layer.P.fill_(layer.max_delay)))


def _tail(block: nn.Module) -> int:
    inner = block.layer if isinstance(block, Bidirectional) else block
    return inner.tail if isinstance(inner, TemporalBlock) else 0


def _rounded(twin: Any) -> Any:
    """Round the delays of recurrent layers in place of a copy; those of synapses are rounded already."""
    for block in twin.blocks:
        if isinstance(getattr(block, "neuron", None), DelayedRecurrence):
            block.neuron = block.neuron.discretize()
    return twin


def _evaluated(model: TemporalClassifier, change: Callable[[DelayLinear], object] | None = None) -> Any:
    """A copy in eval mode whose delay layers are changed, then rounded to whole steps."""
    twin = copy.deepcopy(model).eval()
    twin.evaluation_copy = True
    for part in list(twin.modules()):
        if isinstance(part, Connected) and isinstance(part.synapse, DelayLinear):
            if change is not None:
                with torch.no_grad():
                    change(part.synapse)
                part.synapse.clamp_()
            part.synapse = part.synapse.discretize()
    return twin
