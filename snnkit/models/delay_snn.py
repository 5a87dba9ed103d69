"""Delay networks (Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024, arXiv 2306.17670; code Thvnvtos/SNN-delays).

New here: every synapse has a learnt delay. In training a delay is a bump over the taps of a convolution along time,
which narrows as training goes on; for evaluation it is rounded to whole steps (:meth:`DelaySNN.discretize`). A block
is delays -> batch norm -> neuron -> dropout with one mask for all steps; the answer is read from the membranes of
output neurons that never fire: m = sum_t softmax(v[t]), trained by the cross entropy of m (a softmax on the sum).

Differs from the paper's code:

* With ``lengths`` the padded steps touch neither norms nor answer, and a sample's answer is that of the sample alone.
  Without (the official behaviour, and the published numbers) the answer depends on the longest sample of the batch.
* A batch of one sample works. No synapse of an even ``max_delay`` is lost: positions are clamped to the taps, those
  of official files, too.
* A learnable synaptic filter is trained; the official optimisers leave it out.
* The output neuron is a leaky integrator, not a LIF with a threshold of 1e9: the same numbers. The code's spike_count
  is ``output_threshold=2.0, readout=SumOverTime``: output neurons that fire, and their spikes counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import nn

from snnkit.equations.surrogates import ATan, Surrogate
from snnkit.models._delay_groups import ParameterGroups
from snnkit.models._delay_layers import FixedDelays, LearntDelays, LearntLI, connection
from snnkit.models._registry import variant, variants
from snnkit.models._sequence_arguments import require_builders, require_layers
from snnkit.models._temporal import TemporalBlock, TemporalClassifier, TemporalHead
from snnkit.nn.delay import DelayLinear
from snnkit.nn.neuron import LI, LIF, PLIF
from snnkit.nn.norm import BatchNorm
from snnkit.nn.readout import SumOfSoftmax
from snnkit.nn.synapse import SynapseFilter
from snnkit.nn.time import TimeDropout

__all__ = ["DelaySNN", "FixedDelays", "LearntDelays", "ParameterGroups"]


LEARNT = LearntDelays()
SURROGATE = ATan(5.0)


class DelaySNN(TemporalClassifier):
    """Feed-forward spiking network with a delay in every synapse: ``[T, B, in_features]`` -> ``[B, num_classes]``.

    Args:
        in_features, num_classes: sizes of input and answer.
        hidden: neurons of each hidden layer.
        max_delay: taps of the delay kernels: delays of 0 .. max_delay - 1 steps.
        kernel_count: delayed copies (weight and position) of each synapse.
        delays: ``LearntDelays(...)``, ``FixedDelays()``, or None: a linear layer in place of each delay layer.
        tail: steps that each layer adds at the end, so that late spikes arrive. Default (max_delay - 1) // 2 as in the
            paper, 0 without delays. Inside ``carry`` always 0.
        bias: of the connections.
        tau, v_threshold, detach_reset, surrogate: of the LIF neurons (hard reset to 0, input not divided by tau). The
            output membranes have the same tau.
        learn_tau: PLIF neurons, whose tau is trained (one a layer), in place of LIF.
        neuron: builds the hidden neurons in place of these, called once a layer: ``lambda: ALIF(tau=2.0)``.
        filter_tau, learn_filter: time constant of a synaptic filter behind the dropout; None: no filter.
        dropout: probability, one mask for all steps of a sample.
        readout: class (or other function without arguments) that makes the readout. None: the answer is the output
            membrane of each step, ``[T + tails, B, num_classes]``.
        output_threshold: threshold of output neurons that fire, whose spikes the readout then gets (2 in the paper's
            code). Default: they never fire, and the readout gets their membranes.
        sparsity: share of the weights, drawn once, that are zero for good; :meth:`clamp_` keeps them so. Loaded
            weights bring their own zeros.

    Raises:
        ValueError: a size below 1, a negative tail, tau <= 0, a dropout or sparsity outside [0, 1).
        TypeError: an unknown keyword, with the nearest one; a single size for hidden; a neuron or readout that is an
            object instead of its class.

    A training loop of your own calls :meth:`clamp_` after each step of the optimiser, which may push delays out of
    their range.

    The defaults are the published network for SHD: counts of 140 channels in steps of 10 ms; tau 10.05 ms,
    max_delay 250 ms.

    >>> model = DelaySNN(in_features=6, hidden=(8,), num_classes=3, max_delay=5)
    >>> model(torch.ones(10, 2, 6)).shape
    torch.Size([2, 3])
    """

    official_weights: ClassVar[str] = "the authors of SNN-delays released none."
    must_match: ClassVar[tuple[str, ...]] = ("max_delay",)

    def __init__(
        self,
        in_features: int = 140,
        hidden: Sequence[int] = (256, 256),
        num_classes: int = 20,
        max_delay: int = 25,
        kernel_count: int = 1,
        delays: LearntDelays | FixedDelays | None = LEARNT,
        tail: int | None = None,
        bias: bool = False,
        tau: float = 1.005,
        v_threshold: float = 1.0,
        detach_reset: bool = True,
        surrogate: Surrogate = SURROGATE,
        learn_tau: bool = False,
        neuron: Callable[[], nn.Module] | None = None,
        filter_tau: float | None = None,
        learn_filter: bool = False,
        dropout: float = 0.4,
        readout: Callable[[], nn.Module] | None = SumOfSoftmax,
        output_threshold: float | None = None,
        sparsity: float = 0.0,
    ) -> None:
        super().__init__()
        require_builders(neuron=neuron, readout=readout)
        require_layers(in_features, hidden, num_classes, max_delay=max_delay, kernel_count=kernel_count)
        if delays is not None and not isinstance(delays, (LearntDelays, FixedDelays)):
            raise TypeError(f"delays must be LearntDelays(...), FixedDelays() or None, got {delays!r}.")
        if tail is not None and not (isinstance(tail, int) and tail >= 0):
            raise ValueError(f"tail must be >= 0, got {tail!r}: whole steps, or None.")
        for name, share in dict(dropout=dropout, sparsity=sparsity).items():
            if not (isinstance(share, Real) and 0 <= share < 1):
                raise ValueError(f"{name} must be in [0, 1), got {share!r}.")
        self.in_features, self.num_classes, self.max_delay = in_features, num_classes, max_delay
        self.tail = 0 if delays is None else (max_delay - 1) // 2 if tail is None else tail
        self.num_features = [in_features, *hidden][-1]
        self.blocks = nn.ModuleList(self._block(*sizes) for sizes in pairwise([in_features, *hidden]))
        self.head = self.make_head(num_classes)

    def _block(self, inputs: int, outputs: int) -> TemporalBlock:
        given = self.arguments
        synapse, filter_tau = self._connection(inputs, outputs), given["filter_tau"]
        neuron = self._lif(given["v_threshold"]) if given["neuron"] is None else given["neuron"]()
        filter = None if filter_tau is None else SynapseFilter(filter_tau, learn=given["learn_filter"])
        drop = TimeDropout(given["dropout"])
        return TemporalBlock(synapse, neuron, BatchNorm(outputs), dropout=drop, filter=filter, extra=self.tail)

    def make_head(self, num_classes: int) -> TemporalHead:
        """Delays or linear, and membranes, or neurons whose spikes are counted."""
        given, readout = self.arguments, self.arguments["readout"]
        if given["output_threshold"] is None:
            membrane: nn.Module = (LearntLI if given["learn_tau"] else LI)(given["tau"], decay_input=False)
        else:
            membrane = self._lif(given["output_threshold"])
        synapse = self._connection(self.num_features, num_classes)
        return TemporalHead(synapse, membrane, None if readout is None else readout(), extra=self.tail)

    def _lif(self, v_threshold: float) -> nn.Module:
        given = self.arguments
        keywords = {name: given[name] for name in ("tau", "detach_reset", "surrogate")}
        return (PLIF if given["learn_tau"] else LIF)(v_threshold=v_threshold, decay_input=False, **keywords)

    def _connection(self, inputs: int, outputs: int) -> DelayLinear | nn.Linear:
        names = ("delays", "kernel_count", "bias", "sparsity")
        return connection(inputs, outputs, self.max_delay, **{name: self.arguments[name] for name in names})

    @property
    def sigma(self) -> float | None:
        """The width parameter SIG of the first layer; None if the delays have no width."""
        widths = [layer.SIG for layer in self.delay_layers() if layer.SIG is not None]
        return float(widths[0].flatten()[0]) if widths else None

    def set_sigma(self, value: float) -> None:
        """Set the width parameter SIG of every delay: max_delay // 2 at first, 0.23 at the end in the paper.

        Raises:
            ValueError: the delays have no width (fixed delays, or none).
        """
        if self.sigma is None:
            raise ValueError(f"delays={self.arguments['delays']!r} has no width to set.")
        with torch.no_grad():
            for layer in self.delay_layers():
                if layer.SIG is not None:
                    layer.SIG.fill_(value)


# 10 ms steps; 140 counts (SSC) or 140 log-mel values (GSC, 35 classes); tau 15 ms, max_delay 300 ms.
TWO: dict[str, Any] = dict(hidden=(512, 512), num_classes=35, max_delay=31, tau=1.5, dropout=0.25)
THREE: dict[str, Any] = {**TWO, "hidden": (512, 512, 512)}
variants(
    DelaySNN,
    delay_snn_shd=variant("95.07"),  # best test epoch; 93.77 % with a held-out split (DelRec)
    delay_snn_ssc_2l_1kc=variant(**TWO),
    delay_snn_ssc_2l_2kc=variant(**TWO, kernel_count=2),
    delay_snn_ssc_3l_1kc=variant(**THREE),
    delay_snn_ssc_3l_2kc=variant("80.69", **THREE, kernel_count=2),
    delay_snn_gsc_2l_1kc=variant(**TWO),
    delay_snn_gsc_2l_2kc=variant(**TWO, kernel_count=2),
    delay_snn_gsc_3l_1kc=variant(**THREE),
    delay_snn_gsc_3l_2kc=variant("95.35", **THREE, kernel_count=2),
    delay_snn_digits=variant(in_features=64, hidden=(256,), num_classes=10, max_delay=9),
)
