"""MS-QKFormer, the companion of Max-Former (Fang et al., NeurIPS 2025, arXiv 2505.18608; code bic-L/MaxFormer).

QKFormer (Zhou et al., NeurIPS 2024, arXiv 2403.16552) with membrane shortcuts: token attention, a gate for each token
made of the queries alone, in the early stages, and spiking self attention in the last one. It is what Max-Former is
compared with: the same skeleton without depthwise convolutions and with fewer max pools.

The early stages keep the number of heads, so that heads have fewer channels there. Differs from the paper's code: its
network for events cannot run as published and is mended here (its embeddings return one value too many or too few).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from snnkit.models._pyramid import Pyramid
from snnkit.models._registry import CIFAR10, CIFAR100, EVENTS, variant, variants
from snnkit.models._vision_arguments import require_whole
from snnkit.nn.attention import SSA, TokenQK
from snnkit.nn.max_embed import (
    FlatStem,
    MaxStem,
    PooledStem,
    PoolFirstEmbedding,
    PoolLastEmbedding,
    StageEmbedding,
    Stem,
)


class MSQKFormer(Pyramid):
    """MS-QKFormer: stages of blocks (token attention and MLP), the last one with spiking self attention.

    Args:
        dims, depths: channels and number of blocks of each stage.
        heads: of all attention.
        mlp_ratio: hidden channels of an MLP / dim. With 1 its first layer adds to the stream, too.
        stem, embedding: classes of the first embedding and of the others, see ``snnkit.nn.max_embed``.
        conv_std: as in MaxFormer.
        common: see :class:`VisionModel`.

    >>> import torch
    >>> model = MSQKFormer(dims=(8, 16, 24), depths=(1, 1, 1), heads=2, num_classes=10, steps=2)
    >>> model(torch.zeros(3, 3, 32, 32)).shape
    torch.Size([3, 10])
    """

    official_weights = "the authors released some for ImageNet (github.com/bic-L/MaxFormer); fetch them yourself."

    def __init__(
        self,
        dims: tuple[int, ...] = (96, 192, 384),
        depths: tuple[int, ...] = (1, 2, 7),
        heads: int = 6,
        mlp_ratio: float = 4.0,
        stem: Callable[..., Stem] = PooledStem,
        embedding: Callable[..., StageEmbedding] = PoolFirstEmbedding,
        conv_std: float | None = 0.02,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        require_whole(1, heads=heads)

        def mixer(stage: int, dim: int, **options: Any) -> nn.Module:
            return (SSA if stage == len(dims) - 1 else TokenQK)(dim, heads, **options)

        self.build(dims, depths, mlp_ratio, stem, embedding, mixer, conv_std)


CIFAR: dict[str, Any] = dict(
    img_size=32, depths=(1, 1, 2), heads=8, stem=FlatStem, embedding=PoolLastEmbedding, conv_std=None
)
DVS: dict[str, Any] = dict(
    in_chans=2, img_size=128, dims=(128, 256), depths=(1, 1), heads=16, mlp_ratio=1.0, stem=MaxStem,
    embedding=PoolLastEmbedding, conv_std=None, steps=16,
)  # fmt: skip
cifar10, cifar100 = partial(variant, cfg=CIFAR10), partial(variant, cfg=CIFAR100)
events = partial(variant, cfg=EVENTS)

variants(
    MSQKFormer,
    ms_qkformer_10_384=variant(weights="ms_qk_10-384_T4.pth.tar"),
    ms_qkformer_10_512=variant(dims=(128, 256, 512), heads=8),
    ms_qkformer_10_768=variant(dims=(192, 384, 768), heads=12, weights="ms_qk_10-768_T1.pth.tar"),
    ms_qkformer_cifar10=cifar10(**CIFAR, num_classes=10),
    ms_qkformer_cifar100=cifar100(**CIFAR, num_classes=100),
    ms_qkformer_cifar10dvs=events(**DVS, num_classes=10),
    ms_qkformer_dvs128=events(**DVS, num_classes=11),
)
