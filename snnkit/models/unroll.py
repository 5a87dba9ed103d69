"""The form of an integer network on neuromorphic hardware: binary spikes, D steps for each time step, equal answers."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from snnkit.models.fold import fold
from snnkit.nn.attention import SSA, SpikeAttention
from snnkit.nn.integer import IELIF
from snnkit.nn.neuron_layer import Neuron
from snnkit.nn.norm_neuron import ConvNormNeuron, SEWShortcut
from snnkit.nn.time import KeepsTime, PerStep
from snnkit.nn.unrolled import SummedIELIF, UnrolledIELIF, UnrolledLayer

Network = TypeVar("Network", bound=nn.Module)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def unroll(model: Network) -> Network:
    """Return a folded copy whose neurons send binary spikes, over T x D steps, and whose answers are the same.

    Every ``IELIF`` becomes an IF neuron that fires n times in D steps, and every linear layer or convolution behind
    one adds up its D answers, with the 1 / divisor in its weights. Attention multiplies the sums of q, k and v over the
    D steps. Convolutions that read no spikes stay: the first, on the image, and the second of two in a row. Membranes
    keep T rows. Answers are equal up to the rounding of :func:`fold`.

    Args:
        model: made of ``ConvNormNeuron`` with membrane shortcuts, ``SSA`` and its kin (``SDSA3``, ``QSDSA``), ``IELIF``
            and torch's layers; children are registered in the order in which they run, as in all models here. It stays
            as it is.

    Returns:
        The copy, for inference (see :func:`fold`).

    Raises:
        TypeError: other neurons, attention or shortcuts.

    >>> import torch
    >>> from snnkit.models import QSDTransformer
    >>> model = QSDTransformer(dims=(4, 4, 6, 8), depths=(1, 1), heads=2, num_classes=10).double().eval()
    >>> x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    >>> torch.allclose(unroll(model)(x), model(x))
    True
    """
    twin = fold(model)
    _unroll(twin, None)
    return twin


def _unroll(module: Any, before: IELIF | None) -> IELIF | None:
    """Unroll what is in a module.

    Args:
        module: any but a neuron or a single layer.
        before: the neuron whose spikes enter it; None: no spikes.

    Returns:
        The neuron whose spikes leave it.
    """
    if isinstance(module, SpikeAttention):
        return _unroll_attention(module, before)
    if isinstance(module, ConvNormNeuron):
        return _unroll_layer(module, before)
    for name, child in module.named_children():
        if isinstance(child, IELIF):
            setattr(module, name, UnrolledIELIF(child))
            before = child
        elif isinstance(child, Neuron | UnrolledIELIF):
            raise TypeError(f"Only IELIF can be unrolled, got {type(child).__name__}.")
        elif isinstance(child, LAYERS):
            setattr(module, name, _on_spikes(child, before))
            before = None
        else:
            before = _unroll(child, before)
    return before


def _unroll_attention(module: Any, before: IELIF | None) -> IELIF | None:
    if not isinstance(module, SSA):
        raise TypeError(f"unroll knows SSA, SDSA3 and QSDSA, whose mix ends in a neuron, got {type(module).__name__}.")
    for name in module.projections:
        layer = getattr(module, name)
        layer.neuron = SummedIELIF(_unroll_layer(layer, before))  # type: ignore[arg-type]
    inside: Any = module.neuron
    module.neuron = UnrolledIELIF(inside)
    return _unroll_layer(module.proj, inside)


def _unroll_layer(module: Any, before: IELIF | None) -> IELIF | None:
    if isinstance(module.shortcut, SEWShortcut):
        raise TypeError("unroll needs membrane shortcuts: the sums of SEWShortcut are no binary spikes.")
    module.conv = _on_spikes(module.conv, before)
    after = module.neuron
    if after is not None:
        module.neuron = UnrolledIELIF(after)
    return after


def _on_spikes(layer: Any, neuron: IELIF | None) -> nn.Module:
    """The layer behind an integer neuron, on its binary spikes."""
    if neuron is None:
        return layer
    if isinstance(layer, nn.Sequential):
        return _TwoInARow(UnrolledLayer(layer[0], neuron), PerStep(layer[1:]))
    return UnrolledLayer(layer, neuron)


class _TwoInARow(KeepsTime, nn.Sequential):
    """Convolutions without a neuron between them: only the first one reads spikes."""
