"""Patch embeddings of Max-Former and MS-QKFormer: a few convolutions, a membrane shortcut, and max pools on membranes.

Averaging keeps low frequencies, and so does a spiking neuron; a max pool keeps edges. Here it stands after the norm and
before the neuron, on real numbers. All embeddings are a main path of n layers beside a shortcut that reads the spikes
entering layer k::

    s_i = neuron(pool(norm(conv_i s_(i-1))));   u = pool(norm(conv_n s_(n-1))) + pool(norm(W s_(k-1)));   s = neuron(u)

where not every layer has a pool. A stem takes images as s_0, ``(x, steps) -> (u, s)``; an embedding between two stages
takes the stream, ``(u, s) -> (u', s')``. Both give a stream with C channels. Fang et al. 2025 (NeurIPS, Max-Former).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn

from snnkit.nn.attention import NeuronMaker, PaperLIF
from snnkit.nn.norm_neuron import ConvNormNeuron, Pair


def embedding_layer(
    inputs: int, outputs: int, neuron: NeuronMaker | None, *, size: int = 3, stride: int = 1, pool: bool = False
) -> ConvNormNeuron:
    """A size x size convolution without bias, norm, 3 x 3 max pool of stride 2 where told, neuron unless None."""
    if outputs < 1:
        raise ValueError(f"A layer of the embedding would have {outputs} channels: give it at least 8 (dims).")
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    after = None if neuron is None else neuron(v_threshold=1.0)
    return ConvNormNeuron(conv, after, pool=nn.MaxPool2d(3, 2, 1) if pool else None)


class Embedding(nn.Module):
    """The main path and the shortcut; a stem or an embedding between stages says what it takes.

    Args:
        layers: the main path.
        shortcut: its convolution and norm, without neuron.
        start: which layer reads the spikes that the shortcut reads, too.

    Attributes:
        stride: how many pixels of the input one of the output stands for, along each axis.
    """

    stride: ClassVar[int] = 1

    def __init__(self, layers: Iterable[nn.Module], shortcut: nn.Module, start: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.shortcut = shortcut
        self.start = start

    def embed(self, s: Tensor, steps: int | None = None) -> Pair:
        """Map s, ``[T, B, inputs, H, W]``, to the stream; with ``steps`` s is one row that stands for so many."""
        branch = None
        for i, layer in enumerate(self.layers):
            if i == self.start:
                branch, _ = self.shortcut(s)
            u, s = layer(s, branch if i == len(self.layers) - 1 else None, steps)
            steps = None  # the first neuron has made a sequence of it
        return u, s


class Stem(Embedding):
    """An embedding of images, ``(x, steps) -> (u, s)``; ``steps=None`` for a sequence."""

    def forward(self, x: Tensor, steps: int | None = None) -> Pair:
        """Map images to the stream."""
        return self.embed(x, steps)


class StageEmbedding(Embedding):
    """An embedding between two stages, ``(u, s) -> (u', s')``; it reads the spikes alone."""

    def forward(self, u: Tensor, s: Tensor) -> Pair:
        """Map the stream of a stage to that of the next."""
        return self.embed(s)


class FlatStem(Stem):
    """Keeps the size (Max-Former and MS-QKFormer on CIFAR): 3 x 3 to C / 2, 3 x 3 to C; shortcut 1 x 1.

    Args:
        inputs, outputs: channels of the image, and C.
        neuron: makes the neurons.
    """

    def __init__(self, inputs: int, outputs: int, neuron: NeuronMaker = PaperLIF) -> None:
        c = outputs
        main = embedding_layer(inputs, c // 2, neuron), embedding_layer(c // 2, c, neuron)
        super().__init__(main, embedding_layer(c // 2, c, None, size=1), start=1)


class StridedStem(Stem):
    """1/4 of the size by strides (Max-Former on ImageNet): 3 x 3 to C / 2, to C, to C; shortcut 1 x 1 from C / 2.

    Args:
        inputs, outputs, neuron: as in FlatStem.
    """

    stride = 4

    def __init__(self, inputs: int, outputs: int, neuron: NeuronMaker = PaperLIF) -> None:
        c = outputs
        main = (
            embedding_layer(inputs, c // 2, neuron, stride=2),
            embedding_layer(c // 2, c, neuron, stride=2),
            embedding_layer(c, c, neuron),
        )
        super().__init__(main, embedding_layer(c // 2, c, None, size=1, stride=2), start=1)


class PooledStem(Stem):
    """1/4 of the size by max pools (MS-QKFormer on ImageNet); else as StridedStem.

    Args:
        inputs, outputs, neuron: as in FlatStem.
    """

    stride = 4

    def __init__(self, inputs: int, outputs: int, neuron: NeuronMaker = PaperLIF) -> None:
        c = outputs
        main = (
            embedding_layer(inputs, c // 2, neuron, pool=True),
            embedding_layer(c // 2, c, neuron, pool=True),
            embedding_layer(c, c, neuron),
        )
        super().__init__(main, embedding_layer(c // 2, c, None, size=1, stride=2), start=1)


class MaxStem(Stem):
    """1/8 of the size by max pools (events): 3 x 3 to C / 8, C / 4, C / 2, C; shortcut 1 x 1, stride 4, from C / 4.

    Args:
        inputs, outputs, neuron: as in FlatStem; 8 divides the outputs.
    """

    stride = 8

    def __init__(self, inputs: int, outputs: int, neuron: NeuronMaker = PaperLIF) -> None:
        c = outputs
        main = (
            embedding_layer(inputs, c // 8, neuron),
            embedding_layer(c // 8, c // 4, neuron, pool=True),
            embedding_layer(c // 4, c // 2, neuron, pool=True),
            embedding_layer(c // 2, c, neuron, pool=True),
        )
        super().__init__(main, embedding_layer(c // 4, c, None, size=1, stride=4), start=2)


class MaxEmbedding(StageEmbedding):
    """1/2 of the size (Max-Former): 3 x 3 and max pool, 3 x 3; shortcut 1 x 1 and max pool.

    Args:
        inputs, outputs: channels before and after.
        neuron: makes the neurons.
    """

    stride = 2

    def __init__(self, inputs: int, outputs: int, neuron: NeuronMaker = PaperLIF) -> None:
        main = embedding_layer(inputs, outputs, neuron, pool=True), embedding_layer(outputs, outputs, neuron)
        super().__init__(main, embedding_layer(inputs, outputs, None, size=1, pool=True), start=0)


class PoolFirstEmbedding(StageEmbedding):
    """1/2 of the size (MS-QKFormer on ImageNet): 3 x 3 and max pool, 3 x 3; shortcut 1 x 1 of stride 2.

    Args:
        inputs, outputs, neuron: as in MaxEmbedding.
    """

    stride = 2

    def __init__(self, inputs: int, outputs: int, neuron: NeuronMaker = PaperLIF) -> None:
        main = embedding_layer(inputs, outputs, neuron, pool=True), embedding_layer(outputs, outputs, neuron)
        super().__init__(main, embedding_layer(inputs, outputs, None, size=1, stride=2), start=0)


class PoolLastEmbedding(StageEmbedding):
    """1/2 of the size (MS-QKFormer on CIFAR and events): 3 x 3, 3 x 3 and max pool; shortcut 1 x 1 of stride 2.

    Args:
        inputs, outputs, neuron: as in MaxEmbedding.
    """

    stride = 2

    def __init__(self, inputs: int, outputs: int, neuron: NeuronMaker = PaperLIF) -> None:
        main = embedding_layer(inputs, outputs, neuron), embedding_layer(outputs, outputs, neuron, pool=True)
        super().__init__(main, embedding_layer(inputs, outputs, None, size=1, stride=2), start=0)
