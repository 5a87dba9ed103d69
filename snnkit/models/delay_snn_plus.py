"""Small delay networks that put the toolkit's pieces together, for words of voices that were never heard.

Not of a paper. What is new beside ``delay_snn``: inputs are log(1 + count); the first spiking layer is local along the
channels and shared by all places there, since voices differ by a shift along the frequencies; neurons have learnt time
constants, or adapt, and may hear their layer; a layer may hear the two before it; silence is appended once, at the
input, so that late spikes arrive and all layers have the same steps. The search that chose sizes and recipe, on
speakers held out of the training set, is ``benchmarks/search_spoken_digits.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from snnkit.equations.surrogates import ATan, Rectangle, Surrogate
from snnkit.models._delay_layers import LearntDelays, connection
from snnkit.models._registry import variant, variants
from snnkit.models._sequence_arguments import require_builders, require_layers
from snnkit.models._temporal import TemporalBlock, TemporalClassifier, TemporalHead
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.delay import DelayLinear
from snnkit.nn.local_delay import LocalDelayLinear
from snnkit.nn.neuron import LI, PLIF
from snnkit.nn.neuron_layer import Neuron
from snnkit.nn.norm import BatchNorm
from snnkit.nn.readout import MeanOverTime, Readout
from snnkit.nn.recurrent import Recurrent
from snnkit.nn.sparch import AdLIF
from snnkit.nn.time import TimeDropout, step_counts, valid_steps
from snnkit.ops.delay import Gauss


@dataclass(frozen=True)
class LIFNeurons:
    """LIF with a learnt tau each (hard reset to 0, input not divided by tau)."""

    tau: float = 2.0
    surrogate: Surrogate = ATan(5.0)

    def __call__(self, size: int) -> Neuron:
        """A layer of so many."""
        return PLIF(tau=self.tau, shape=(size,), decay_input=False, detach_reset=True, surrogate=self.surrogate)


@dataclass(frozen=True)
class AdLIFNeurons:
    """sparch's adaptive LIF with learnt parameters each."""

    surrogate: Surrogate = Rectangle(1.0)

    def __call__(self, size: int) -> Neuron:
        """A layer of so many."""
        return AdLIF(shape=(size,), surrogate=self.surrogate)


@dataclass(frozen=True)
class Local:
    """The first layer: ``outputs`` neurons at each place of the channels, the same synapses everywhere.

    Attributes:
        outputs: neurons at a place.
        window, stride: neighbouring channels that a place hears, and channels from place to place.
        max_delay: taps in time.
        pool: neighbouring places that are joined: one spike if any of them fires.
        dropout: one mask for all steps.
    """

    outputs: int = 16
    window: int = 9
    stride: int = 5
    max_delay: int = 9
    pool: int = 1
    dropout: float = 0.1


