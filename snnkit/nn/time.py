"""Time-first tensors: checks and masks, modules without time, and dropout that is drawn once a sequence.

All sequences are ``[T, B, ...]``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkit.nn.carry import Stateful
from snnkit.ops.registered import is_plain, transformed


def require_tensor(layer: nn.Module, x: Any) -> None:
    """Refuse arrays, lists and None, whose own errors name neither layer nor remedy."""
    if isinstance(x, Tensor):
        return
    got, remedy = type(x).__name__, "Convert it: torch.as_tensor(x)."
    if x is None:
        got, remedy = "None", "Does the layer before it return its output?"
    elif isinstance(x, tuple):
        remedy = "Pass its first entry, if a neuron made it (record, return_state)."
    raise TypeError(f"{type(layer).__name__} expects a tensor, got {got}. {remedy}")


def require_time_first(layer: nn.Module, x: Tensor) -> None:
    """Refuse what cannot be ``[T, B, ...]`` with features: ``[B, C]`` taken for a sequence is the commonest mistake."""
    require_tensor(layer, x)
    if x.ndim < 3:
        raise ValueError(
            f"{type(layer).__name__} expects [T, B, ...], at least 3 axes, got {tuple(x.shape)}. "
            "A single step of a sequence: x[None] inside `with snnkit.carry(model):`, which keeps the state."
        )


def valid_steps(x: Tensor, lengths: Tensor) -> Tensor:
    """``mask[t, b] = t < lengths[b]``, with as many axes as x: ``[T, B, 1, ...]``.

    Raises:
        TypeError: lengths is no tensor.
        ValueError: lengths is not an integer tensor ``[B]``, or a length is not from 0 to T. Values are looked at where
            that is free: in eager mode and on the CPU. On a GPU it would wait for the device.
    """
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths must be a tensor [B], got {type(lengths).__name__}. Write torch.as_tensor(lengths).")
    if lengths.shape != x.shape[1:2] or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(
            f"lengths must be integers of shape [B] = ({x.shape[1]},), got {tuple(lengths.shape)} of {lengths.dtype}."
        )
    lengths = step_counts(lengths)
    if is_plain(lengths) and lengths.is_cpu and not transformed():
        wrong = lengths[(lengths < 0) | (lengths > len(x))]
        if len(wrong):
            raise ValueError(
                f"lengths must be from 0 to T = {len(x)}, got {wrong[0].item()}. "
                "Of a chunk inside carry: (lengths - start).clamp(0, len(chunk))."
            )
    mask = torch.arange(x.shape[0], device=x.device)[:, None] < lengths.to(x.device)
    return mask.reshape(*mask.shape, *[1] * (x.ndim - 2))


def step_counts(lengths: Tensor) -> Tensor:
    """Lengths as int64: the sum of 250 steps and a tail wraps in uint8. What is no whole number stays as it is."""
    return lengths if lengths.is_floating_point() or lengths.dtype == torch.bool else lengths.long()


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, all else as it is: a sum over a sequence does not fit into 8 or 11 bits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class KeepsTime:
    """Mark of a layer that wants ``[T, B, ...]`` itself where a layer without time stood: it is called directly."""


def per_step(module: Any, x: Tensor) -> Tensor:
    """A module without time on each step, unchecked: ``[T, B, ...]`` -> ``[T * B, ...]`` -> module -> ``[T, B, ...]``.

    One that :class:`KeepsTime` gets x as it is.

    >>> per_step(nn.Conv2d(3, 8, 3), torch.zeros(4, 2, 3, 16, 16)).shape
    torch.Size([4, 2, 8, 14, 14])
    """
    if isinstance(module, KeepsTime):
        return module(x)  # type: ignore[operator]  # a layer, too
    y: Tensor = module(x.flatten(0, 1))
    return y.unflatten(0, x.shape[:2])


class PerStep(nn.Module):
    """Apply a module that knows no time to each step: ``[T, B, ...]`` -> ``[T * B, ...]`` -> module -> ``[T, B, ...]``.

    Args:
        module: a convolution, a norm, a pooling, ...: anything that treats its rows as samples. A batch norm takes its
            statistics over all steps. A module that :class:`KeepsTime` is called on x as it is.

    Raises:
        TypeError: no module, or one with layers that have a state over time: folded, they would see time as further
            samples.

    A contiguous input is not copied.

    >>> PerStep(nn.Conv2d(3, 8, 3))(torch.zeros(4, 2, 3, 16, 16)).shape
    torch.Size([4, 2, 8, 14, 14])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            example = f"{module.__name__}(...)" if isinstance(module, type) else "torch.nn.Linear(8, 4)"
            raise TypeError(f"PerStep takes a module, an object such as {example}, got {module!r}.")
        for name, layer in module.named_modules():
            # `_memories` marks SpikingJelly's layers with state.
            if isinstance(layer, Stateful | nn.RNNBase) or hasattr(layer, "_memories"):
                raise TypeError(
                    f"PerStep takes modules without time, got {name or 'a module'} of type {type(layer).__name__}, "
                    "which has a state over time. Call it on [T, B, ...] itself, outside PerStep."
                )
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to ``[T, B, ...]``, step by step."""
        require_time_first(self, x)
        if isinstance(self.module, KeepsTime):
            return self.module(x)
        y = self.module(x.flatten(0, 1))
        if len(y) != x.shape[0] * x.shape[1]:
            raise ValueError(
                f"PerStep: {type(self.module).__name__} made {len(y)} rows of {x.shape[0] * x.shape[1]} "
                f"(T={x.shape[0]}, B={x.shape[1]}). It must keep axis 0."
            )
        return y.unflatten(0, x.shape[:2])


class TimeDropout(Stateful):
    """Dropout with one mask for all steps: ``y[t] = x[t] m / (1 - p)``, m ~ Bernoulli(1 - p) of shape ``[1, B, ...]``.

    Args:
        p: probability of an element to be zero for the whole sequence.

    A new mask in each call; inside ``carry`` the same one for all chunks (a sample that is reset gets a new one). The
    identity in eval mode. Source: Lee et al. 2020 (Front. Neurosci. 14:119); SpikingJelly's ``layer.Dropout``.

    Raises:
        ValueError: p outside of [0, 1).

    >>> y = TimeDropout(0.5)(torch.ones(3, 2, 4))
    >>> bool((y == y[0]).all()), sorted(set(y.flatten().tolist())) in ([0.0], [2.0], [0.0, 2.0])
    (True, True)
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be in [0, 1), got {p}.")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to the same shape and dtype."""
        require_time_first(self, x)
        if not self.training or self.p == 0:
            return x
        mask = F.dropout(x.new_ones(self.mask_shape(x)), self.p)
        held = self.carried(x.shape[1], x.shape[2:])
        if held is not None:  # NaN: a sample that was reset. Drawing it each time needs no look at the values.
            mask = torch.where(held["mask"].isnan(), mask, held["mask"].to(x.dtype))
        self.keep({"mask": mask}, {"mask": float("nan")})
        return x * mask

    def mask_shape(self, x: Tensor) -> tuple[int, ...]:
        """Shape of the mask, batch first."""
        return x.shape[1:]

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class DropPath(TimeDropout):
    """Stochastic depth: a sample loses the whole branch, at all steps alike. Huang et al. 2016 (ECCV).

    ``y[t, b] = x[t, b] m[b] / (1 - p)``, m ~ Bernoulli(1 - p). Everything else as in TimeDropout. (timm's ``DropPath``
    takes axis 0 for the batch, and that is time here.)

    >>> y = DropPath(0.5)(torch.ones(3, 2, 4))
    >>> all(len(set(y[:, b].flatten().tolist())) == 1 for b in range(2))
    True
    """

    def mask_shape(self, x: Tensor) -> tuple[int, ...]:
        """One value a sample."""
        return (x.shape[1], *[1] * (x.ndim - 2))
