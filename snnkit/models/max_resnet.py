"""Max-ResNet-18 (Fang et al., NeurIPS 2025, arXiv 2505.18608; code bic-L/MaxFormer): a ResNet that halves by max pools.

New here: where MS-ResNet-18 (Hu et al. 2021) halves the map by a stride, a max pool does, behind the norm and before
the neuron, so that high frequencies stay. Everything else is MS-ResNet with wider, fewer stages for CIFAR: shortcuts
add membranes, where a shortcut changes channels or size it is a 1 x 1 convolution and a norm on the membrane itself.

Differs from the paper's code: that gives no way to build the network through its training script; still images pass
the first layer once.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from snnkit.models._registry import CIFAR10, CIFAR100, variant, variants
from snnkit.models._vision import VisionModel
from snnkit.models._vision_arguments import require_several, require_whole
from snnkit.nn.attention import NeuronMaker
from snnkit.nn.norm_neuron import Chain, ConvNormNeuron, Pair


class ConvStem(nn.Module):
    """A 3 x 3 convolution of the image, its norm, and the first block's neuron: ``(x, steps) -> (u, s)``."""

    def __init__(self, in_chans: int, dim: int, neuron: NeuronMaker) -> None:
        super().__init__()
        self.layer = ConvNormNeuron(_conv3(in_chans, dim), neuron(v_threshold=1.0))

    def forward(self, x: Tensor, steps: int | None) -> Pair:
        """Map images to the stream."""
        return self.layer(x, steps=steps)


class ResidualBlock(nn.Module):
    """``u' = r + norm(W_2 neuron(pool(norm(W_1 s))));  s' = neuron(u')``, both 3 x 3.

    Args:
        inputs, outputs: channels.
        halve: a max pool in the branch, and a stride in the shortcut.
        neuron, drop_path, fires: as in SpikeAttention.

    The shortcut r is u, or ``norm(W u)`` where channels or size change.
    """

    def __init__(
        self, inputs: int, outputs: int, halve: bool, neuron: NeuronMaker, drop_path: float = 0.0, fires: bool = True
    ) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2, 1) if halve else None
        self.conv1 = ConvNormNeuron(_conv3(inputs, outputs), neuron(v_threshold=1.0), pool=pool)
        after = neuron(v_threshold=1.0) if fires else None
        self.conv2 = ConvNormNeuron(_conv3(outputs, outputs), after, drop_path=drop_path)
        self.shortcut = None
        if halve or inputs != outputs:
            self.shortcut = ConvNormNeuron(nn.Conv2d(inputs, outputs, 1, 2 if halve else 1, bias=False))

    def forward(self, u: Tensor, s: Tensor) -> Pair:
        """Map the stream ``(u, s)`` to ``(u', s')``."""
        if self.shortcut is not None:
            # Behind the stem a still image's membrane is one row, and the norm counts it as T.
            u, _ = self.shortcut(u, steps=len(s) if len(u) == 1 else None)
        _, s = self.conv1(s)
        return self.conv2(s, u)


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class MaxResNet(VisionModel):
    """Max-ResNet: a convolution, stages of residual blocks, all but the first of which halve the map.

    Args:
        dims: channels of the stem and of each stage.
        depths: number of blocks of each stage.
        common: see :class:`VisionModel`.

    Raises:
        ValueError: dims is not one longer than depths, or a stage has no blocks.

    >>> import torch
    >>> model = MaxResNet(dims=(4, 6, 8), depths=(1, 1), num_classes=10, steps=2)
    >>> model(torch.zeros(3, 3, 16, 16)).shape
    torch.Size([3, 10])
    """

    official_weights = "the authors released none."
    pool_before_neuron = False

    def __init__(
        self,
        dims: tuple[int, ...] = (64, 128, 256, 512),
        depths: tuple[int, ...] = (3, 3, 2),
        **common: Any,
    ) -> None:
        super().__init__(**common)
        require_several(dims=dims, depths=depths)
        require_whole(1, dims=dims)
        if len(dims) != len(depths) + 1 or min(depths, default=0) < 1:
            raise ValueError(
                f"dims must have the stem and one number a stage, depths must be > 0, got dims={dims}, depths={depths}."
            )
        self.stem = ConvStem(self.in_chans, dims[0], self.neuron)
        drop_paths = iter(self.drop_paths(sum(depths)))
        self.stages = nn.ModuleList()
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                first, last = j == 0, (i, j) == (len(depths) - 1, depth - 1)
                channels = dims[i] if first else dims[i + 1], dims[i + 1]
                halve = first and i > 0
                blocks.append(ResidualBlock(*channels, halve, self.neuron, next(drop_paths), fires=not last))
            self.stages.append(Chain(*blocks))
        self.finish([(dim, 2**i) for i, dim in enumerate(dims[1:])], self.neuron(v_threshold=1.0))

    def init_head(self, head: nn.Linear) -> None:
        """Leave the classifier as torch draws it."""


variants(
    MaxResNet,
    max_resnet18_cifar10=variant("97.17", cfg=CIFAR10, img_size=32, num_classes=10),
    max_resnet18_cifar100=variant("83.06", cfg=CIFAR100, img_size=32, num_classes=100),
)
