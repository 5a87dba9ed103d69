"""Augmentations of clips ``[T, C, H, W]``: flip, roll, shear, translate, rotate, cutout; one draw for all frames.

A clip is a numpy array or a tensor, and comes back as what it was, dtype included. What leaves the frame is lost and
what is uncovered is 0; only ``ClipRoll`` wraps round. Geometry is torchvision's (transforms.v2), nearest neighbour, so
that counts stay counts. Magnitudes are drawn from 31 equal steps between minus and plus the largest, as TrivialAugment
does (Mueller, Hutter 2021, ICCV) and with it the event recipes, see ``snn_augment_wide``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from snnkit._suggest import NamedArguments
from snnkit.data.frame import checked_amount, checked_probability, happens

Clip = TypeVar("Clip", np.ndarray, Tensor)
_STEPS = 31


@dataclass(frozen=True)
class ClipFlip(NamedArguments):
    """Mirror left and right with a probability.

    Leave it out where a mirrored sample is of another class: gestures of the left and right hand (the published
    recipes flip DVS128 Gesture all the same), digits and letters.
    """

    probability: float = 0.5
    draws = True

    def __post_init__(self) -> None:
        checked_probability(self.probability, "ClipFlip")

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """The clip or its mirror image."""
        from torchvision.transforms.v2 import functional

        flip = happens(self.probability, rng)
        return _changed(clip, "ClipFlip", functional.horizontal_flip if flip else _same)


@dataclass(frozen=True)
class ClipRoll(NamedArguments):
    """Move by whole pixels, uniform in -pixels .. pixels along each axis; what leaves comes in on the other side."""

    pixels: int = 5
    draws = True

    def __post_init__(self) -> None:
        checked_amount(self.pixels, "ClipRoll")

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """The rolled clip."""
        shifts = rng.integers(-self.pixels, self.pixels, 2, endpoint=True).tolist()
        return _changed(clip, "ClipRoll", lambda x: torch.roll(x, shifts, (-2, -1)))


@dataclass(frozen=True)
class ClipShear(NamedArguments):
    """Shear along x about the middle by an angle (rad), magnitude in -largest .. largest."""

    largest: float = 0.3
    draws = True

    def __post_init__(self) -> None:
        _checked_largest(self.largest, "ClipShear")

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """The sheared clip."""
        degrees = math.degrees(_magnitude(self.largest, rng))
        return _changed(clip, "ClipShear", lambda x: _affine(x, shear=degrees))


@dataclass(frozen=True)
class ClipTranslate(NamedArguments):
    """Move along x (or y) by whole pixels, magnitude in -pixels .. pixels, cut to a whole number towards zero."""

    pixels: float = 5
    vertical: bool = False
    draws = True

    def __post_init__(self) -> None:
        _checked_largest(self.pixels, "ClipTranslate")

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """The moved clip."""
        pixels = int(_magnitude(self.pixels, rng))
        x, y = (0, pixels) if self.vertical else (pixels, 0)
        return _changed(clip, "ClipTranslate", lambda clip: _affine(clip, x=x, y=y))


@dataclass(frozen=True)
class ClipRotate(NamedArguments):
    """Rotate about the middle, magnitude in -degrees .. degrees."""

    degrees: float = 30
    draws = True

    def __post_init__(self) -> None:
        _checked_largest(self.degrees, "ClipRotate")

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """The rotated clip."""
        angle = _magnitude(self.degrees, rng)
        return _changed(clip, "ClipRotate", lambda x: _affine(x, angle=angle))


@dataclass(frozen=True)
class ClipCutout(NamedArguments):
    """Set a square to 0 whose area is a share of the frame, uniform in smallest .. largest; it lies inside the frame.

    The recipes' RandomErasing. ``ClipCutout.of_side(16, 128)`` is Cutout with 16 pixels on 128 x 128 (DeVries, Taylor
    2017, arXiv 1708.04552), but whole, where the paper's may stand out over the border.

    Raises:
        ValueError: not 0 <= smallest <= largest <= 1.
    """

    smallest: float = 0.001
    largest: float = 0.11
    draws = True

    def __post_init__(self) -> None:
        if not 0 <= self.smallest <= self.largest <= 1:
            raise ValueError(f"ClipCutout needs 0 <= smallest <= largest <= 1, got {self.smallest}, {self.largest}.")

    @classmethod
    def of_side(cls, side: int, frame: int) -> ClipCutout:
        """A square of a fixed side on a square frame."""
        return cls((side / frame) ** 2, (side / frame) ** 2)

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """The clip with a hole through all frames."""
        from torchvision.transforms.v2 import functional

        share, row, column = rng.uniform(self.smallest, self.largest), rng.random(), rng.random()

        def cut(x: Tensor) -> Tensor:
            height, width = x.shape[-2:]
            side = min(round(math.sqrt(share * height * width)), height, width)
            top, left = int(row * (height - side + 1)), int(column * (width - side + 1))
            return functional.erase(x, top, left, side, side, torch.zeros((), dtype=x.dtype))

        return _changed(clip, "ClipCutout", cut)


def _magnitude(largest: float, rng: np.random.Generator) -> float:
    return float(np.linspace(-largest, largest, _STEPS)[rng.integers(_STEPS)])


def _checked_largest(largest: float, wanted_by: str) -> None:
    if not 0 <= largest < float("inf"):
        raise ValueError(f"{wanted_by}: the largest magnitude must be >= 0 and finite, got {largest}.")


def _affine(clip: Tensor, angle: float = 0.0, x: int = 0, y: int = 0, shear: float = 0.0) -> Tensor:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    nearest = InterpolationMode.NEAREST
    return functional.affine(clip, angle, [x, y], 1.0, [shear, 0.0], interpolation=nearest, fill=0)


def _same(clip: Tensor) -> Tensor:
    return clip


def _changed(clip: Any, wanted_by: str, change: Callable[[Tensor], Tensor]) -> Any:
    """The clip after a change of the tensor of its values; array or tensor and dtype as given, never in place."""
    if not isinstance(clip, np.ndarray | Tensor) or (isinstance(clip, np.ndarray) and clip.dtype.kind not in "buif"):
        raise TypeError(f"{wanted_by} expects a clip [T, C, H, W], array or tensor, got {type(clip).__name__}.")
    if clip.ndim != 4:
        raise ValueError(f"{wanted_by} expects a clip [T, C, H, W], got shape {tuple(clip.shape)}.")
    # Resampling is in floating point. Single precision holds counts up to 2^24.
    if isinstance(clip, np.ndarray):
        wide = np.float64 if clip.dtype == np.float64 else np.float32
        return change(torch.from_numpy(clip.astype(wide))).numpy().astype(clip.dtype)
    return change(clip.clone() if clip.dtype in (torch.float32, torch.float64) else clip.float()).to(clip.dtype)
