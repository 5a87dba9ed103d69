"""Queries, keys and values of a network's attention layers, for losses that compare them with a teacher's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from snnkit.nn.attention import SpikeAttention
from snnkit.nn.checkpoint import recomputing


@contextmanager
def queries_keys_values(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """``with queries_keys_values(model) as found: model(x)``: what the attention layers multiply, with gradients.

    Args:
        model: any that has layers of :class:`SpikeAttention`, whatever its neurons are.

    Yields:
        Name of the projection, e.g. ``"stages.3.1.mixer.q"``, -> its spikes ``[T, B, heads, N, d]``, N = H W tokens, in
        the order in which they run. The next call of the model replaces them.

    Raises:
        ValueError: the model has no such layer.

    For ``snnkit.nn.losses.fine_grained_distillation``: ``list(found.values())`` of student and teacher. A teacher with
    another number of steps takes its mean, ``[f.mean(0) for f in found.values()]``. Activation checkpointing changes
    nothing; a compiled model is to be compiled inside of the block.

    >>> import torch
    >>> from snnkit.nn import SSA
    >>> block = SSA(8, heads=2)
    >>> with queries_keys_values(block) as found:
    ...     stream = block(torch.zeros(3, 1, 8, 4, 5), torch.ones(3, 1, 8, 4, 5))
    >>> {name: tuple(f.shape) for name, f in found.items()}
    {'q': (3, 1, 2, 20, 4), 'k': (3, 1, 2, 20, 4), 'v': (3, 1, 2, 20, 4)}
    """
    found: dict[str, Tensor] = {}
    hooks = []
    for path, layer in model.named_modules():
        if isinstance(layer, SpikeAttention):
            for name in layer.projections:
                keep = partial(_keep, found, f"{path}.{name}".lstrip("."), layer.heads)
                hooks.append(getattr(layer, name).register_forward_hook(keep))
    if not hooks:
        raise ValueError(f"{type(model).__name__} has no layer of SpikeAttention: there are no queries to look at.")
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _keep(found: dict[str, Tensor], name: str, heads: int, layer: nn.Module, given: Any, pair: Any) -> None:
    if not recomputing():
        found[name] = pair[1].flatten(3).unflatten(2, (heads, -1)).mT
