"""Learnable delays as dense kernels: a synapse's weight, spread over the taps around its position.

The delay of a synapse is a real number, which a gradient can move, because its weight is not on one tap but on the taps
of a profile: two (bilinear), a triangle, a gauss whose width shrinks during training. Taps count as in a convolution:
tap k of K is a delay of K - 1 - k steps, and positions are centred, as DCLS stores them:

    c = position + K // 2,   u_k = k - c,   delay = K - 1 - c

Sources: Khalfaoui-Hassani et al. 2023 (DCLS, ICLR; package DCLS 0.1.1), Hammouamri et al. 2024 (ICLR; arXiv
2306.17670).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import torch
from torch import Tensor

from snnkit.ops import _delay_operator
from snnkit.ops.registered import transformed

EPS = 1e-7  # in the sum that a profile is divided by; kept, so that numbers equal those of DCLS


@dataclasses.dataclass(frozen=True)
class Profile:
    """Base of the profiles r(u, s); an own one defines ``taps`` and runs as plain PyTorch."""

    normalised: ClassVar[bool] = True  # divide by the sum over the taps inside 0..K-1, plus 1e-7
    needs_width: ClassVar[bool | None] = False  # None: with or without
    code: ClassVar[int | None] = None  # number of the compiled form

    @property
    def base(self) -> float:
        """The least width: s = abs(width) + base."""
        return 1.0

    def taps(self, u: Tensor, s: Tensor | float) -> Tensor:
        """Profile at the distances u ``[..., M, K]`` for the width s ``[..., M, 1]``, before normalising."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Bilinear(Profile):
    """r = 1 - abs(u) on -1 < u <= 1: the two taps beside c share the weight. Not normalised. DCLS's version v0."""

    normalised: ClassVar[bool] = False
    code: ClassVar[int | None] = 0

    def taps(self, u: Tensor, s: Tensor | float) -> Tensor:
        """Parts of the two neighbours; the slope at a whole c is that to its right, as of ``floor``."""
        return torch.where(u <= 0, 1 + u, 1 - u).masked_fill((u <= -1) | (u > 1), 0.0)


@dataclasses.dataclass(frozen=True)
class Triangle(Profile):
    """r = max(0, s - abs(u)), s = abs(width) + 1, or s = 1 without a width. DCLS's versions max and v1.

    At a whole c with s = 1 only the centre tap is above 0 and the position has no gradient.
    """

    needs_width: ClassVar[bool | None] = None
    code: ClassVar[int | None] = 1

    def taps(self, u: Tensor, s: Tensor | float) -> Tensor:
        """Triangle of half-width s."""
        return torch.relu(s - u.abs())  # relu: no gradient where r = 0


@dataclasses.dataclass(frozen=True)
class Gauss(Profile):
    """r = exp(-u^2 / (2 s^2)), s = abs(width) + 0.27. DCLS's version gauss."""

    needs_width: ClassVar[bool | None] = True
    code: ClassVar[int | None] = 2

    @property
    def base(self) -> float:
        """0.27 steps."""
        return 0.27

    def taps(self, u: Tensor, s: Tensor | float) -> Tensor:
        """Gauss of standard deviation s."""
        return torch.exp(-(u**2) / (2 * s**2))