class LocalBlock(TemporalBlock):
    """Local delays -> norm -> neurons -> dropout -> pooling: ``[T, B, C]`` -> ``[T, B, places outputs]``."""

    def __init__(self, channels: int, local: Local, kernel_count: int, neuron: nn.Module) -> None:
        width = float(max(local.max_delay // 2, 1))
        synapse = LocalDelayLinear(
            channels, local.outputs, local.window, local.stride, local.max_delay, kernel_count=kernel_count,
            profile=Gauss(), width=width,
        )  # fmt: skip
        super().__init__(synapse, neuron, BatchNorm(local.outputs), dropout=TimeDropout(local.dropout))
        self.pool = local.pool
        self.features = -(-synapse.places // local.pool) * local.outputs

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Spikes."""
        s = super().forward(x, lengths)
        if self.pool > 1:
            s = nn.functional.pad(s, (0, 0, 0, -s.shape[2] % self.pool)).unflatten(2, (-1, self.pool)).amax(3)
        return s.flatten(2)


class LogMeanExp(Readout):
    """``y = log(sum_t exp(x[t]) / T)`` over the valid steps: between the mean and the maximum.

    >>> LogMeanExp()(torch.zeros(3, 1, 2)).tolist()
    [[0.0, 0.0]]
    """

    initial = {"log_sum": float("-inf"), "count": 0.0}

    def summary(self, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """Logarithm of the sum, and the number of steps."""
        steps = x.new_full(x.shape[1:2], len(x)) if mask is None else mask.flatten(1).sum(0).to(x.dtype)
        return {"log_sum": (x if mask is None else x.masked_fill(~mask, float("-inf"))).logsumexp(0), "count": steps}

    def join(self, before: dict[str, Tensor], chunk: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add."""
        log_sum = torch.logaddexp(before["log_sum"], chunk["log_sum"])
        return {"log_sum": log_sum, "count": before["count"] + chunk["count"]}

    def answer(self, summary: dict[str, Tensor]) -> Tensor:
        """The mean's logarithm."""
        return summary["log_sum"] - summary["count"].log()[:, None]


class DelaySNNPlus(TemporalClassifier):
    """Small spiking network with delays: counts ``[T, B, in_features]`` -> ``[B, num_classes]``.

    Args:
        in_features, num_classes: sizes of input and answer.
        hidden: neurons of each hidden layer.
        max_delay: taps of the delay kernels of hidden layers.
        kernel_count: delayed copies of each synapse.
        local: the first layer, ``Local(...)``; None: the hidden layers hear the input itself.
        log_input: take log(1 + count), of each bin, for the count (a negative one counts as 0).
        neuron, local_neuron: build a layer of so many neurons: ``LIFNeurons(...)``, ``AdLIFNeurons()``, ...
        recurrent: neurons of the hidden layers hear their layer, but not themselves.
        skip: a layer hears the two hidden layers before it, and so does the output.
        dropout: of hidden layers' spikes, one mask for all steps.
        tail: steps of silence behind each sample. Inside ``carry`` none.
        head_delay: taps of delays to the output; 1: a linear layer without.
        tau_out: time constant of the output membranes, in steps.
        readout: class that makes the readout. None: the answer is the output membrane of each step.

    Raises:
        ValueError: a size below 1, a negative tail.
        TypeError: an unknown keyword, with the nearest one; a readout that is an object instead of its class.

    A training loop of your own calls :meth:`clamp_` after each step of the optimiser, and lets
    ``snnkit.nn.SigmaSchedule`` narrow the delays.

    >>> model = DelaySNNPlus(in_features=12, hidden=(8,), num_classes=3, max_delay=5, local=Local(2, 4, 2, 3))
    >>> model(torch.ones(10, 2, 12)).shape
    torch.Size([2, 3])
    """

    official_weights: ClassVar[str] = "these networks are this toolkit's own."
    must_match: ClassVar[tuple[str, ...]] = ("max_delay", "local", "log_input")

    def __init__(
        self, in_features: int = 140, hidden: Sequence[int] = (160, 160), num_classes: int = 10, max_delay: int = 21,
        kernel_count: int = 1, local: Local | None = Local(), log_input: bool = True,  # noqa: B008  (frozen)
        neuron: Callable[[int], Neuron] = LIFNeurons(), local_neuron: Callable[[int], Neuron] = LIFNeurons(),  # noqa: B008
        recurrent: bool = False, skip: bool = False, dropout: float = 0.3, tail: int = 10, head_delay: int = 1,
        tau_out: float = 2.0, readout: Callable[[], nn.Module] | None = MeanOverTime,
    ) -> None:  # fmt: skip
        super().__init__()
        require_builders(readout=readout)
        require_layers(in_features, hidden, num_classes, max_delay=max_delay, head_delay=head_delay)
        if not (isinstance(tail, int) and tail >= 0):
            raise ValueError(f"tail must be >= 0, got {tail!r}: whole steps.")
        self.in_features, self.num_classes, self.tail = in_features, num_classes, tail
        blocks: list[TemporalBlock] = []
        inputs = in_features
        if local is not None:
            first = LocalBlock(in_features, local, kernel_count, local_neuron(local.outputs))
            blocks.append(first)
            inputs = first.features
        heard: tuple[int, ...] = (inputs,)
        for size in hidden:
            layer: nn.Module = neuron(size)
            if recurrent:
                layer = Recurrent(layer, size, diagonal=False)  # type: ignore[arg-type]
            synapse = connection(sum(heard), size, max_delay, LearntDelays(), kernel_count, False, 0.0)
            blocks.append(TemporalBlock(synapse, layer, BatchNorm(size), dropout=TimeDropout(dropout)))
            heard = (*heard[-1:], size) if skip and len(blocks) > 1 + (local is not None) else (size,)
        self.num_features = sum(heard)
        self.blocks = nn.ModuleList(blocks)
        self.head = self.make_head(num_classes)

    def make_head(self, num_classes: int) -> TemporalHead:
        """Linear or with delays, and membranes."""
        given, readout = self.arguments, self.arguments["readout"]
        synapse: nn.Linear | DelayLinear = nn.Linear(self.num_features, num_classes)
        if given["head_delay"] > 1:
            synapse = connection(self.num_features, num_classes, given["head_delay"], LearntDelays(), 1, True, 0.0)
        membrane = LI(tau=given["tau_out"], decay_input=False)
        return TemporalHead(synapse, membrane, None if readout is None else readout())

    def forward_features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the output hears, ``[T + tail, B, num_features]``."""
        if lengths is not None:
            x, lengths = torch.where(valid_steps(x, lengths), x, 0.0), step_counts(lengths)
        if self.arguments["log_input"]:
            x = x.clamp(min=0).log1p()
        silence = self.added_steps()
        if silence:
            x = torch.cat([x, x.new_zeros(silence, *x.shape[1:])])
            lengths = None if lengths is None else lengths + silence
        before: Tensor | None = None
        for block in self.blocks:
            again = self.grad_checkpointing and torch.is_grad_enabled()
            y = checkpoint(block, x, lengths) if again else block(x, lengths)
            joined = self.arguments["skip"] and before is not None
            x = torch.cat([before, y], -1) if joined else y  # type: ignore[list-item]
            before = None if isinstance(block, LocalBlock) else y
        return x

    def added_steps(self) -> int:
        """The silence at the end; 0 inside ``carry``."""
        return 0 if self.head.membrane is not None and self.head.membrane.in_carry else self.tail


variants(
    DelaySNNPlus,
    delay_snn_plus=variant(),
)
