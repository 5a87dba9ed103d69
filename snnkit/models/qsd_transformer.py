"""QSD-Transformer (Qiu et al., ICLR 2025, arXiv 2501.13492; code bollossom/QSD-Transformer).

Meta-SpikeFormer with weights of few bits in every layer, from the image to the classifier (LSQ, a learnt step a output
channel), with neurons that send small whole numbers and keep no state (IE-LIF), and with layer scale. New here: Q-SDSA,
attention on these numbers. ``snnkit.models.unroll`` runs a trained network on binary spikes.

Differs from the paper's code: its ``act.*`` tensors, which it builds and never uses, are not built; the bits and the
number of blocks are arguments. The paper's distillation was not published; see ``snnkit.nn.losses``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from snnkit.models._meta_backbone import STRIDES, MetaBackbone
from snnkit.models._registry import variant, variants
from snnkit.models._vision_arguments import require_whole
from snnkit.nn.attention import NeuronMaker
from snnkit.nn.mlp import MLP, Block
from snnkit.nn.quant import LSQConv2d, LSQLinear
from snnkit.nn.quantised_attention import QSDSA, integer_neuron, quantised_pointwise


class QSDTransformer(MetaBackbone):
    """QSD-Transformer: four ConvBlocks, then blocks of Q-SDSA and MLP with layer scale, all on the membrane stream.

    Args:
        dims, depths, heads, mlp_ratio, conv_ratio, strides: as in MetaSpikeFormer.
        bits: of the weights, 2 to 16; the paper's networks have 4.
        D: the neurons send 0, 1, ... or D spikes at once.
        scale_residual: start of the learnt factors on the branches of the blocks.
        neuron: class of the neurons, or a function that makes one, called with ``v_threshold=...``. Default: IE-LIF
            with D levels; for other neurons D has no meaning.
        steps: time steps of a still image. With IE-LIF they are all alike, and more than 1 repeats the same work.
        common: see :class:`VisionModel`.

    Steps of the weights are set in the first pass in train mode, from the weights at that time.

    >>> import torch
    >>> model = QSDTransformer(dims=(4, 4, 6, 8), depths=(1, 1), heads=2, num_classes=10)
    >>> model(torch.zeros(3, 3, 32, 32)).shape
    torch.Size([3, 10])
    """

    official_weights = "the authors' files 15M_w4 and 55M_w4 are linked in their README."

    def __init__(
        self,
        dims: tuple[int, ...] = (128, 256, 512, 640),
        depths: tuple[int, ...] = (6, 2),
        heads: int = 8,
        mlp_ratio: float = 4.0,
        conv_ratio: int = 4,
        strides: tuple[int, ...] = STRIDES,
        bits: int = 4,
        D: int = 4,
        scale_residual: float = 1e-6,
        neuron: NeuronMaker | None = None,
        steps: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(neuron=partial(integer_neuron, D=D) if neuron is None else neuron, steps=steps, **common)
        require_whole(1, heads=heads, conv_ratio=conv_ratio)
        self.linear = partial(LSQLinear, bits=bits)
        pointwise = partial(quantised_pointwise, bits=bits)

        def block(dim: int, drop_path: float, fires: bool) -> Block:
            options: dict[str, Any] = dict(neuron=self.neuron, scale_residual=scale_residual, drop_path=drop_path)
            mlp = MLP(dim, int(dim * mlp_ratio), projection=pointwise, fires=fires, **options)
            return Block(QSDSA(dim, heads, bits=bits, **options), mlp)

        self.build(dims, depths, conv_ratio, block, conv=partial(LSQConv2d, bits=bits), strides=strides)


M8, M15, M31, M55, M124 = (
    (48, 96, 192, 256), (64, 128, 256, 360), (96, 192, 384, 480), (128, 256, 512, 640), (192, 384, 768, 960)
)  # fmt: skip

variants(
    QSDTransformer,
    qsd_transformer_8_256=variant(dims=M8),
    qsd_transformer_8_15m=variant(weights="15M_w4", dims=M15),
    qsd_transformer_8_384=variant(dims=M31),
    qsd_transformer_8_512=variant("80.3", weights="55M_w4", dims=M55),
    qsd_transformer_12_512=variant(dims=M55, depths=(9, 3)),
    qsd_transformer_8_768=variant(dims=M124),
)
