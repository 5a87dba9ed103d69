"""Adaptive and recurrent LIF networks (Bittar and Garner 2022, Front. Neurosci. 16:865897; code idiap/sparch).

New here: a surrogate-gradient baseline for speech that needs no delays: each neuron has an adaptation current with
learnt time constants and couplings (adLIF), and hears its layer through a matrix (RadLIF). A block is linear -> norm
-> neurons -> dropout; the answer is the sum over time of the softmax of leaky membranes.

Differs from the paper's code:

* Neurons start at zero. There u, w and s are drawn from [0, 1) at each forward pass, in evaluation, too, so that
  accuracies are random numbers (``random_start=True``).
* A neuron fires at u >= 1, there at u > 1: another number only for a membrane that is exactly 1.
* With ``lengths`` padded steps touch neither norms nor answer.
* V is stored transposed, as (target, source), and its diagonal, which counts as 0 there and here, is 0 where loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snnkit.equations import Equation
from snnkit.equations.adaptive import AdLIF as AdLIFEquation
from snnkit.equations.symbols import clamp
from snnkit.models._registry import variant, variants
from snnkit.models._sequence_arguments import require_builders, require_layers
from snnkit.models._temporal import TemporalBlock, TemporalClassifier, TemporalHead
from snnkit.nn.neuron_layer import Neuron
from snnkit.nn.norm import BatchNorm
from snnkit.nn.readout import SumOfSoftmax
from snnkit.nn.recurrent import Bidirectional, Recurrent
from snnkit.nn.sparch import AdLIF
from snnkit.ops.scan_call import compute_dtype

BORDERS = AdLIFEquation.ranges["alpha"]


class Leak(Equation):
    """u = alpha u + (1 - alpha) x, alpha clamped to exp(-1 / 5) .. exp(-1 / 25): sparch's readout membrane."""

    alpha = 0.9
    learnt = ("alpha",)
    states: ClassVar[dict[str, float | str]] = {"u": 0.0}
    _fires = False

    def step(self, x: Any, u: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        """One step; the output is the membrane."""
        alpha = clamp(self.alpha, *BORDERS)
        u = alpha * u + (1.0 - alpha) * x
        return u, {"u": u}


class LeakyReadout(Neuron):
    """Layer of ``Leak`` with one alpha a class, drawn from its range; the start may be random as in sparch."""

    equation = Leak

    def __init__(self, classes: int, random_start: bool = False) -> None:
        super().__init__(shape=(classes,))
        self.random_start = random_start
        nn.init.uniform_(self.get_parameter("alpha"), *BORDERS)

    def _first_state(self, x: Tensor) -> dict[str, Tensor] | None:
        dtype = compute_dtype(x)
        return {"u": torch.rand(x.shape[1:], dtype=dtype, device=x.device)} if self.random_start else None


class RadLIFNet(TemporalClassifier):
    """Network of adaptive, recurrent LIF neurons: ``[T, B, in_features]`` -> ``[B, num_classes]``.

    Args:
        in_features, num_classes: sizes of input and answer.
        hidden: neurons of each hidden layer.
        adaptive: an adaptation current in each neuron (adLIF), else plain LIF with a learnt alpha.
        recurrent: neurons hear their layer, but not themselves.
        bidirectional: each layer runs on the reversed sequence, too, and the next one gets both. Not inside ``carry``.
        layer_norm: ``nn.LayerNorm`` in place of the batch norm (momentum 0.05).
        bias: of the linear layers.
        dropout: probability of a spike to be dropped, a fresh mask at each step.
        random_start: draw the first states from [0, 1) in each call, as the paper's code does.
        readout: class that makes the readout. None: the answer is the output membrane of each step.

    Raises:
        ValueError: a size below 1.
        TypeError: an unknown keyword, with the nearest one; a readout that is an object instead of its class.

    The defaults are the published network for SHD: 700 inputs, 100 steps over 1.4 s.

    >>> RadLIFNet(in_features=6, hidden=(8,), num_classes=3)(torch.ones(10, 2, 6)).shape
    torch.Size([2, 3])
    """

    official_weights: ClassVar[str] = "the authors of sparch released none."

    def __init__(
        self, in_features: int = 700, hidden: Sequence[int] = (1024, 1024), num_classes: int = 20,
        adaptive: bool = True, recurrent: bool = True, bidirectional: bool = False, layer_norm: bool = False,
        bias: bool = False, dropout: float = 0.1, random_start: bool = False,
        readout: Callable[[], nn.Module] | None = SumOfSoftmax,
    ) -> None:  # fmt: skip
        super().__init__()
        require_builders(readout=readout)
        require_layers(in_features, hidden, num_classes)
        self.in_features, self.num_classes = in_features, num_classes
        inputs, blocks = in_features, []
        for outputs in hidden:
            neuron: nn.Module = self._neurons(outputs, adaptive, random_start)
            if recurrent:
                neuron = Recurrent(neuron, outputs, diagonal=False)  # type: ignore[arg-type]
            synapse = nn.Linear(inputs, outputs, bias=bias)
            block: nn.Module = TemporalBlock(synapse, neuron, self._norm(outputs), dropout=nn.Dropout(dropout))
            blocks.append(Bidirectional(block) if bidirectional else block)
            inputs = 2 * outputs if bidirectional else outputs
        self.num_features = inputs
        self.blocks = nn.ModuleList(blocks)
        self.head = self.make_head(num_classes)

    @staticmethod
    def _neurons(size: int, adaptive: bool, random_start: bool) -> AdLIF:
        if adaptive:
            return AdLIF(shape=(size,), random_start=random_start)
        return AdLIF(a=0.0, b=0.0, learn=("alpha",), shape=(size,), random_start=random_start)

    def _norm(self, size: int) -> nn.Module:
        return nn.LayerNorm(size) if self.arguments["layer_norm"] else BatchNorm(size, momentum=0.05)

    def make_head(self, num_classes: int) -> TemporalHead:
        """Linear, norm and membranes."""
        given, readout = self.arguments, self.arguments["readout"]
        synapse = nn.Linear(self.num_features, num_classes, bias=given["bias"])
        membrane = LeakyReadout(num_classes, given["random_start"])
        return TemporalHead(synapse, membrane, None if readout is None else readout(), self._norm(num_classes))


SSC: dict[str, Any] = dict(num_classes=35)
LIF: dict[str, Any] = dict(adaptive=False)
FREE: dict[str, Any] = dict(recurrent=False)
variants(
    RadLIFNet,
    radlif_shd=variant("94.62"),  # best epoch on the test set, which is the validation set there
    radlif_shd_512=variant(hidden=(512, 512)),
    radlif_shd_128=variant("92.88", hidden=(128, 128)),
    radlif_ssc=variant("77.40", **SSC),
    adlif_shd=variant("93.06", **FREE),
    adlif_ssc=variant(**SSC, **FREE),
    rlif_shd=variant(**LIF),
    lif_shd=variant("87.04", **LIF, **FREE),
)
