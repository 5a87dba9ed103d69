"""The body that Meta-SpikeFormer and QSD-Transformer share: convolution blocks on large maps, then transformer blocks.

::

    image --7x7/2--> ConvBlock --/2--> ConvBlock --/2--> 2 ConvBlocks --/2--> blocks --/1--> blocks --> head
                     stage 0           stage 1           stage 2              stage 3

The strides are those for 224 pixels; of small images the first ones may be 1.

A model derives from :class:`MetaBackbone` and says what a transformer block, a convolution and a neuron are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from torch import Tensor, nn

from snnkit.models._vision import VisionModel
from snnkit.models._vision_arguments import require_several, require_whole
from snnkit.nn.attention import NeuronMaker
from snnkit.nn.norm_neuron import Chain, ConvNormNeuron, Pair

ConvMaker = Callable[..., Any]
"""Called as ``nn.Conv2d`` is: the class itself, or one with quantised weights."""

STRIDES = (2, 2, 2, 2, 1)
"""Of the five downsamplings, for ImageNet."""


class Downsampling(ConvNormNeuron):
    """``u' = norm(conv(s));  s' = neuron(u')``: the old stream ends, its spikes start another one."""

    def forward(self, u: Tensor, s: Tensor) -> Pair:  # type: ignore[override]
        """Map the stream ``(u, s)`` to ``(u', s')`` of other channels and size."""
        return super().forward(s)


class ConvBlock(nn.Module):
    """A separable convolution and a full one, each with its shortcut; W_k is a k x k convolution, D_k a depthwise one::

        u1 = u + norm(W_1 D_7 neuron(norm(W_1 s)));   s1 = neuron(u1)        C -> 2 C -> C channels
        u' = u1 + norm(W_3 neuron(norm(W_3 s1)));     s' = neuron(u')        C -> ratio C -> C

    Args:
        dim, ratio: C, and the hidden channels of the full convolution / C.
        neuron: makes the neurons.
        conv: makes the convolutions; none has a bias.
    """

    def __init__(self, dim: int, ratio: int, neuron: NeuronMaker, conv: ConvMaker = nn.Conv2d) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, *convs: nn.Module) -> ConvNormNeuron:
            whole = convs[0] if len(convs) == 1 else nn.Sequential(*convs)
            return ConvNormNeuron(whole, neuron(v_threshold=1.0), nn.BatchNorm2d(outputs))

        wide, hidden = 2 * dim, ratio * dim
        depthwise = conv(wide, wide, 7, padding=3, groups=wide, bias=False)
        self.expand = layer(dim, wide, conv(dim, wide, 1, bias=False))
        self.separable = layer(wide, dim, depthwise, conv(wide, dim, 1, bias=False))
        self.conv1 = layer(dim, hidden, conv(dim, hidden, 3, padding=1, bias=False))
        self.conv2 = layer(hidden, dim, conv(hidden, dim, 3, padding=1, bias=False))

    def forward(self, u: Tensor, s: Tensor) -> Pair:
        """Map the stream ``(u, s)`` to ``(u', s')``."""
        u, s = self.separable(self.expand(s)[1], u)
        return self.conv2(self.conv1(s)[1], u)


class MetaBackbone(VisionModel):
    """Base of models with this body. The head reads the mean membrane through a neuron."""

    def build(
        self,
        dims: tuple[int, ...],
        depths: tuple[int, ...],
        conv_ratio: int,
        block: Callable[[int, float, bool], nn.Module],
        conv: ConvMaker = nn.Conv2d,
        strides: tuple[int, ...] = STRIDES,
    ) -> None:
        """Build stem, stages and head.

        Args:
            dims: channels behind the second, third, fourth and fifth downsampling; the first gives ``dims[0] / 2``.
            depths: number of transformer blocks with ``dims[2]`` and with ``dims[3]`` channels.
            conv_ratio: hidden channels of a ConvBlock / its channels.
            block: makes a transformer block from (channels, drop path, whether a neuron ends it).
            conv: makes the convolutions.
            strides: of the five downsamplings.

        Raises:
            ValueError: not four dims, not two depths or not five strides, or one that is too small.
        """
        require_several(dims=dims, depths=depths, strides=strides)
        if len(dims) != 4 or len(depths) != 2 or len(strides) != 5:
            raise ValueError(
                f"Expected 4 dims, 2 depths and 5 strides, got dims={dims}, depths={depths}, strides={strides}."
            )
        require_whole(1, strides=strides)
        require_whole(2, dims=dims)  # the stem has half of the first
        require_whole(0, depths=depths)
        d0, d1, d2, d3 = dims
        half = d0 // 2

        def down(inputs: int, outputs: int, place: int, fires: bool = True) -> Downsampling:
            neuron = self.neuron(v_threshold=1.0) if fires else None
            return Downsampling(conv(inputs, outputs, 3, strides[place], 1), neuron, nn.BatchNorm2d(outputs))

        def conv_block(dim: int) -> ConvBlock:
            return ConvBlock(dim, conv_ratio, self.neuron, conv)

        # The head reads the last layer's membranes: no neuron ends it.
        drop_paths = self.drop_paths(sum(depths))
        third = [block(d2, rate, True) for rate in drop_paths[: depths[0]]]
        fourth = [block(d3, rate, i < depths[1]) for i, rate in enumerate(drop_paths[depths[0] :], 1)]
        self.stem = ConvNormNeuron(
            conv(self.in_chans, half, 7, strides[0], 3), self.neuron(v_threshold=1.0), nn.BatchNorm2d(half)
        )
        self.stages = nn.ModuleList(
            [
                Chain(conv_block(half)),
                Chain(down(half, d0, 1), conv_block(d0)),
                Chain(down(d0, d1, 2), conv_block(d1), conv_block(d1)),
                Chain(down(d1, d2, 3), *third, down(d2, d3, 4, fires=depths[1] > 0), *fourth),
            ]
        )
        *early, _, last = accumulate(strides, operator.mul)
        self.finish(zip((half, d0, d1, d3), (*early, last), strict=True), self.neuron(v_threshold=1.0))
