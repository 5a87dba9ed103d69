"""The operations of a step on Python numbers: infinities and NaN as tensors have them, where Python would raise."""

from __future__ import annotations

import math
from collections.abc import Callable


def quotient(a: float, b: float) -> float:
    """a / b."""
    if b != 0:
        return a / b
    return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)


def exp(a: float) -> float:
    """e to the power a, infinite beyond the largest number."""
    try:
        return math.exp(a)
    except OverflowError:
        return math.inf


def log(a: float) -> float:
    """Natural logarithm."""
    return math.log(a) if a > 0 else -math.inf if a == 0 else math.nan


def sqrt(a: float) -> float:
    """Square root."""
    return math.sqrt(a) if a >= 0 else math.nan


def sigmoid(a: float) -> float:
    """1 / (1 + exp(-a))."""
    return 1.0 / (1.0 + exp(-a))


def sign(a: float) -> float:
    """-1, 0 or 1; 0 for NaN, as torch has it."""
    return float((a > 0) - (a < 0))


def whole(function: Callable[[float], int]) -> Callable[[float], float]:
    """A rounding function that leaves infinities and NaN alone."""
    return lambda a: float(function(a)) if math.isfinite(a) else a


def minimum(a: float, b: float) -> float:
    """The smaller one, NaN if there is one."""
    return a if a != a else b if b != b else min(a, b)


def maximum(a: float, b: float) -> float:
    """The larger one, NaN if there is one."""
    return a if a != a else b if b != b else max(a, b)
