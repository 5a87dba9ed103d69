"""What layers with delays refuse: sizes, profiles and widths of no use, and positions of another layer."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from torch import Tensor

from snnkit.ops.delay import Profile


def require_sizes(max_delay: int, groups: int | None = None, **sizes: int) -> None:
    """Raise for sizes that are not whole, below 1, or not divided by groups."""
    if groups is not None:
        sizes["groups"] = groups
    for name, value in (sizes | {"max_delay": max_delay}).items():
        if not isinstance(value, Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}.")
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if max_delay < 1:
        raise ValueError(f"max_delay counts the taps, at least 1 (delay 0 only), got {max_delay}.")
    if groups is not None and any(sizes[name] % groups for name in ("in_features", "out_features")):
        raise ValueError(
            f"groups={groups} must divide in_features={sizes['in_features']} and out_features={sizes['out_features']}."
        )


def require_profile(profile: Any) -> None:
    """Raise for a class or a string in place of an object."""
    if not isinstance(profile, Profile):
        name = profile.__name__ if isinstance(profile, type) and issubclass(profile, Profile) else "Triangle"
        raise TypeError(f"profile must be an object such as Triangle(), got {profile!r}. Write profile={name}().")


def require_width(profile: Profile, width: float | None, learn: bool) -> None:
    """Raise for a width that the profile does not have, or that cannot be learnt."""
    name = type(profile).__name__
    if width is not None and profile.needs_width is False:
        raise ValueError(f"{name} has no width, got width={width}. Leave it out, or take Triangle() or Gauss().")
    if width is not None and not math.isfinite(width):
        raise ValueError(f"width must be finite, got {width}.")
    if width is not None and width < 0:
        raise ValueError(f"width must be >= 0, got {width}. The profile takes its absolute value: write {-width}.")
    if learn and not width:
        raise ValueError(
            f"learn_width=True needs a width to start from that is not 0, got {width} for {name}: the gradient of "
            "abs(width) is 0 there. For Triangle(): width=1.0."
        )


def other_taps(position: Tensor, max_delay: int, saved: int | None) -> str | None:
    """Why a file's positions cannot be those of K = max_delay taps, or None; ``saved`` is its K, if it tells.

    DCLS clamps to +-(K // 2), for an even K, too; half a step more may come from an update after the last clamp.
    """
    if saved is not None:
        return None if saved == max_delay else f"is of max_delay={saved}, the layer has max_delay={max_delay}."
    half = max_delay // 2
    if not position.numel() or position.abs().max() <= half + 0.5:
        return None
    return (
        f"has positions from {position.min().item():g} to {position.max().item():g}, max_delay={max_delay} has taps "
        f"from {-half} to {max_delay - 1 - half}. Take the file's max_delay, or clamp_() before saving."
    )
