"""Depthwise convolutions in attention's place: each channel mixes neighbouring pixels on its own."""

from __future__ import annotations

from torch import Tensor, nn

from snnkit._suggest import NamedArguments
from snnkit.nn.attention import NeuronMaker, PaperLIF
from snnkit.nn.norm_neuron import ConvNormNeuron, Pair, Shortcut


class DepthwiseMixer(NamedArguments, nn.Module):
    """``u' = u + norm(W * s);  s' = neuron(u')`` with a kernel of its own for each channel.

    A token mixer of the early stages of Max-Former (Fang et al. 2025, NeurIPS): cheaper than attention, and it keeps
    high frequencies.

    Args:
        dim: channels.
        kernel: its size, odd (the paper: 3, 5 or 7).
        bias: of the convolution.
        neuron, shortcut, drop_path: as in SpikeAttention.

    Raises:
        ValueError: the kernel is even or not positive.
    """

    def __init__(
        self,
        dim: int,
        kernel: int = 3,
        *,
        bias: bool = True,
        neuron: NeuronMaker = PaperLIF,
        shortcut: Shortcut | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and > 0, so that the map keeps its size, got {kernel}.")
        conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=bias)
        self.layer = ConvNormNeuron(conv, neuron(v_threshold=1.0), shortcut=shortcut, drop_path=drop_path)

    def forward(self, u: Tensor, s: Tensor) -> Pair:
        """Map the stream ``(u, s)`` to ``(u', s')``."""
        return self.layer(s, u)
