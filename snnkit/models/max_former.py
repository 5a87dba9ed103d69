"""Max-Former (Fang et al., NeurIPS 2025, arXiv 2505.18608; code bic-L/MaxFormer): high frequencies pass, too.

New here: a spiking neuron is a low-pass filter, and so are averages and global attention. Max-Former puts max pools
into the patch embeddings, behind the norm and before the neuron, and depthwise convolutions in the place of attention
in the early stages; only the last stage has spiking self attention. Shortcuts add membranes.

The paper's three networks (ImageNet, CIFAR, events) are one here; they differ in the stem, in the number of stages and
in what the early stages mix with. Differs from the paper's code: an attention's scale is 0.125 for every head
dimension, as there, but the numbers of blocks and heads are keywords; still images pass the stem once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from snnkit.models._pyramid import Pyramid
from snnkit.models._registry import CIFAR10, CIFAR100, EVENTS, variant, variants
from snnkit.models._vision_arguments import require_whole
from snnkit.nn.attention import SSA
from snnkit.nn.depthwise import DepthwiseMixer
from snnkit.nn.max_embed import FlatStem, MaxEmbedding, MaxStem, Stem, StridedStem
from snnkit.nn.norm_neuron import Chain


class MaxFormer(Pyramid):
    """Max-Former: stages of blocks (mixer and MLP), a max-pooling embedding before each but the first.

    Args:
        dims, depths: channels and number of blocks of each stage.
        kernels: for each of the first stages the size of its depthwise convolutions, 0 for none (the block is an MLP);
            the stages after these have spiking self attention.
        heads: of the attention.
        mlp_ratio: hidden channels of an MLP / dim. With 1 its first layer adds to the stream, too.
        stem: class of the first embedding, see ``snnkit.nn.max_embed``.
        conv_std: convolutions (not the attention's projections) are drawn with this standard deviation and without
            bias, the classifier as torch does (ImageNet); None: the other way round, the classifier with 0.02.
        common: see :class:`VisionModel`.

    The map that comes in should be divisible by the stride of the last stage.

    >>> import torch
    >>> model = MaxFormer(dims=(8, 16, 24), depths=(1, 1, 1), heads=2, num_classes=10, steps=2)
    >>> model(torch.zeros(3, 3, 32, 32)).shape
    torch.Size([3, 10])
    """

    official_weights = "the authors released some for ImageNet (github.com/bic-L/MaxFormer); fetch them yourself."

    def __init__(
        self,
        dims: tuple[int, ...] = (96, 192, 384),
        depths: tuple[int, ...] = (1, 2, 7),
        kernels: tuple[int, ...] = (7, 5),
        heads: int = 6,
        mlp_ratio: float = 4.0,
        stem: Callable[..., Stem] = StridedStem,
        conv_std: float | None = 0.02,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        require_whole(1, heads=heads)
        self.kernels, self.heads = kernels, heads
        self.build(dims, depths, mlp_ratio, stem, MaxEmbedding, self._mixer, conv_std)

    def _mixer(self, stage: int, dim: int, **options: Any) -> nn.Module:
        if stage >= len(self.kernels):
            return SSA(dim, self.heads, **options)
        if self.kernels[stage] == 0:
            return Chain()  # no layers: the stream as it is
        return DepthwiseMixer(dim, self.kernels[stage], **options)


CIFAR: dict[str, Any] = dict(
    img_size=32, depths=(1, 1, 2), kernels=(0, 3), heads=8, stem=FlatStem, conv_std=None
)
DVS: dict[str, Any] = dict(
    in_chans=2, img_size=128, dims=(128, 256), depths=(1, 1), kernels=(3,), heads=16, mlp_ratio=1.0, stem=MaxStem,
    conv_std=None, steps=16,
)  # fmt: skip
cifar10, cifar100 = partial(variant, cfg=CIFAR10), partial(variant, cfg=CIFAR100)
events = partial(variant, cfg=EVENTS)

variants(
    MaxFormer,
    max_former_10_384=variant("77.78", weights="10-384-T4.pth.tar"),
    max_former_10_512=variant(
        "75.43 (T=1)", dims=(128, 256, 512), heads=8, weights="10-512-T4.pth.tar, 10-512-T1.pth.tar"
    ),
    max_former_10_768=variant(
        "82.39 (T=1: 78.60)", dims=(192, 384, 768), heads=12, weights="10-768-T4.pth.tar, 10-768-T1.pth.tar"
    ),
    max_former_cifar10=cifar10("97.04", **CIFAR, num_classes=10),
    max_former_cifar100=cifar100("82.65", **CIFAR, num_classes=100),
    max_former_cifar10dvs=events("84.2", **DVS, num_classes=10),
    max_former_dvs128=events("98.61", **DVS, num_classes=11),
)
