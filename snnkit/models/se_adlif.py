"""Recurrent adaptive neurons by the symplectic Euler method (Baronig et al. 2025, Nat. Commun. 16:5776).

New here (arXiv 2408.07517; code IGITUGraz/SE-adlif): the adaptation current w sees the new membrane and the new spike,
which keeps the discrete neuron as stable as the continuous one; no norms, no delays. A block is linear -> recurrent
SE-adLIF -> dropout; leaky membranes with tau 15 give the answer: the sum of their softmax over time (SHD) or their mean
(SSC), from step 10 on.

Differs from the paper's code:

* A neuron fires at v >= 1, there at v > 1: another number only for a membrane that is exactly 1.
* Steps are counted from ``lengths``, not from block indices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snnkit import equations
from snnkit.equations.surrogates import SLAYER, Surrogate
from snnkit.models._registry import variant, variants
from snnkit.models._sequence_arguments import require_builders, require_layers
from snnkit.models._temporal import TemporalBlock, TemporalClassifier, TemporalHead
from snnkit.nn.carry import Stateful
from snnkit.nn.neuron import LI
from snnkit.nn.neuron_layer import Neuron
from snnkit.nn.readout import MeanOverTime, Readout, SumOfSoftmax
from snnkit.nn.recurrent import Recurrent
from snnkit.nn.time import require_time_first, valid_steps

TAU_U, TAU_W, TAU_OUT = (5.0, 25.0), (60.0, 300.0), 15.0
PUBLISHED = SLAYER(5.0, 1.0)


class _Ranged(Neuron):
    """tau_u = 5 + 20 omega_u, tau_w = 60 + 240 omega_w (steps), one value a neuron; omega, a, b are what is trained.

    The paper trains omega in [0, 1], so that one learning rate serves all. ``clamp_`` keeps omega in [0, 1], a in
    [0, 1], b in [0, 2]; they start uniform on these ranges.
    """

    highest: ClassVar[dict[str, float]] = {"omega_u": 1.0, "omega_w": 1.0, "a": 1.0, "b": 2.0}
    stretched: ClassVar[dict[str, tuple[str, float, float]]] = {
        "omega_u": ("tau_u", *TAU_U), "omega_w": ("tau_w", *TAU_W)
    }  # fmt: skip

    def __init__(self, size: int, surrogate: Surrogate = PUBLISHED, **numbers: Any) -> None:
        learn = [name for name in self.highest if name not in self.stretched]
        super().__init__(learn=learn, shape=(size,) if learn else (), surrogate=surrogate, **numbers)
        for name in self.stretched:
            self.register_parameter(name, nn.Parameter(torch.empty(size)))
        self._tensor_names = {**self._tensor_names, **{name: tau for name, (tau, _, _) in self.stretched.items()}}
        self._plan = self._planned()
        for name, high in self.highest.items():
            nn.init.uniform_(self.get_parameter(name), 0.0, high)

    def _tensors(self) -> dict[str, Tensor]:
        given = super()._tensors()
        return given | {t: low + given[t].double() * (high - low) for t, low, high in self.stretched.values()}

    @torch.no_grad()
    def clamp_(self) -> None:
        """Clamp omega, a and b in place into their ranges. Once a step."""
        for name, high in self.highest.items():
            self.get_parameter(name).clamp_(0.0, high)


class RangedSEAdLIF(_Ranged):
    """SE-adLIF whose time constants are trained within their ranges."""

    equation = equations.SEAdLIF

    def __init__(self, size: int, q: float, surrogate: Surrogate = PUBLISHED) -> None:
        super().__init__(size, surrogate, q=q)


class RangedEFAdLIF(_Ranged):
    """EF-adLIF whose time constants are trained within their ranges."""

    equation = equations.EFAdLIF

    def __init__(self, size: int, q: float, surrogate: Surrogate = PUBLISHED) -> None:
        super().__init__(size, surrogate, q=q)


class RangedLIF(_Ranged):
    """The paper's baseline: LIF that decays by exp(-1 / tau_u), tau_u trained within its range; no adaptation."""

    equation = equations.LIF
    highest: ClassVar[dict[str, float]] = {"omega_u": 1.0}
    stretched: ClassVar[dict[str, tuple[str, float, float]]] = {"omega_u": ("tau", *TAU_U)}

    def __init__(self, size: int, surrogate: Surrogate = PUBLISHED) -> None:
        super().__init__(size, surrogate, detach_reset=True)

    def _tensors(self) -> dict[str, Tensor]:
        # LIF's 1 - 1 / tau is the decay exp(-1 / tau_u).
        return {name: -1.0 / torch.expm1(-1.0 / tau_u) for name, tau_u in super()._tensors().items()}


