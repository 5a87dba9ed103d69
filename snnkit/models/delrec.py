"""Networks with delays on recurrent connections (Queant et al. 2025, arXiv 2509.24852; code alexmaxad/DelRec).

New here: neurons hear each other after learnt delays, spread over a triangle that narrows in training (see
``snnkit.nn.DelayedRecurrence``). Two forms: for SHD linear -> batch norm -> neurons -> dropout, the first layer without
recurrence, read from membranes that never fire; for SSC and permuted sequential MNIST linear -> dropout of the current
-> recurrent neurons, without norm, read from the last linear layer itself. "Rec + Ff" has delays in the linear layers,
too; "ff" there alone, "plain" has none. The paper compares the four at about ten thousand parameters ("equiparam"):
the form for SHD without norms and biases.

Differs from the paper's code:

* :meth:`DelRecNet.discretize` gives a copy; the authors' test rounds the delays of the network in training in place,
  once an epoch.
* Delays are clamped after each step (:meth:`clamp_`), from below and above; there once an epoch and from below.
* The spread sigma is in the state dict. Official files lack it: the model's own is kept, as the authors' test does.
* With ``lengths`` padded steps touch neither norms nor answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import nn

from snnkit.equations.surrogates import ATan, Surrogate, Triangle
from snnkit.models._delay_layers import LearntDelays, connection
from snnkit.models._registry import variant, variants
from snnkit.models._sequence_arguments import require_builders, require_layers
from snnkit.models._temporal import TemporalBlock, TemporalClassifier, TemporalHead
from snnkit.models._vision_arguments import require_whole
from snnkit.nn.delay import DelayLinear
from snnkit.nn.delayed_recurrence import DelayedRecurrence, HalfNormalDelays, SpreadSchedule, UniformDelays
from snnkit.nn.neuron import LI, LIF
from snnkit.nn.norm import BatchNorm
from snnkit.nn.readout import SumOfSoftmax, SumOverTime
from snnkit.nn.time import TimeDropout
from snnkit.ops.delay import Triangle as UnitTriangle

START = UniformDelays(10.0, 30.0)
SURROGATE = ATan(5.0)


class DelRecNet(TemporalClassifier):
    """Network of neurons that hear each other after delays: ``[T, B, in_features]`` -> ``[B, num_classes]``.

    Args:
        in_features, num_classes: sizes of input and answer.
        hidden: neurons of each hidden layer.
        recurrent_first: whether the first hidden layer hears itself, too.
        recurrent: neurons hear each other; False: no recurrent connections at all.
        normed: the form for SHD (batch norms, membranes, dropout of spikes), else that for SSC.
        batch_norm: False: the form for SHD without its norms; linear layers start as torch's then.
        bias: of the linear layers.
        feedforward: taps K of delays in the linear layers ("Rec + Ff"); None: no delays there.
        feedforward_ends: delays in the first and the last linear layer, too.
        tail: steps that each layer of delays adds at the end. Default: (K - 1) // 2 if normed, else 0. Inside ``carry``
            always 0.
        tau, v_reset, detach_reset, surrogate: of the LIF neurons (threshold 1, input not divided by tau).
        dropout: one mask for all steps, of the spikes if normed, else of the current.
        recurrent_dropout: of what comes back, one mask for all steps.
        synaptic: a delay for each pair of neurons, else one for each source.
        learn_spread: learn the spread of each source.
        sigma: spread at first, in steps.
        start: how recurrent delays are drawn.
        max_delay: largest recurrent delay. There is none in the authors' code: their files with longer delays are
            refused, and the error tells the ``max_delay`` to build the model with.
        readout: class that makes the readout. None: the answer is what it would get at each step.

    Raises:
        ValueError: a size below 1, or what a layer refuses.
        TypeError: an unknown keyword, with the nearest one; a readout that is an object instead of its class.

    A training loop of your own calls :meth:`clamp_` after each step of the optimiser, and ``step()`` of each of
    :meth:`schedules` after each epoch. The defaults are the published network for SHD: 140 channels in steps of 10 ms.

    >>> import torch
    >>> DelRecNet(in_features=6, hidden=(8, 8), num_classes=3)(torch.ones(10, 2, 6)).shape
    torch.Size([2, 3])
    """

    official_weights: ClassVar[str] = "the authors of DelRec released none."
    must_match: ClassVar[tuple[str, ...]] = ("feedforward",)

    def __init__(
        self, in_features: int = 140, hidden: Sequence[int] = (256, 256), num_classes: int = 20,
        recurrent_first: bool = False, normed: bool = True, feedforward: int | None = None,
        feedforward_ends: bool = False, tail: int | None = None, tau: float = 1.05, v_reset: float | None = 0.0,
        detach_reset: bool = True, surrogate: Surrogate = SURROGATE, dropout: float = 0.4,
        recurrent_dropout: float = 0.2, synaptic: bool = False, learn_spread: bool = False, sigma: float = 10.0,
        start: UniformDelays | HalfNormalDelays = START, max_delay: int = 60,
        readout: Callable[[], nn.Module] | None = SumOfSoftmax, recurrent: bool = True, batch_norm: bool = True,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        require_builders(readout=readout)
        require_layers(in_features, hidden, num_classes)
        self.in_features, self.num_classes, self.num_features = in_features, num_classes, [in_features, *hidden][-1]
        if feedforward is None:
            self.tail = 0
        else:
            require_whole(1, feedforward=feedforward)
            self.tail = ((feedforward - 1) // 2 if normed else 0) if tail is None else tail
        blocks = []
        for i, (inputs, outputs) in enumerate(pairwise([in_features, *hidden])):
            synapse = self._synapse(inputs, outputs, end=i == 0)
            lif = LIF(tau=tau, v_reset=v_reset, detach_reset=detach_reset, decay_input=False, surrogate=surrogate)
            neuron: nn.Module = lif
            if recurrent and (i or recurrent_first):
                neuron = DelayedRecurrence(
                    lif, outputs, max_delay, synaptic, learn_spread, sigma, recurrent_dropout, start
                )
            drop = TimeDropout(dropout)
            parts: dict[str, nn.Module] = dict(dropout=drop) if normed else dict(current_dropout=drop)
            if normed and batch_norm:
                parts["norm"] = BatchNorm(outputs)
            extra = self.tail if isinstance(synapse, DelayLinear) else 0
            blocks.append(TemporalBlock(synapse, neuron, **parts, extra=extra))
        self.blocks = nn.ModuleList(blocks)
        self.head = self.make_head(num_classes)

    def _synapse(self, inputs: int, outputs: int, end: bool) -> nn.Linear | DelayLinear:
        """A linear layer, with delays or without; kaiming uniform (relu) before a norm, else torch's default."""
        given = self.arguments
        taps = None if end and not given["feedforward_ends"] else given["feedforward"]
        delays = None if taps is None else LearntDelays(UnitTriangle())
        if delays is None and not (given["normed"] and given["batch_norm"]):
            return nn.Linear(inputs, outputs, bias=given["bias"])
        return connection(inputs, outputs, taps or 1, delays, kernel_count=1, bias=given["bias"], sparsity=0.0)

    def make_head(self, num_classes: int) -> TemporalHead:
        """Linear and, in the form for SHD, membranes."""
        given, readout = self.arguments, self.arguments["readout"]
        synapse = self._synapse(self.num_features, num_classes, end=True)
        membrane = LI(tau=given["tau"], decay_input=False) if given["normed"] else None
        extra = self.tail if isinstance(synapse, DelayLinear) else 0
        return TemporalHead(synapse, membrane, None if readout is None else readout(), extra=extra)

    @property
    def sigma(self) -> float:
        """The spread of now, in steps; 0 without recurrent delays."""
        return next((float(layer.sigma) for layer in self.modules() if isinstance(layer, DelayedRecurrence)), 0.0)

    def set_sigma(self, value: float) -> None:
        """Set the spread of all layers; 10 at first and 0.06 at the end in the paper."""
        for layer in self.modules():
            if isinstance(layer, DelayedRecurrence):
                layer.set_sigma(value)

    def schedules(self, epochs: int) -> list[Any]:
        """The spread's, if there are recurrent delays."""
        recurrent = any(isinstance(layer, DelayedRecurrence) for layer in self.modules())
        return [SpreadSchedule(self, epochs)] if recurrent else []


