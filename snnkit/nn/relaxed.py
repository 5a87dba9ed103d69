"""Relaxed mode: a network whose spikes are smooth, so that finite differences can check all its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from snnkit.nn.neuron_layer import Neuron


@contextmanager
def relaxed(model: nn.Module) -> Iterator[nn.Module]:
    """``with relaxed(model):`` each spike *is* its surrogate's primitive, and no reset is detached.

    The network is smooth then, and ``torch.autograd.gradcheck`` tests it against finite differences. Copies made
    inside are not relaxed.

    >>> import torch
    >>> from snnkit.nn import LIF
    >>> lif, x = LIF(), torch.rand(3, 1, 2, dtype=torch.float64, requires_grad=True)
    >>> with relaxed(lif):
    ...     torch.autograd.gradcheck(lif, (x,))
    True
    """
    before = [(layer, layer._neuron) for layer in model.modules() if isinstance(layer, Neuron)]
    try:
        for layer, neuron in before:
            layer.use(neuron.as_relaxed())
            layer.__dict__.setdefault("_strict", neuron)  # what copies get
        yield model
    finally:
        for layer, neuron in before:
            layer.use(neuron)
            if layer.__dict__.get("_strict") is neuron:
                del layer.__dict__["_strict"]