class FromStep(Stateful):
    """A readout that leaves out the first steps of each sample: ``FromStep(SumOfSoftmax(), 10)``.

    A sample without any step after these answers with zeros.
    """

    def __init__(self, readout: Readout, first: int) -> None:
        super().__init__()
        self.readout, self.first = readout, first

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map ``[T, B, C]`` to ``[B, C]``; lengths: valid steps of each sample, ``[B]``."""
        require_time_first(self, x)
        held = self.carried(x.shape[1], x.shape[2:])
        before = torch.zeros(x.shape[1], dtype=torch.long, device=x.device) if held is None else held.pop("steps")
        heard = torch.zeros_like(before) if held is None else held.pop("heard")
        step = torch.arange(len(x), device=x.device)[:, None] + before
        mask = (step >= self.first)[..., None]
        if lengths is not None:
            mask = mask & valid_steps(x, lengths)
        summary = self.readout.summary(x, mask)
        summary = summary if held is None else self.readout.join(held, summary)
        heard = heard + mask[..., 0].sum(0)
        initial = {**self.readout.initial, "steps": 0, "heard": 0}
        self.keep({**summary, "steps": before + len(x), "heard": heard}, initial)
        return self.readout.answer(summary).masked_fill((heard == 0)[:, None], 0.0)


class SEAdLIFNet(TemporalClassifier):
    """Network of recurrent SE-adLIF (or EF-adLIF) neurons: ``[T, B, in_features]`` -> ``[B, num_classes]``.

    Args:
        in_features, num_classes: sizes of input and answer.
        hidden: neurons of each hidden layer.
        symplectic: SE-adLIF; False: EF-adLIF (Euler forward). Weights of one are wrong for the other: our files are
            refused then. A file of the authors' code does not say which of the two it holds: you have to know.
        q: strength of the adaptation. Default: 120 (SE), 60 (EF).
        adaptive: False: LIF neurons with a trained tau_u, the paper's baseline; ``symplectic`` and ``q`` have no say.
        surrogate: of the neurons.
        dropout: probability of a spike to be dropped, a fresh mask at each step.
        first_step: steps before it do not count for the answer.
        readout: class of ``snnkit.nn.readout``. None: the answer is the output membrane of each step.

    Raises:
        ValueError: a size below 1.
        TypeError: an unknown keyword, with the nearest one; a readout that is an object instead of its class.

    Call :meth:`clamp_` after each step of the optimiser. The defaults are the published network for SHD: counts of 140
    channels in steps of 4 ms, padded to 250 steps; the answer of SSC's is ``MeanOverTime``.

    >>> SEAdLIFNet(in_features=6, hidden=(8,), num_classes=3)(torch.ones(20, 2, 6)).shape
    torch.Size([2, 3])
    """

    official_weights: ClassVar[str] = "the authors of SE-adlif released none."
    must_match: ClassVar[tuple[str, ...]] = ("symplectic",)

    def __init__(
        self, in_features: int = 140, hidden: Sequence[int] = (360, 360), num_classes: int = 20,
        symplectic: bool = True, q: float | None = None, dropout: float = 0.15, first_step: int = 10,
        readout: Callable[[], nn.Module] | None = SumOfSoftmax, adaptive: bool = True,
        surrogate: Surrogate = PUBLISHED,
    ) -> None:  # fmt: skip
        super().__init__()
        require_builders(readout=readout)
        require_layers(in_features, hidden, num_classes)
        self.in_features, self.num_classes, self.num_features = in_features, num_classes, [in_features, *hidden][-1]
        self.blocks = nn.ModuleList(
            TemporalBlock(
                _linear(inputs, outputs), Recurrent(self._neurons(outputs), outputs), dropout=nn.Dropout(dropout)
            )
            for inputs, outputs in pairwise([in_features, *hidden])
        )  # fmt: skip
        self.head = self.make_head(num_classes)

    def _neurons(self, size: int) -> Neuron:
        given = self.arguments
        if not given["adaptive"]:
            return RangedLIF(size, given["surrogate"])
        kind, usual = (RangedSEAdLIF, 120.0) if given["symplectic"] else (RangedEFAdLIF, 60.0)
        return kind(size, usual if given["q"] is None else given["q"], given["surrogate"])

    def make_head(self, num_classes: int) -> TemporalHead:
        """Linear and membranes that decay by exp(-1 / 15)."""
        readout = self.arguments["readout"]
        read: Any = None if readout is None else readout()
        if isinstance(read, Readout):
            read = FromStep(read, self.arguments["first_step"])
        membrane = LI(tau=1.0 / -math.expm1(-1.0 / TAU_OUT))
        return TemporalHead(_linear(self.num_features, num_classes), membrane, read)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """U(+-1 / sqrt(inputs)), no bias at first."""
    layer = nn.Linear(inputs, outputs)
    nn.init.uniform_(layer.weight, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
    nn.init.zeros_(layer.bias)
    return layer


SSC: dict[str, Any] = dict(hidden=(720, 720), num_classes=35, readout=MeanOverTime)
variants(
    SEAdLIFNet,
    se_adlif_shd_2l=variant("93.79"),  # held-out validation; 95.81 with the test set as validation
    se_adlif_shd_1l=variant("93.18", hidden=(128,)),
    se_adlif_ssc_2l=variant("80.44", **SSC),
    ef_adlif_shd_2l=variant(symplectic=False),
    ef_adlif_ssc_2l=variant(symplectic=False, **SSC),
    lif_ssc_2l=variant(adaptive=False, surrogate=SLAYER(5.0, 0.25), **SSC),
)