RAW: dict[str, Any] = dict(
    normed=False, recurrent_first=True, tau=2.0, v_reset=None, detach_reset=False, surrogate=Triangle(1.0), dropout=0.1,
    learn_spread=True, start=HalfNormalDelays(12.0), readout=SumOverTime,
)  # fmt: skip
SSC: dict[str, Any] = dict(**RAW, hidden=(256, 256, 256), num_classes=35, recurrent_dropout=0.3)
SSC_FF: dict[str, Any] = dict(**SSC, feedforward=31, feedforward_ends=True)
SMALL: dict[str, Any] = dict(batch_norm=False, bias=False, tau=2.0)
SMALL_FF: dict[str, Any] = dict(**SMALL, feedforward=25, tail=0)
variants(
    DelRecNet,
    delrec_shd_rec=variant("93.39"),
    delrec_shd_recff=variant("93.73", feedforward=25),
    delrec_ssc_rec=variant("82.58", **SSC),
    delrec_ssc_recff=variant("82.19", **SSC_FF),
    delrec_psmnist_rec=variant("96.21", **RAW, in_features=1, hidden=(64, 212, 212), num_classes=10),
    delrec_shd_plain=variant(recurrent=False),
    delrec_shd_ff=variant(recurrent=False, feedforward=25),
    delrec_ssc_plain=variant(**SSC, recurrent=False),
    delrec_ssc_ff=variant(**SSC_FF, recurrent=False),
    delrec_equiparam_shd_plain=variant(**SMALL, hidden=(52, 52), recurrent=False),
    delrec_equiparam_shd_ff=variant(**SMALL_FF, hidden=(42, 42), recurrent=False),
    delrec_equiparam_shd_rec=variant(**SMALL, hidden=(42, 42)),
    delrec_equiparam_shd_recff=variant(**SMALL_FF, hidden=(38, 38)),
)