def delay_kernel(
    weight: Tensor, position: Tensor, width: Tensor | None = None, *, size: int, profile: Profile
) -> Tensor:
    """Dense kernel: ``h[..., k] = sum_m weight[..., m] phi_k``, ``phi_k = r_k / (sum_k r_k + 1e-7)``.

    Args:
        weight: ``[..., M]``, M elements per synapse; ``[out, in / groups, M]`` for a layer.
        position: centred positions in steps, broadcasts to the weight's shape: one delay per input is ``[in, 1]``. Any
            value: what lies outside the K taps is lost (normalised profiles give its share to the taps inside).
        width: of the profile, in steps; its sign does not matter. Broadcasts to the weight's shape.
        size: K, number of taps; delays from 0 to K - 1 steps.
        profile: ``Bilinear()``, ``Triangle()``, ``Gauss()``.

    Returns:
        ``[..., K]`` in the weight's dtype. Compiled, time is the slowest axis in memory, as products over time want it,
        and CPU and CUDA give the same bits. Half precision computes in float32.

    Raises:
        ValueError: a shape does not broadcast, devices differ, size < 1, or a width is missing or of no use.

    Gradients reach weight, position and width. The backward keeps these three alone and reads the kernel's gradient
    once for each m. Second derivatives, forward mode and torch.func go through the reference.

    >>> h = delay_kernel(torch.tensor([2.0]), torch.tensor([-0.75]), size=5, profile=Bilinear())
    >>> h.tolist()
    [0.0, 1.5, 0.5, 0.0, 0.0]
    """
    _require(weight, position, width, size, profile)
    if position.shape != weight.shape:
        position = position.expand(weight.shape)
    if width is not None and width.shape != weight.shape:
        width = width.expand(weight.shape)
    dtype = torch.float64 if torch.float64 in (weight.dtype, position.dtype) else torch.float32
    out = weight.dtype
    weight, position = weight.to(dtype), position.to(dtype)
    width = None if width is None else width.to(dtype)
    if profile.code is None or _refusal(weight, profile):
        h = reference(weight, position, width, size=size, profile=profile)
    else:
        plain = functools.partial(reference, size=size, profile=profile)
        h = _delay_operator.delay_kernel(weight, position, width, size, profile.code, profile.base, plain)
    return h.to(out)


def reference(weight: Tensor, position: Tensor, width: Tensor | None = None, *, size: int, profile: Profile) -> Tensor:
    """What ``delay_kernel`` computes, in plain PyTorch: every option, device and derivative; memory of 6 M kernels."""
    k = torch.arange(size, dtype=weight.dtype, device=weight.device)
    u = k - (position + size // 2).unsqueeze(-1)  # [..., M, K]
    s = profile.base if width is None else width.unsqueeze(-1).abs() + profile.base
    r = profile.taps(u, s)
    phi = r / (r.sum(-1, keepdim=True) + EPS) if profile.normalised else r
    return (weight.unsqueeze(-1) * phi).sum(-2)


def path(weight: Tensor, profile: Profile) -> str:
    """Say in one line which implementation ``delay_kernel`` takes for these weights, and why."""
    refusal = _refusal(weight, profile)
    if refusal:
        return f"reference ({refusal})"
    return "cuda" if weight.is_cuda else "cpu (compiled C++)"


def _refusal(weight: Tensor, profile: Profile) -> str | None:
    """Why the compiled form cannot be taken; None if it can."""
    form = "cuda" if weight.is_cuda else "cpu"
    if profile.code is None:
        return f"{form}: {type(profile).__name__} has no compiled form"
    if transformed():
        return f"{form}: torch.func or forward mode is at work"
    refusal = _delay_operator.refusal(weight.device)
    return refusal and f"{form}: {refusal}"


def _require(weight: Tensor, position: Tensor, width: Tensor | None, size: int, profile: Profile) -> None:
    """Refuse what has no meaning."""
    if size < 1:
        raise ValueError(f"delay_kernel: size is the number of taps, at least 1, got {size}.")
    if not weight.is_floating_point() or weight.ndim < 1:
        raise ValueError(f"delay_kernel: weight must be floating [..., M], got {weight.dtype} {tuple(weight.shape)}.")
    for name, value in (("position", position), ("width", width)):
        if value is not None and value.device != weight.device:
            raise ValueError(f"delay_kernel: {name} is on {value.device}, weight on {weight.device}. Move one of them.")
        if value is not None and value.shape != weight.shape:
            try:
                fits = torch.broadcast_shapes(value.shape, weight.shape) == weight.shape
            except RuntimeError:
                fits = False
            if not fits:
                raise ValueError(
                    f"delay_kernel: {name} {tuple(value.shape)} does not broadcast to weight {tuple(weight.shape)}."
                )
    if profile.needs_width is False and width is not None:
        raise ValueError(f"delay_kernel: {type(profile).__name__} has no width, got one. Leave it out.")
    if profile.needs_width is True and width is None:
        raise ValueError(f"delay_kernel: {type(profile).__name__} needs a width, e.g. torch.full_like(weight, 0.23).")
