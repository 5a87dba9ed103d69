"""Folding: a batch norm in eval mode is a scale and a shift a channel, which the layer before it can take over."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from snnkit.nn.time import at_least_float32


def scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """``a = gamma / sqrt(var + eps)`` and ``c = beta - mu gamma / sqrt(var + eps)``: in eval mode norm(x) = a x + c.

    Args:
        norm: any batch norm with running statistics mu, var (torch's, also synchronised ones, or ours).

    Returns:
        a and c, ``[C]``, in float32 or better. c is what the norm makes of zeros.

    Raises:
        ValueError: the norm keeps no running statistics.

    >>> a, c = scale_and_shift(nn.BatchNorm2d(3, eps=0.0))
    >>> a.tolist(), c.tolist()
    ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    """
    mean, var = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if mean is None or var is None:
        raise ValueError(
            f"a batch norm folds with running statistics, got {norm}. Build it with track_running_stats=True."
        )
    mean, deviation = at_least_float32(mean), (at_least_float32(var) + norm.eps).sqrt()
    if norm.weight is None:
        return 1 / deviation, -mean / deviation
    gamma, beta = at_least_float32(norm.weight), at_least_float32(norm.bias)
    return gamma / deviation, beta - mean * gamma / deviation


def fold_norm(weight: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """``W <- a W, b <- a b + c``: the weight and bias of a layer that does the batch norm behind it, too.

    Args:
        weight: of a linear layer or a convolution (not a transposed one), ``[C, ...]``, C = its outputs.
        bias: ``[C]``, or None for zeros.
        norm: the batch norm that follows at once, in the sense of ``scale_and_shift``.

    Returns:
        Weight and bias, in float32 or better. Exact in eval mode, up to rounding.

    >>> layer, norm = nn.Linear(3, 2), nn.BatchNorm1d(2).eval()
    >>> x = layer.weight.new_ones(4, 3)
    >>> y = nn.functional.linear(x, *fold_norm(layer.weight, layer.bias, norm))
    >>> y.allclose(norm(layer(x)), atol=1e-6)
    True
    """
    a, c = scale_and_shift(norm)
    if len(weight) != len(a):
        raise ValueError(f"the norm must have the {len(weight)} channels of the layer before it, got {len(a)}.")
    folded = at_least_float32(weight) * a.reshape(-1, *[1] * (weight.ndim - 1))
    return folded, c if bias is None else a * at_least_float32(bias) + c


def weight_of(layer: Any) -> Tensor:
    """The weight that a layer multiplies by: ``layer.quantized_weight()`` where it has that, else ``layer.weight``."""
    return layer.quantized_weight() if hasattr(layer, "quantized_weight") else layer.weight


class Folded(nn.Identity):
    """What is left of a norm whose work the convolution in front of it does; it refuses training."""

    def train(self, mode: bool = True) -> Folded:
        """Eval mode only.

        Raises:
            RuntimeError: mode is True.
        """
        if mode:
            raise RuntimeError(
                "This network is folded: its batch norms are part of the convolutions and cannot be trained. "
                "Train the one it was made from, and fold that again."
            )
        return super().train(mode)
