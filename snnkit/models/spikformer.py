"""Spikformer (Zhou et al., ICLR 2023, arXiv 2209.15425; code ZK-Zhou/spikformer): the first spiking transformer.

New here: spiking self attention, integer products of spike trains without softmax, and shortcuts that add spikes
(SEW), so that the stream is a small whole number. The stem is five convolutions that halve the image where told; no
neuron stands before the classifier.

The paper's three networks (ImageNet, CIFAR, events) are one here; they differ in where the stem pools, in biases and in
the scale. Differs from the paper's code: LayerNorms that it builds and never calls are not built, still images pass
the stem once, and any image size runs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from snnkit.models._registry import CIFAR10, CIFAR100, EVENTS, variant, variants
from snnkit.models._vision import VisionModel
from snnkit.models._vision_arguments import require_pools, require_whole
from snnkit.nn.attention import SSA, NeuronMaker
from snnkit.nn.mlp import MLP, Block
from snnkit.nn.norm_neuron import Chain, ConvNormNeuron, Pair, SEWShortcut
from snnkit.nn.time import per_step


class SpikingPatchSplitting(nn.Module):
    """SPS: five 3 x 3 convolutions with norm and neuron; max pools on spikes; the fifth adds to the fourth.

    Args:
        in_chans, dim: channels of the image and of the tokens.
        pools: for each of the first four convolutions, whether a 3 x 3 max pool of stride 2 follows.
        neuron: makes the neurons.
    """

    def __init__(self, in_chans: int, dim: int, pools: tuple[bool, ...], neuron: NeuronMaker) -> None:
        super().__init__()
        widths = [in_chans, dim // 8, dim // 4, dim // 2, dim]

        def layer(inputs: int, outputs: int) -> ConvNormNeuron:
            return ConvNormNeuron(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), neuron(v_threshold=1.0))

        self.convs = nn.ModuleList(layer(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.position = layer(dim, dim)
        self.position.shortcut = SEWShortcut()
        self.pools = pools

    def forward(self, x: Tensor, steps: int | None) -> Pair:
        """Map images to the stream of tokens, ``[T, B, dim, H', W']``."""
        for conv, pool in zip(self.convs, self.pools, strict=True):
            x = conv(x, steps=steps)[1]
            steps = None
            if pool:
                x = per_step(partial(F.max_pool2d, kernel_size=3, stride=2, padding=1), x)
        return self.position(x, x)


class Spikformer(VisionModel):
    """Spikformer: spiking patch splitting, blocks of SSA and MLP with SEW shortcuts, a linear classifier.

    Args:
        dim, depth, heads, mlp_ratio: channels, number of blocks, attention heads, hidden channels of an MLP / dim.
        pools: after which of the first four convolutions the stem halves the image.
        scale: factor of the attention's integer product.
        qkv_bias: a bias in the attention's projections (CIFAR models).
        init_std: weights of the 1 x 1 layers are drawn with this standard deviation (CIFAR models); None: as torch.
        common: see :class:`VisionModel`.

    >>> import torch
    >>> model = Spikformer(dim=16, depth=1, heads=2, num_classes=10, steps=2)
    >>> model(torch.zeros(3, 3, 32, 32)).shape
    torch.Size([3, 10])
    """

    official_weights = "the authors of Spikformer released none."

    def __init__(
        self,
        dim: int = 512,
        depth: int = 8,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        pools: tuple[bool, ...] = (True, True, True, True),
        scale: float = 0.125,
        qkv_bias: bool = False,
        init_std: float | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        require_whole(8, dim=dim)  # the stem starts with dim / 8 channels
        require_whole(1, depth=depth, heads=heads)
        require_pools(pools)
        self.stem = SpikingPatchSplitting(self.in_chans, dim, pools, self.neuron)
        options: dict[str, Any] = dict(neuron=self.neuron, shortcut=SEWShortcut())
        self.stages = nn.ModuleList(
            Chain(
                Block(
                    SSA(dim, heads, scale=scale, bias=qkv_bias, drop_path=drop_path, **options),
                    MLP(dim, int(dim * mlp_ratio), drop_path=drop_path, **options),
                )
            )
            for drop_path in self.drop_paths(depth)
        )
        self.finish([(dim, 2 ** sum(pools))] * depth)
        if init_std is not None:
            self._draw(init_std)

    def _draw(self, std: float) -> None:
        for layer in self.stages.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def _imagenet(accuracy: str, **sizes: Any) -> Any:
    return variant(accuracy, cfg=dict(crop_pct=1.0), **sizes)


def _cifar(accuracy: str, **sizes: Any) -> Any:
    return variant(accuracy, img_size=32, pools=(False, False, True, True), qkv_bias=True, init_std=0.02, **sizes)


DVS: dict[str, Any] = dict(cfg=EVENTS, in_chans=2, img_size=128, dim=256, depth=2, heads=16, scale=0.25, steps=16)

variants(
    Spikformer,
    spikformer_8_384=_imagenet("70.24*", dim=384, depth=8, heads=6),
    spikformer_6_512=_imagenet("72.46*", depth=6),
    spikformer_8_512=_imagenet("73.38*"),
    spikformer_10_512=_imagenet("73.68*", depth=10),
    spikformer_8_768=_imagenet("74.81", dim=768, heads=12),
    spikformer_4_256_cifar10=_cifar("93.94*", cfg=CIFAR10, dim=256, depth=4, heads=8, num_classes=10),
    spikformer_2_384_cifar10=_cifar("94.80*", cfg=CIFAR10, dim=384, depth=2, heads=12, num_classes=10),
    spikformer_4_384_cifar10=_cifar("95.51* (400 epochs)", cfg=CIFAR10, dim=384, depth=4, heads=12, num_classes=10),
    spikformer_4_384_cifar100=_cifar("78.21* (400 epochs)", cfg=CIFAR100, dim=384, depth=4, heads=12, num_classes=100),
    spikformer_2_256_cifar10dvs=variant("80.9*", **DVS, num_classes=10),
    spikformer_2_256_dvs128=variant("98.3*", **DVS, num_classes=11),
)
