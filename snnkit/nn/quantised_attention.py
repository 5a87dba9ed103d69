"""Q-SDSA: spike-driven attention on whole numbers of spikes, whose projections have weights of few bits.

Source: Qiu et al. 2025 (QSD-Transformer, ICLR, arXiv 2501.13492), and what its blocks need beside: a maker of IE-LIF
neurons, and of quantised 1 x 1 layers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from snnkit.nn.attention import SDSA3, NeuronMaker
from snnkit.nn.integer import IELIF
from snnkit.nn.quant import LSQConv2d
from snnkit.nn.repconv import RepConv


def integer_neuron(v_threshold: float = 1.0, D: int = 4) -> IELIF:
    """The neurons of QSD-Transformer: ``y = n / (D v_threshold)``, ``n = floor(clamp(D x, 0, D) + 1/2)``.

    The threshold is the weight of a spike and has no part in n: y reaches 1, and 2 inside the attention, whose
    threshold is 0.5 (published: ``Multispike`` and ``Multispike_att``, D = 4).

    >>> integer_neuron(v_threshold=0.5)
    IELIF(divisor=2)
    """
    return IELIF(D, divisor=D * v_threshold)


def quantised_pointwise(inputs: int, outputs: int, bias: bool = False, bits: int = 4) -> LSQConv2d:
    """A linear layer over the channels of each pixel, with weights of few bits."""
    return LSQConv2d(inputs, outputs, 1, bias=bias, bits=bits)


def quantised_repconv(inputs: int, outputs: int, bias: bool = False, bits: int = 4) -> RepConv:
    """A RepConv with weights of few bits; it has no bias.

    Raises:
        ValueError: a bias is asked for.
    """
    if bias:
        raise ValueError("RepConv has no bias, got bias=True: leave it out, or projection=quantised_pointwise.")
    return RepConv(inputs, outputs, partial(LSQConv2d, bits=bits))


class QSDSA(SDSA3):
    """Q-SDSA as published: ``mix = floor(clamp(q (k^T v), 0, 4) + 1/2) / 2``, with q, k, v = 0, 1/4, ... 1.

    That is SDSA-3 with the scale 1/4 and IE-LIF neurons.

    Args:
        bits: of the weights in the four projections, each a RepConv.
        neuron: makes the neurons; ``functools.partial(integer_neuron, D=8)`` for 8 levels, or another class.
        others: as in SpikeAttention.

    >>> QSDSA(16, heads=2).q.neuron, QSDSA(16, heads=2).neuron
    (IELIF(), IELIF(divisor=2))
    """

    default_scale = 0.25

    def __init__(
        self, dim: int, heads: int = 8, *, bits: int = 4, neuron: NeuronMaker = integer_neuron, **keywords: Any
    ) -> None:
        projection = keywords.pop("projection", partial(quantised_repconv, bits=bits))
        super().__init__(dim, heads, neuron=neuron, projection=projection, **keywords)
