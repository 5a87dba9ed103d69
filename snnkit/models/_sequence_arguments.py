"""What the constructors and calls of the networks for sequences check: sizes, readout and neurons, the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.models._vision_arguments import require_whole


def require_layers(in_features: int, hidden: Any, num_classes: int, **sizes: Any) -> None:
    """Refuse sizes of layers, and other sizes, that are no whole numbers >= 1; an empty ``hidden`` has no layer.

    >>> require_layers(140, hidden=(256, 0), num_classes=20)
    Traceback (most recent call last):
    ValueError: hidden[1] must be a whole number >= 1, got 0.
    """
    if isinstance(hidden, str) or not isinstance(hidden, Sequence):
        raise TypeError(f"hidden must be a sequence of sizes, got {hidden!r}. Write hidden=({hidden!r},).")
    require_whole(1, in_features=in_features, num_classes=num_classes, **sizes)
    require_whole(1, **{f"hidden[{i}]": size for i, size in enumerate(hidden)})


def require_builders(**builders: Any) -> None:
    """Raise TypeError for what can't be called to build a module: above all a module, whose call is its forward."""
    for name, build in builders.items():
        if build is None or (callable(build) and not isinstance(build, nn.Module)):
            continue
        kind = type(build).__name__
        got, remedy = repr(build), ""
        if isinstance(build, nn.Module):
            got, remedy = f"an object {kind}", f" Give the class: {name}={kind}, or {name}=lambda: {kind}(...)."
        raise TypeError(f"{name} must be a class, or a function without arguments, got {got}.{remedy}")


def require_sequence(x: Tensor, features: int, dtype: torch.dtype, who: str) -> None:
    """Raise ValueError or TypeError for an input that is not ``[T, B, features]``, floating, as wide as the weights."""
    if x.ndim != 3 or x.shape[2] != features:
        raise ValueError(f"{who} expects [T, B, {features}], time first, got {tuple(x.shape)}.")
    if not x.is_floating_point():
        raise TypeError(f"{who} expects a floating x, got {x.dtype}: x.float().")
    if torch.promote_types(x.dtype, dtype) != dtype:
        raise TypeError(f"x is {x.dtype}, the weights are {dtype}: x.to({dtype}), or model.to({x.dtype}).")
