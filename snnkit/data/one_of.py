"""One of several transforms, drawn anew for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from snnkit.data.compose import Transform, transformed


@dataclass(frozen=True, init=False)
class OneOf:
    """Apply one of the transforms, each with equal probability; None leaves the sample as it is.

    Raises:
        ValueError: no transform.
        TypeError: a transform that cannot be called.

    >>> OneOf(None, abs)(-3, np.random.default_rng(0)) in (-3, 3)
    True
    """

    transforms: tuple[Transform | None, ...]
    draws = True

    def __init__(self, *transforms: Transform | None) -> None:
        if not transforms:
            raise ValueError("OneOf needs at least one transform, or None for no change.")
        for transform in transforms:
            if not (transform is None or callable(transform)):
                raise TypeError(f"OneOf takes callables and None, got {transform!r}.")
        object.__setattr__(self, "transforms", transforms)

    def __call__(self, sample: Any, rng: np.random.Generator) -> Any:
        """The sample after one transform."""
        return transformed(sample, self.transforms[int(rng.integers(len(self.transforms)))], rng)
