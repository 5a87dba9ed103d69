"""What stands beside attention in a block: two layers over the channels of each pixel, and the block itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnkit._suggest import NamedArguments
from snnkit.nn.attention import NeuronMaker, PaperLIF, pointwise
from snnkit.nn.norm_neuron import ConvNormNeuron, Pair, SEWShortcut, Shortcut


class MLP(NamedArguments, nn.Module):
    """Two layers over the channels of each pixel: ``u' = u + norm(W_2 neuron(norm(W_1 s)));  s' = neuron(u')``.

    Args:
        dim, hidden: channels outside and inside.
        inner_shortcut: the first layer adds to the stream, too, as Spike-driven Transformer and Max-Former do where
            hidden = dim: ``u_1 = u + norm(W_1 s);  u' = u_1 + norm(W_2 neuron(u_1))``. A sample that drop_path takes
            keeps u: it loses both layers.
        bias: of both layers.
        neuron, shortcut, projection, scale_residual, drop_path, fires: as in SpikeAttention.

    Raises:
        ValueError: inner_shortcut where hidden is not dim.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        inner_shortcut: bool = False,
        bias: bool = True,
        neuron: NeuronMaker = PaperLIF,
        shortcut: Shortcut | None = None,
        projection: Callable[..., nn.Module] = pointwise,
        scale_residual: float | None = None,
        drop_path: float = 0.0,
        fires: bool = True,
    ) -> None:
        super().__init__()
        if inner_shortcut and hidden != dim:
            raise ValueError(f"inner_shortcut adds {hidden} to {dim} channels: hidden must equal dim.")
        self.inner_shortcut = inner_shortcut
        self.fc1 = ConvNormNeuron(projection(dim, hidden, bias), neuron(v_threshold=1.0), nn.BatchNorm2d(hidden))
        after = neuron(v_threshold=1.0) if fires or isinstance(shortcut, SEWShortcut) else None
        options: dict[str, Any] = dict(shortcut=shortcut, scale=scale_residual, drop_path=drop_path)
        self.fc2 = ConvNormNeuron(projection(hidden, dim, bias), after, nn.BatchNorm2d(dim), **options)

    def forward(self, u: Tensor | None, s: Tensor) -> Pair:
        """Map the stream ``(u, s)`` to ``(u', s')``; without u the branch is added to nothing."""
        if not self.inner_shortcut:
            _, s = self.fc1(s)
            return self.fc2(s, u)
        inner, s = self.fc1(s, u)
        if self.fc2.drop_path is None or not self.training:
            return self.fc2(s, inner)
        u = torch.zeros_like(inner) if u is None else u
        return self.fc2(s, u, begun=inner - u)


class Block(nn.Module):
    """A token mixer and an MLP, each ``(u, s) -> (u', s')`` with its own shortcut: ``mlp(mixer(u, s))``."""

    def __init__(self, mixer: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer
        self.mlp = mlp

    def forward(self, u: Tensor, s: Tensor) -> Pair:
        """Map the stream ``(u, s)`` to ``(u', s')``."""
        return self.mlp(*self.mixer(u, s))
