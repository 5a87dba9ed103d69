"""Spike-driven Transformer (Yao et al., NeurIPS 2023, arXiv 2307.01694; code BICLab/Spike-Driven-Transformer).

New here: attention without products. Keys and values are spikes, k * v is a mask, its sum over the tokens fires a
neuron, and that spike opens or closes the query (SDSA-1). Shortcuts add membranes, not spikes, so that convolutions
read nothing but spikes. A neuron stands before the classifier.

Differs from the paper: q, k, v are named as in the released checkpoints; the paper permutes them. Differs from its
code: the ``talking_heads`` and the neurons that it builds and never calls are not built, still images pass the first
convolution once, and any image size runs.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from snnkit.models._registry import CIFAR10, CIFAR100, EVENTS, variant, variants
from snnkit.models._vision import VisionModel
from snnkit.models._vision_arguments import require_pools, require_whole
from snnkit.nn.attention import SDSA1, NeuronMaker
from snnkit.nn.mlp import MLP, Block
from snnkit.nn.norm_neuron import Chain, ConvNormNeuron, Pair
from snnkit.nn.time import per_step


class MembranePatchSplitting(nn.Module):
    """MS_SPS: four 3 x 3 convolutions with norm and neuron, and a fifth that adds to the fourth's membrane.

    The first three pool spikes, the fourth pools its membrane before the neuron.

    Args:
        in_chans, dim: channels of the image and of the tokens.
        pools: for each of the first four convolutions, whether it has a 3 x 3 max pool of stride 2.
        neuron: makes the neurons.
    """

    def __init__(self, in_chans: int, dim: int, pools: tuple[bool, ...], neuron: NeuronMaker) -> None:
        super().__init__()
        widths = [in_chans, dim // 8, dim // 4, dim // 2, dim]

        def layer(inputs: int, outputs: int, pool: nn.Module | None = None) -> ConvNormNeuron:
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            return ConvNormNeuron(conv, neuron(v_threshold=1.0), pool=pool)

        pooled = [nn.MaxPool2d(3, 2, 1) if pool else nn.Identity() for pool in pools]
        self.convs = nn.ModuleList(layer(a, b) for a, b in zip(widths[:3], widths[1:4], strict=True))
        self.pools = nn.ModuleList(pooled[:3])
        self.last = layer(dim // 2, dim, pooled[3])
        self.position = layer(dim, dim)

    def forward(self, x: Tensor, steps: int | None) -> Pair:
        """Map images to the stream of tokens, ``[T, B, dim, H', W']``."""
        for conv, pool in zip(self.convs, self.pools, strict=True):
            x = per_step(pool, conv(x, steps=steps)[1])
            steps = None
        u, s = self.last(x)
        return self.position(s, u)


class SpikeDrivenTransformer(VisionModel):
    """Spike-driven Transformer: patch splitting, blocks of SDSA-1 and MLP on the membrane stream, a classifier.

    Args:
        dim, depth, heads, mlp_ratio: channels, number of blocks, attention heads, hidden channels of an MLP / dim. At
            ``mlp_ratio=1`` the MLP's first layer adds to the stream, too. Heads matter with ``erode`` alone.
        pools: which of the stem's first four convolutions halve the image.
        erode: max pools inside the attention (CIFAR10-DVS; see :class:`snnkit.nn.SDSA1`).
        common: see :class:`VisionModel`. The paper's PLIF networks are ``neuron=PLIF``; for its TET loss,
            ``readout=EveryStep`` gives the logits of each step.

    >>> import torch
    >>> model = SpikeDrivenTransformer(dim=16, depth=1, heads=2, num_classes=10, steps=2)
    >>> model(torch.zeros(3, 3, 32, 32)).shape
    torch.Size([3, 10])
    """

    official_weights = "the authors' files for ImageNet are linked in the README of BICLab/Spike-Driven-Transformer."

    def __init__(
        self,
        dim: int = 512,
        depth: int = 8,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        pools: tuple[bool, ...] = (True, True, True, True),
        erode: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        require_whole(8, dim=dim)  # the stem starts with dim / 8 channels
        require_whole(1, depth=depth, heads=heads)
        require_pools(pools)
        self.stem = MembranePatchSplitting(self.in_chans, dim, pools, self.neuron)
        hidden = int(dim * mlp_ratio)
        self.stages = nn.ModuleList()
        for i, drop_path in enumerate(self.drop_paths(depth)):
            options: dict[str, Any] = dict(neuron=self.neuron, drop_path=drop_path)
            attention = SDSA1(dim, heads, erode=erode, **options)
            # The head reads the last block's membranes.
            mlp = MLP(dim, hidden, inner_shortcut=hidden == dim, fires=i < depth - 1, **options)
            self.stages.append(Chain(Block(attention, mlp)))
        self.finish([(dim, 2 ** sum(pools))] * depth, self.neuron(v_threshold=1.0))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def init_head(self, head: nn.Linear) -> None:
        """Leave the classifier as torch draws it, as the paper's code does."""


def _imagenet(accuracy: str, **sizes: Any) -> Any:
    return variant(accuracy, weights="Google Drive, linked in the authors' README", cfg=dict(crop_pct=0.95), **sizes)


def _cifar(accuracy: str, **sizes: Any) -> Any:
    return variant(accuracy, img_size=32, pools=(False, False, True, True), depth=2, **sizes)


CIFAR10_DVS: dict[str, Any] = dict(img_size=64, pools=(False, False, True, True), erode=True, steps=10, num_classes=10)
DVS128: dict[str, Any] = dict(img_size=128, pools=(False, True, True, True), steps=16, num_classes=11)

variants(
    SpikeDrivenTransformer,
    sdt_8_384=_imagenet("72.28", dim=384),
    sdt_6_512=_imagenet("74.11", depth=6),
    sdt_8_512=_imagenet("74.57"),
    sdt_10_512=_imagenet("74.66", depth=10),
    sdt_8_768=_imagenet("77.07 (288 px*)", dim=768),
    sdt_2_256_cifar10=_cifar("", cfg=CIFAR10, dim=256, num_classes=10),
    sdt_2_512_cifar10=_cifar("95.6*", cfg=CIFAR10, num_classes=10),
    sdt_2_256_cifar100=_cifar("", cfg=CIFAR100, dim=256, num_classes=100),
    sdt_2_512_cifar100=_cifar("78.4*", cfg=CIFAR100, num_classes=100),
    sdt_2_256_cifar10dvs=variant("80.0* (T=16)", cfg=EVENTS, in_chans=2, dim=256, depth=2, **CIFAR10_DVS),
    sdt_2_256_dvs128=variant("99.3*", cfg=EVENTS, in_chans=2, dim=256, depth=2, **DVS128),
)
