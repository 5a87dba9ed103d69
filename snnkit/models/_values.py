"""Numbers that no model can have: refused while loading, with the name of the tensor."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from snnkit.models._match import both_names
from snnkit.nn.delay import DelayLinear
from snnkit.nn.delayed_recurrence import DelayedRecurrence
from snnkit.nn.neuron_layer import Neuron


def check_values(model: nn.Module, state: dict[str, Tensor], where: str, theirs: dict[str, str]) -> None:
    """Check the tensors that are about to be loaded; ``theirs`` has the file's names by ours, for the messages.

    Raises:
        ValueError: NaN or infinity, another kind of number (complex, whole), a negative variance, a position outside
            the layer's range of delays, or a parameter that a layer refuses (tau <= 0, a delay above max_delay).
    """
    own = model.state_dict()
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        module, both = model.get_submodule(path), both_names(name, theirs)
        if value.is_floating_point() != own[name].is_floating_point() or value.is_complex():
            raise ValueError(f"{where}: {both} is {value.dtype}, expected {own[name].dtype}.")
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{where}: {both} holds NaN or infinity: the run that wrote it was broken.")
        if leaf == "running_var" and (value < 0).any():
            raise ValueError(f"{where}: {both} holds a negative variance, {value.min().item()}.")
        if leaf == "P" and isinstance(module, DelayLinear):
            _check_positions(module, value, f"{where}: {both}")
    for path, module in model.named_modules():
        if isinstance(module, Neuron | DelayedRecurrence):
            _rehearse(module, path, state, where)


def _rehearse(layer: nn.Module, path: str, state: dict[str, Tensor], where: str) -> None:
    """Load into a copy: a layer refuses values that it can't have, but torch has copied others by then."""
    prefix = f"{path}." if path else ""
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if own:
        try:
            copy.deepcopy(layer).load_state_dict(own, strict=False)
        except RuntimeError as error:
            raise ValueError(f"{where}: {prefix}{str(error).splitlines()[-1].strip()}") from error


def stands_beyond(layer: DelayLinear, position: Tensor) -> bool:
    """Whether a position lies beyond the taps. For an even size the official code allows +half, too."""
    return bool((position.abs() > layer.max_delay // 2).any())


def _check_positions(layer: DelayLinear, position: Tensor, name: str) -> None:
    if stands_beyond(layer, position):
        half = layer.max_delay // 2
        raise ValueError(
            f"{name} reaches {position.abs().max().item():g}, but max_delay={layer.max_delay} allows +-{half}. "
            "Build the model with the max_delay of the run that wrote it. If it is that, the run never called "
            f"clamp_(): clamp the tensor to +-{half} before you load it."
        )
