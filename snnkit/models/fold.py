"""The form of a network for inference: batch norms and RepConv units folded into convolutions."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from snnkit.nn.folding import Folded, fold_norm, weight_of
from snnkit.nn.norm_neuron import ConvNormNeuron
from snnkit.nn.repconv import RepConv

Network = TypeVar("Network", bound=nn.Module)


def fold(model: Network) -> Network:
    """Return a copy in eval mode whose batch norms and RepConv units are part of the convolutions.

    ``W <- a W,  b <- a b + c`` with ``a = gamma / sqrt(var + eps)``, ``c = beta - mu a``; a RepConv becomes one 3 x 3
    convolution, borders included, and a quantised convolution a plain one with its quantised weights. Answers are the
    same up to rounding (1e-10 in float64); a membrane within rounding of its threshold may fire in one and not in the
    other. Folding again changes nothing.

    Args:
        model: any module whose batch norms are those of ``ConvNormNeuron`` and ``RepConv``; it stays as it is.

    Returns:
        The copy; of a RepConv alone, its convolution. It refuses ``train()``, and ``save_checkpoint`` refuses it: save
        the model it came from.

    Raises:
        ValueError: a batch norm would stay, since it stands elsewhere; the message has their names.

    >>> import torch
    >>> from snnkit.models import Spikformer
    >>> model = Spikformer(dim=16, depth=1, heads=2, num_classes=10).eval()
    >>> x = torch.zeros(1, 3, 32, 32)
    >>> torch.allclose(fold(model)(x), model(x), atol=1e-5)
    True
    """
    twin: Any = nn.Sequential(copy.deepcopy(model))  # so that the model itself has a place where it is replaced
    for path, layer in list(twin.named_modules(remove_duplicate=False)):
        if isinstance(layer, RepConv):
            twin.set_submodule(path, layer.folded())
    twin = twin[0]
    for layer in twin.modules():
        if isinstance(layer, ConvNormNeuron) and _is_batch_norm(layer.norm):
            last = layer.conv[-1] if isinstance(layer.conv, nn.Sequential) else layer.conv
            if not isinstance(last, nn.Conv2d):
                continue
            folded = _with_norm(last, layer.norm)
            if isinstance(layer.conv, nn.Sequential):
                layer.conv[-1] = folded
            else:
                layer.conv = folded
            layer.norm = Folded()
    staying = [f"{path or 'the module'} ({type(m).__name__})" for path, m in twin.named_modules() if _is_batch_norm(m)]
    if staying:
        some = ", ".join(staying[:3]) + ", ..." * (len(staying) > 3)
        raise ValueError(
            f"fold knows the batch norms of ConvNormNeuron and RepConv, got others: {some}. "
            "Write convolution and norm as ConvNormNeuron(conv, norm=norm)."
        )
    twin.eval()  # the new layers, too
    twin.evaluation_copy = True
    return twin


def _is_batch_norm(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm)  # ours, too, and the synchronised one


def _with_norm(conv: Any, norm: nn.Module) -> nn.Module:
    """A plain convolution that does the norm behind it, too."""
    weight, bias = fold_norm(weight_of(conv), conv.bias, norm)
    own = conv.weight
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups,
        bias=True, padding_mode=conv.padding_mode, device="meta",
    )  # fmt: skip
    plain.weight = nn.Parameter(weight.detach().to(own.dtype))
    plain.bias = nn.Parameter(bias.detach().to(own.dtype))
    return plain
