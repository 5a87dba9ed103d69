"""Spike-driven attention: queries, keys and values are spikes, there is no softmax, each projection ends in a norm.

All blocks take and give the stream ``(u, s)`` (see ``norm_neuron.py``), ``[T, B, C, H, W]``; tokens are the N = H W
pixels, channel c belongs to head ``c // (C / heads)``. One block is ::

    q, k, v = neuron(norm(W s));   u' = u + norm(W_o mix(q, k, v));   s' = neuron(u')

and they differ in ``mix``. With ``shortcut=SEWShortcut()`` the neuron stands before the sum: ``u' = s' = u +
neuron(norm())``. To use one alone, ``u, s = block(u, s)`` with s the spikes of u: a paper's block that starts with a
neuron gets its spikes from the layer before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from snnkit._suggest import NamedArguments
from snnkit.equations.surrogates import Sigmoid
from snnkit.nn.neuron import LIF
from snnkit.nn.norm_neuron import ConvNormNeuron, Pair, SEWShortcut, Shortcut
from snnkit.nn.repconv import RepConv
from snnkit.nn.time import per_step

NeuronMaker = Callable[..., nn.Module]
"""Called with ``v_threshold`` for each layer: a neuron class, or ``functools.partial`` of one."""

PaperLIF = partial(LIF, tau=2.0, surrogate=Sigmoid(4.0), detach_reset=True)
"""The neuron of all these papers: tau 2, hard reset to 0 without gradient, sigmoid surrogate with alpha 4."""


def pointwise(inputs: int, outputs: int, bias: bool = False) -> nn.Conv2d:
    """A linear layer over the channels of each pixel."""
    return nn.Conv2d(inputs, outputs, 1, bias=bias)


def reparametrised(inputs: int, outputs: int, bias: bool = False) -> RepConv:
    """A RepConv as projection; its convolutions have no bias.

    Raises:
        ValueError: a bias is asked for.
    """
    if bias:
        raise ValueError("RepConv has no bias, got bias=True: leave it out, or projection=pointwise.")
    return RepConv(inputs, outputs)


def linear_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """``q (k^T v)`` in each head, on ``[T, B, C, H, W]``; the order of the products is the cheaper one.

    >>> import torch
    >>> one = torch.ones(1, 1, 2, 1, 3)
    >>> linear_attention(one, one, one, heads=1).flatten().tolist()
    [6.0, 6.0, 6.0, 6.0, 6.0, 6.0]
    """
    q_heads, k_heads, v_heads = (x.flatten(3).unflatten(2, (heads, -1)) for x in (q, k, v))  # [T, B, heads, d, N]
    d, n = q_heads.shape[-2:]
    # Tokens stand last here, so that q (k^T v) is written transposed.
    a = v_heads @ (k_heads.mT @ q_heads) if n < d else (v_heads @ k_heads.mT) @ q_heads
    return a.reshape(q.shape)


class SpikeAttention(NamedArguments, nn.Module):
    """What all blocks share: the projections and the order of things. A block of your own overrides ``mix``.

    Args:
        dim: channels C.
        heads: heads; they divide dim.
        scale: factor of the integer products, where there are some.
        bias: of the projections q, k, v (the papers: none).
        proj_bias: of the output projection.
        neuron: makes the neurons, called with ``v_threshold=1.0`` (and 0.5 for the one inside ``mix``).
        shortcut: ``MembraneShortcut()`` or ``SEWShortcut()``.
        projection: makes a projection from (inputs, outputs, bias): a 1 x 1 convolution by default.
        scale_residual: start of a learnt factor per channel of the branch (layer scale).
        drop_path: probability that a sample loses the branch in training.
        fires: whether a neuron follows; False where the network's head reads membranes.

    Raises:
        ValueError: heads does not divide dim.
    """

    projections: ClassVar[tuple[str, ...]] = ("q", "k", "v")
    default_scale: ClassVar[float] = 1.0
    mix_threshold: ClassVar[float | None] = 0.5

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        *,
        scale: float | None = None,
        bias: bool = False,
        proj_bias: bool = True,
        neuron: NeuronMaker = PaperLIF,
        shortcut: Shortcut | None = None,
        projection: Callable[..., nn.Module] = pointwise,
        scale_residual: float | None = None,
        drop_path: float = 0.0,
        fires: bool = True,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads must divide dim={dim}, got heads={heads}.")
        if isinstance(neuron, nn.Module):
            raise TypeError(
                f"neuron must be a class, since each place gets one with its own threshold, got the layer {neuron!r}. "
                "With other defaults: functools.partial(nn.LIF, tau=3.0)."
            )
        self.dim, self.heads = dim, heads
        self.scale = self.default_scale if scale is None else scale
        for name in self.projections:
            layer = ConvNormNeuron(projection(dim, dim, bias), neuron(v_threshold=1.0), nn.BatchNorm2d(dim))
            setattr(self, name, layer)
        self.neuron = self.mix_neuron(neuron)
        after = neuron(v_threshold=1.0) if fires or isinstance(shortcut, SEWShortcut) else None
        options: dict[str, Any] = dict(shortcut=shortcut, scale=scale_residual, drop_path=drop_path)
        self.proj = ConvNormNeuron(projection(dim, dim, proj_bias), after, nn.BatchNorm2d(dim), **options)

    def mix_neuron(self, neuron: NeuronMaker) -> nn.Module:
        """The neuron inside ``mix``."""
        return neuron(v_threshold=self.mix_threshold)

    def mix(self, *projected: Tensor) -> Tensor:
        """Combine the projected spikes, each ``[T, B, C, H, W]``, to the input of the output projection."""
        raise NotImplementedError

    def forward(self, u: Tensor | None, s: Tensor) -> Pair:
        """Map the stream ``(u, s)`` to ``(u', s')``; without u the branch is added to nothing."""
        projected = [getattr(self, name)(s)[1] for name in self.projections]
        return self.proj(self.mix(*projected), u)

    def extra_repr(self) -> str:
        """Heads and scale."""
        return f"heads={self.heads}" + ("" if self.scale == 1.0 else f", scale={self.scale}")


class SSA(SpikeAttention):
    """Spiking self attention: ``mix = neuron_0.5(scale q (k^T v))``. Zhou et al. 2023 (ICLR, Spikformer).

    The scale is 0.125 for every head dimension, 0.25 in the paper's network for CIFAR10-DVS.
    """

    default_scale = 0.125

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """The product, thresholded."""
        return self.neuron(linear_attention(q, k, v, self.heads) * self.scale)


class SDSA1(SpikeAttention):
    """``mix = q * neuron_0.5(sum over tokens of k * v)``: a gate per channel, no product. Yao et al. 2023 (NeurIPS).

    The first spike-driven self attention. (The paper writes it with q and k in the sum, the code as here.)

    Args:
        erode: 3 x 3 max pools on k and v, and, as the paper's code does on event data, on ``k * v`` and the result,
            where the window covers 3 neighbouring tokens x 3 neighbouring channels of a head.
        others: as in SpikeAttention.
    """

    def __init__(self, dim: int, heads: int = 8, *, erode: bool = False, **keywords: Any) -> None:
        super().__init__(dim, heads, **keywords)
        self.pool = nn.MaxPool2d(3, 1, 1) if erode else None

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """The channels of q that have a token with both k and v."""
        if self.pool is not None:
            k, v = per_step(self.pool, k), per_step(self.pool, v)
        kv = self._eroded(k * v)
        gate = self.neuron(kv.sum((-2, -1), keepdim=True))
        return self._eroded(q * gate)

    def _eroded(self, x: Tensor) -> Tensor:
        """Pool over ``[token, channel of the head]``."""
        if self.pool is None:
            return x
        tokens = x.flatten(3).unflatten(2, (self.heads, -1)).mT  # [T, B, heads, N, d]
        return per_step(self.pool, tokens).mT.reshape(x.shape)


class SDSA2(SpikeAttention):
    """``mix = neuron_0.5(sum over tokens of q) * v``: a gate per channel from the queries alone.

    Our own definition after Yao et al. 2024 (ICLR, Spike-driven Transformer V2), whose text leaves it open and whose
    code does not have it.
    """

    projections = ("q", "v")

    def mix(self, q: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """The channels of v in which a query fired."""
        return self.neuron(q.sum((-2, -1), keepdim=True)) * v


class SDSA3(SSA):
    """``mix = neuron_0.5(0.125 q (k^T v))``; its projections are RepConv. Yao et al. 2024 (ICLR, Meta-SpikeFormer).

    The formula of SSA in a block with membrane shortcut. Nothing has a bias.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        *,
        proj_bias: bool = False,
        projection: Callable[..., nn.Module] = reparametrised,
        **keywords: Any,
    ) -> None:
        super().__init__(dim, heads, proj_bias=proj_bias, projection=projection, **keywords)


