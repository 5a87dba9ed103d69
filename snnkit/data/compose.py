"""How transforms are called: fixed ones with the sample, random ones with the sample and a generator.

A random transform has the class attribute ``draws = True``. Anything else that can be called with one argument is a
fixed transform: ours, tonic's, or a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Transform = Callable[..., Any]


def draws(transform: Transform | None) -> bool:
    """Whether a transform is random, that is, wants a generator."""
    return bool(getattr(transform, "draws", False))


def transformed(sample: Any, transform: Transform | None, rng: np.random.Generator | None) -> Any:
    """The sample after the transform (None: unchanged); rng goes to random transforms only."""
    if transform is None:
        return sample
    if not draws(transform):
        return transform(sample)
    if rng is None:
        raise ValueError(f"{type(transform).__name__} is random and needs a generator, e.g. generator(seed, epoch, i).")
    return transform(sample, rng)


@dataclass(frozen=True, init=False)
class Compose:
    """Several transforms one after the other; random ones draw from one generator in this order.

    Raises:
        TypeError: a transform that cannot be called.

    >>> Compose(abs, np.sqrt)(-4).item()
    2.0
    """

    transforms: tuple[Transform, ...]

    def __init__(self, *transforms: Transform) -> None:
        if len(transforms) == 1 and isinstance(transforms[0], list | tuple):
            transforms = tuple(transforms[0])
        for transform in transforms:
            if not callable(transform):
                raise TypeError(f"Compose takes callables, got {transform!r}.")
        object.__setattr__(self, "transforms", transforms)

    @property
    def draws(self) -> bool:
        """Whether one of the transforms is random."""
        return any(draws(transform) for transform in self.transforms)

    def __call__(self, sample: Any, rng: np.random.Generator | None = None) -> Any:
        """The sample after all transforms."""
        for transform in self.transforms:
            sample = transformed(sample, transform, rng)
        return sample
