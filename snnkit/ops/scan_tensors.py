"""The tensors of a call beside x, made ready and checked: learnt coefficients, and the states to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snnkit.ops.program import Plan


def coefficients_of(plan: Plan, parameters: Mapping[str, Any], x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """The coefficients that are tensors, each of which broadcasts to the features of x."""
    if not plan.program.tensors:
        return []
    coefficients = plan.program.tensor_values({**plan.fixed, **parameters}, dtype)
    for coefficient in coefficients:
        try:
            fits = torch.broadcast_shapes(coefficient.shape, x.shape[2:]) == x.shape[2:]
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"{plan.program.title}: a parameter of shape {tuple(coefficient.shape)} does not broadcast to the "
                f"features {tuple(x.shape[2:])} of x. One value a channel is [C] for [T, B, C], [C, 1, 1] for images."
            )
    return coefficients


def require_device(title: str, x: Tensor, **tensors: Sequence[Tensor]) -> None:
    """Raise ValueError for a parameter or a state, by what it is called, that is not where x is."""
    for which, each in tensors.items():
        for tensor in each:
            if tensor.device != x.device:
                raise ValueError(
                    f"{title}: a {which} is on {tensor.device}, x on {x.device}. "
                    "Move one of them: layer.to(x.device), or x.to(device)."
                )


def start_of(
    plan: Plan, parameters: Mapping[str, Any], x: Tensor, state: Mapping[str, Tensor] | None, dtype: torch.dtype
) -> list[Tensor]:
    """The states to start from; none if all of them are the equation's own numbers."""
    names, shape = plan.program.states, x.shape[1:]
    if state is None:
        if not plan.learnt_initial:
            return []
        initial = [
            parameters[v] if isinstance(v, str) else torch.full((), v, dtype=torch.float64, device=x.device)
            for v in plan.initial
        ]
        return [value.to(dtype).expand(shape) for value in initial]
    if not isinstance(state, Mapping):
        example = ", ".join(f"{name!r}: ..." for name in names)
        raise TypeError(f"state must be a dict of tensors, {{{example}}}, got a {type(state).__name__}.")
    if set(state) != set(names):
        raise ValueError(f"{plan.program.title} has the states {', '.join(names)}, got {', '.join(state) or 'none'}.")
    for name in names:
        if not isinstance(state[name], Tensor):
            remedy = "A number: torch.full_like(x[0], number)."
            raise TypeError(f"state {name!r} must be a tensor, got {state[name]!r}. {remedy}")
        if state[name].shape != shape:
            got = tuple(state[name].shape)
            raise ValueError(f"state {name!r} must have the shape {tuple(shape)} of x[0], got {got}.")
        if state[name].is_complex():
            raise TypeError(f"state {name!r} must be real, got {state[name].dtype}. Take its .real.")
    return [state[name].to(dtype) for name in names]
