"""The end of every layer of a residual spiking network: norm, shortcut and neuron in one call.

A network with membrane shortcuts is usually written neuron first, ``u = u + norm(conv(neuron(u)))``. Shifted by half a
step it is the same network, and norm, shortcut and the next neuron stand side by side::

    (u, s)  ->  y = conv(s)  ->  u' = u + norm(y),  s' = neuron(u')  ->  (u', s')

Blocks take and give the pair of membrane sum u and spikes s, both ``[T, B, C, H, W]``. Whatever becomes faster about
norm + shortcut + neuron becomes faster in :class:`NormNeuron`, for all models at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snnkit._suggest import NamedArguments
from snnkit.nn.neuron_layer import Neuron
from snnkit.nn.time import DropPath, per_step

Pair = tuple[Tensor, Tensor]
Step = Callable[[Tensor], Tensor]


class MembraneShortcut:
    """Membrane shortcut (Hu et al. 2021, MS-ResNet): ``u' = u + z;  s' = neuron(u')``. Membranes are real numbers."""

    def __call__(self, z: Tensor, u: Tensor | None, fire: Step, drop: Step) -> Pair:
        """Join the branch's sum z with the stream u (None: nothing to join) and let the neuron fire."""
        u = z if u is None else u + drop(z)
        return u, fire(u)

    def __repr__(self) -> str:
        return "MembraneShortcut()"


class SEWShortcut:
    """Spike-element-wise shortcut (Fang et al. 2021, SEW-ResNet, ADD): ``u' = u + neuron(z);  s' = u'``.

    The stream is a small whole number, the sum of the branches' spikes, and the next layer reads it as it is.
    """

    def __call__(self, z: Tensor, u: Tensor | None, fire: Step, drop: Step) -> Pair:
        """Let the branch's neuron fire and add its spikes to the stream u (None: nothing to add to)."""
        s = fire(z)
        u = s if u is None else u + drop(s)
        return u, u

    def __repr__(self) -> str:
        return "SEWShortcut()"


Shortcut = MembraneShortcut | SEWShortcut


class NormNeuron(NamedArguments, nn.Module):
    """``u' = u + drop_path(scale * pool(norm(y)));  s' = neuron(u')``, called as ``(y, u=None, steps=None)``.

    Args:
        norm: applied to each step, ``[T * B, C, H, W]``: batch norms take their statistics over time and batch.
        neuron: a layer over time, ours or any other on ``[T, B, ...]``; None: ``s' = u'``.
        shortcut: ``MembraneShortcut()`` or ``SEWShortcut()``, where the neuron stands before the sum.
        pool: applied to each step of the norm's output.
        scale: start of a learnt factor per channel (layer scale); None: no factor.
        drop_path: probability that a sample loses this branch in training, for all its steps alike.

    Without u there is no sum. With ``steps=T`` y is one row that stands for T equal ones (a still image): norm and
    pool see it once, with running variances as if they had seen it T times, u' keeps one row, and the neuron reads
    that row T times.

    With ``begun`` it ends a branch of several layers that has added this to the stream already, ``u' = u +
    drop_path(begun + z)``: a dropped sample loses both parts. u is the stream before the branch.

    Raises:
        ValueError: ``steps`` with more than one row of y.

    >>> from snnkit.nn import LIF
    >>> end = NormNeuron(nn.BatchNorm2d(3), LIF()).eval()
    >>> u, s = end(torch.full((1, 2, 3, 4, 4), 9.0), steps=5)
    >>> u.shape[0], s.shape[0]
    (1, 5)
    """

    def __init__(
        self,
        norm: nn.Module,
        neuron: nn.Module | None = None,
        shortcut: Shortcut | None = None,
        pool: nn.Module | None = None,
        scale: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.neuron = neuron
        self.shortcut = MembraneShortcut() if shortcut is None else shortcut
        self.pool = pool
        self.drop_path = DropPath(drop_path) if drop_path else None
        channels = getattr(norm, "num_features", 1)
        self.scale = None if scale is None else nn.Parameter(torch.full((channels, 1, 1), scale))

    def forward(
        self, y: Tensor, u: Tensor | None = None, steps: int | None = None, begun: Tensor | None = None
    ) -> Pair:
        """Return the new stream u' and its spikes s'."""
        if steps is not None and len(y) != 1:
            raise ValueError(f"steps={steps} wants one row [1, B, ...] that is read {steps} times, got {len(y)} rows.")
        z = self._normalised(y, steps)
        if self.pool is not None:
            z = per_step(self.pool, z)
        if self.scale is not None:
            z = z * self.scale
        return self.shortcut(z, u, lambda v: self._fire(v, steps), lambda v: self._drop(v, begun))

    def _fire(self, u: Tensor, steps: int | None) -> Tensor:
        if self.neuron is None:
            return u
        if steps is None or len(u) != 1:
            return self.neuron(u)
        if isinstance(self.neuron, Neuron):
            return self.neuron(u, steps=steps)
        return self.neuron(u.expand(steps, *u.shape[1:]))

    def _drop(self, z: Tensor, begun: Tensor | None) -> Tensor:
        z = z if begun is None else begun + z
        return z if self.drop_path is None else self.drop_path(z)

    def _normalised(self, y: Tensor, steps: int | None) -> Tensor:
        """The norm of each step; of a still image, the running variance is that of T rows.

        A running variance is the unbiased one, v n / (n - 1). T equal rows have the same v, but n is T times as large.
        """
        norm = self.norm
        if steps is None or not (isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats):
            return per_step(norm, y)
        before = norm.running_var.clone()  # type: ignore[union-attr]
        z = per_step(norm, y)
        with torch.no_grad():
            calls: Any = norm.num_batches_tracked
            share: Any = norm.momentum if norm.momentum is not None else 1 / calls.to(before.dtype)
            n = _values_seen(norm, y)
            factor = steps * (n - 1) / (steps * n - 1)
            old = before * (1 - share)
            # .data: the norm has saved the buffer for a backward that will not read it in training mode.
            norm.running_var.data.copy_(old + (norm.running_var - old) * factor)  # type: ignore[union-attr]
        return z

    def extra_repr(self) -> str:
        """The shortcut."""
        return f"shortcut={self.shortcut!r}"


def _values_seen(norm: _BatchNorm, y: Tensor) -> int:
    """How many values a channel's variance is taken over: a synchronised norm sees those of all processes.

    They are taken to have batches of one size, as a distributed sampler gives them.
    """
    n = y.numel() // y.shape[2]
    if isinstance(norm, nn.SyncBatchNorm) and distributed.is_available() and distributed.is_initialized():
        n *= distributed.get_world_size(norm.process_group)
    return n


class ConvNormNeuron(NormNeuron):
    """A convolution in front of a :class:`NormNeuron`: spikes s in, ``(u', s')`` out.

    Args:
        conv: a convolution, or a ``Sequential`` that ends in one, on ``[T * B, C, H, W]``.
        neuron, norm, others: as in NormNeuron; the norm is ``BatchNorm2d`` of the convolution's channels by default.

    >>> layer = ConvNormNeuron(nn.Conv2d(3, 8, 3, padding=1, bias=False))
    >>> u, s = layer(torch.zeros(4, 2, 3, 6, 6))
    >>> u.shape
    torch.Size([4, 2, 8, 6, 6])
    """

    def __init__(
        self,
        conv: nn.Module,
        neuron: nn.Module | None = None,
        norm: nn.Module | None = None,
        shortcut: Shortcut | None = None,
        pool: nn.Module | None = None,
        scale: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        if norm is None:
            last: Any = conv[-1] if isinstance(conv, nn.Sequential) else conv
            norm = nn.BatchNorm2d(last.out_channels)
        super().__init__(norm, neuron, shortcut, pool, scale, drop_path)
        self.conv = conv

    def forward(
        self, s: Tensor, u: Tensor | None = None, steps: int | None = None, begun: Tensor | None = None
    ) -> Pair:
        """Return the stream ``u' = u + norm(conv(s))`` and its spikes."""
        return super().forward(per_step(self.conv, s), u, steps, begun)


class Chain(nn.Sequential):
    """Layers one after the other, each ``(u, s) -> (u', s')``."""

    def forward(self, u: Tensor, s: Tensor) -> Pair:  # type: ignore[override]
        """Pass the stream through."""
        for layer in self:
            u, s = layer(u, s)
        return u, s