class SDSA4(SDSA3):
    """SDSA-3 whose threshold is learnt: ``mix = neuron_theta(q (k^T v))`` on the integer product, theta = 4 at first.

    Our own definition after Yao et al. 2024 (ICLR), whose code does not have it: 4 = 0.5 / 0.125 is the threshold of
    SDSA-3 without its scale. The neuron class must be able to learn its ``v_threshold``.
    """

    default_scale = 1.0
    mix_threshold = 4.0

    def mix_neuron(self, neuron: NeuronMaker) -> nn.Module:
        """A neuron that learns its threshold."""
        return neuron(v_threshold=self.mix_threshold, learn=("v_threshold",))


class TokenQK(SpikeAttention):
    """``mix = neuron_0.5(sum over a head's channels of q) * k``: a gate per token. Zhou et al. 2024 (QKFormer)."""

    projections = ("q", "k")

    def mix(self, q: Tensor, k: Tensor) -> Tensor:  # type: ignore[override]
        """The tokens of k at which a query of the head fired."""
        heads = (self.heads, self.dim // self.heads)
        gate = self.neuron(q.unflatten(2, heads).sum(3, keepdim=True))
        return (gate * k.unflatten(2, heads)).flatten(2, 3)


class ChannelQK(SpikeAttention):
    """``mix = neuron_0.5(sum over tokens of q) * k``: a gate per channel.

    Our own definition after Zhou et al. 2024 (NeurIPS, QKFormer), which describes it; the code does not have it.
    """

    projections = ("q", "k")

    def mix(self, q: Tensor, k: Tensor) -> Tensor:  # type: ignore[override]
        """The channels of k in which a query fired."""
        return self.neuron(q.sum((-2, -1), keepdim=True)) * k
