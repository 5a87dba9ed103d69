"""The skeleton that Max-Former and MS-QKFormer share: a stem, stages of blocks, each but the first after an embedding.

Blocks have membrane shortcuts, the head's neuron stands behind the mean over the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from snnkit.models._vision import VisionModel
from snnkit.models._vision_arguments import require_several, require_whole
from snnkit.nn.attention import SpikeAttention
from snnkit.nn.max_embed import StageEmbedding, Stem
from snnkit.nn.mlp import MLP, Block
from snnkit.nn.norm_neuron import Chain


class Pyramid(VisionModel):
    """A stem and stages. A model derives from it and calls ``build``."""

    stem: Stem
    conv_std: float | None = None

    def build(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        mlp_ratio: float,
        stem: Callable[..., Stem],
        embedding: Callable[..., StageEmbedding],
        mixer: Callable[..., nn.Module],
        conv_std: float | None,
    ) -> None:
        """Build stem, stages and head.

        Args:
            dims, depths: channels and number of blocks of each stage.
            mlp_ratio: hidden channels of an MLP / dim; with 1 the MLP has its inner shortcut.
            stem, embedding: classes of ``snnkit.nn.max_embed``.
            mixer: called with (number of the stage, dim, keywords neuron and drop_path), makes a block's token mixer.
            conv_std: convolutions (not the attention's projections) are drawn with this standard deviation and
                without bias, the classifier as torch does; None: the other way round, the classifier with 0.02.

        Raises:
            ValueError: dims and depths of different lengths, a stage without blocks, or too few channels for the stem.
        """
        require_several(dims=dims, depths=depths)
        require_whole(1, dims=dims)
        if len(dims) != len(depths) or min(depths, default=0) < 1:
            raise ValueError(f"dims and depths must be one number > 0 a stage, got dims={dims}, depths={depths}.")
        self.conv_std = conv_std
        self.stem = stem(self.in_chans, dims[0], self.neuron)
        drop_paths = iter(self.drop_paths(sum(depths)))
        self.stages = nn.ModuleList()
        features, stride = [], self.stem.stride
        for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            layers: list[nn.Module] = []
            if i > 0:
                between = embedding(dims[i - 1], dim, self.neuron)
                layers.append(between)
                stride *= between.stride
            for j in range(depth):
                options: dict[str, Any] = dict(neuron=self.neuron, drop_path=next(drop_paths))
                last = (i, j) == (len(dims) - 1, depth - 1)
                hidden = int(dim * mlp_ratio)
                mlp = MLP(dim, hidden, inner_shortcut=hidden == dim, fires=not last, **options)
                layers.append(Block(mixer(i, dim, **options), mlp))
            self.stages.append(Chain(*layers))
            features.append((dim, stride))
        self.finish(features, self.neuron(v_threshold=1.0))
        if conv_std is not None:
            self._draw(conv_std)

    def init_head(self, head: nn.Linear) -> None:
        """Draw the classifier's weights, see ``conv_std``."""
        if self.conv_std is None:
            super().init_head(head)

    def _draw(self, std: float) -> None:
        projections = {m for a in self.modules() if isinstance(a, SpikeAttention) for m in a.modules()}
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer not in projections:
                nn.init.trunc_normal_(layer.weight, std=std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
