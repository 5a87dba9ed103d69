"""Meta-SpikeFormer (Yao et al., ICLR 2024, arXiv 2404.03663; code BICLab/Spike-Driven-Transformer-V2).

Also called Spike-driven Transformer V2. New here: a spiking counterpart of CAFormer, separable convolutions where the
map is large and attention where it is small; attention from integer products of spikes (SDSA-3), whose projections
are RepConv units that fold into one 3 x 3 convolution; and a second head that learns from a teacher.

Differs from the paper's code: still images pass the first convolution once; the number of blocks is an argument.
SDSA-1, -2 and -4 of the paper are in ``snnkit.nn.attention``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnkit.models._meta_backbone import STRIDES, MetaBackbone
from snnkit.models._registry import variant, variants
from snnkit.models._vision_arguments import require_whole
from snnkit.nn.attention import SDSA3
from snnkit.nn.mlp import MLP, Block


class MetaSpikeFormer(MetaBackbone):
    """Meta-SpikeFormer: four ConvBlocks, then blocks of SDSA-3 and MLP, all on the membrane stream.

    Args:
        dims: channels of the four stages behind the stem; the stem gives ``dims[0] / 2``.
        depths: number of transformer blocks with ``dims[2]`` and with ``dims[3]`` channels.
        heads, mlp_ratio: attention heads, hidden channels of an MLP / its channels.
        conv_ratio: hidden channels of a ConvBlock's 3 x 3 convolutions / its channels.
        strides: of the stem and of the four downsamplings behind it. For 32 pixels the first ones may be 1.
        distilled: a second classifier ``head_dist`` on the same spikes, for a teacher's labels (there: ``head_kd``).
            In training the answer is the pair ``(head, head_dist)``, for ``snnkit.nn.losses.distillation``, or their
            mean after ``set_distilled_training(False)``; in evaluation always the mean.
        common: see :class:`VisionModel`. The paper trains with ``steps=1`` and goes on from there with ``steps=4``.
            Stochastic depth is for the transformer blocks.

    Feature maps are those of the authors' detection backbones, with the default strides at 2, 4, 8 and 16.

    >>> model = MetaSpikeFormer(dims=(4, 4, 6, 8), depths=(1, 1), heads=2, num_classes=10, distilled=True)
    >>> len(model(torch.zeros(3, 3, 32, 32))), model.eval()(torch.zeros(3, 3, 32, 32)).shape
    (2, torch.Size([3, 10]))
    """

    official_weights = "the authors' one file, 55M_kd.pth, is linked in their README."

    def __init__(
        self,
        dims: tuple[int, ...] = (128, 256, 512, 640),
        depths: tuple[int, ...] = (6, 2),
        heads: int = 8,
        mlp_ratio: float = 4.0,
        conv_ratio: int = 4,
        strides: tuple[int, ...] = STRIDES,
        distilled: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        require_whole(1, heads=heads, conv_ratio=conv_ratio)
        self.distilled_training = distilled
        if distilled:
            self.classifiers = ("head", "head_dist")

        def block(dim: int, drop_path: float, fires: bool) -> Block:
            options: dict[str, Any] = dict(neuron=self.neuron, drop_path=drop_path)
            return Block(SDSA3(dim, heads, **options), MLP(dim, int(dim * mlp_ratio), fires=fires, **options))

        self.build(dims, depths, conv_ratio, block, strides=strides)

    def set_distilled_training(self, enable: bool = True) -> None:
        """Whether a distilled model answers with the pair of its heads in training (timm)."""
        self.distilled_training = enable

    def get_classifier(self) -> Any:
        """The classifier; of a distilled model the pair (timm)."""
        heads = tuple(self.get_submodule(name) for name in self.classifiers)
        return heads if len(heads) > 1 else heads[0]

    def forward_head(self, x: Tensor, lengths: Tensor | None = None, pre_logits: bool = False) -> Any:
        """The answer from the features, or the pair of answers; see ``distilled``."""
        if pre_logits or len(self.classifiers) == 1:
            return super().forward_head(x, lengths, pre_logits)
        x = self.dropout(self.head_input(x))
        both = torch.stack([head(x) for head in self.get_classifier()], dim=2)  # [T, B, 2, num_classes]
        both = both.movedim(2, 0) if self.readout is None else self.readout(both).movedim(1, 0)
        return both.unbind() if self.training and self.distilled_training else both.mean(0)


M15, M31, M55, M124 = (64, 128, 256, 360), (96, 192, 384, 480), (128, 256, 512, 640), (192, 384, 768, 960)

variants(
    MetaSpikeFormer,
    meta_spikeformer_15m=variant("74.1*", dims=M15),
    meta_spikeformer_8_384=variant("77.2*", dims=M31),
    meta_spikeformer_8_512=variant("79.7*", dims=M55),
    meta_spikeformer_8_768=variant(dims=M124),
    meta_spikeformer_15m_dist=variant(dims=M15, distilled=True),
    meta_spikeformer_8_384_dist=variant(dims=M31, distilled=True),
    meta_spikeformer_8_512_dist=variant("80.0", weights="55M_kd.pth", dims=M55, distilled=True),
    meta_spikeformer_8_768_dist=variant(dims=M124, distilled=True),
)
