"""Surrogate gradients: what the derivative of a spike is taken to be.

A spike is s = [d >= 0], d the membrane's distance to the threshold. Backwards ds/dd is ``derivative(d)``. Each has its
``primitive``, the smooth function with that derivative: in relaxed mode the spike *is* the primitive.

Review: Neftci, Mostafa, Zenke, "Surrogate Gradient Learning in Spiking Neural Networks", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from snnkit.equations.parametric import Parametric
from snnkit.equations.symbols import atan, clamp, erf, exp, maximum, sigmoid, sign, where


class Surrogate(Parametric):
    """Base: a ``derivative(d)`` and its ``primitive(d)``, both written with the functions of a step."""

    def derivative(self, d: Any) -> Any:
        """ds/dd at the distance d to the threshold."""
        raise TypeError(f"{type(self).__name__} has no derivative(self, d).")

    def primitive(self, d: Any) -> Any:
        """The smooth spike of relaxed mode."""
        raise TypeError(f"{type(self).__name__} has no primitive(self, d), which relaxed mode needs.")


class Sigmoid(Surrogate):
    """alpha g (1 - g), g = 1 / (1 + exp(-alpha d)), Wu et al. 2018."""

    alpha = 4.0
    positive = ("alpha",)

    def derivative(self, d: Any) -> Any:
        g = sigmoid(self.alpha * d)
        return self.alpha * (g * (1.0 - g))

    def primitive(self, d: Any) -> Any:
        return sigmoid(self.alpha * d)


class ATan(Surrogate):
    """(alpha / 2) / (1 + (pi alpha d / 2)^2), Fang et al. 2021."""

    alpha = 2.0
    positive = ("alpha",)

    def derivative(self, d: Any) -> Any:
        z = (math.pi / 2 * self.alpha) * d
        return (self.alpha / 2) / (1.0 + z * z)

    def primitive(self, d: Any) -> Any:
        return atan((math.pi / 2 * self.alpha) * d) / math.pi + 0.5


class Triangle(Surrogate):
    """alpha max(0, 1 - alpha |d|), Bellec et al. 2018."""

    alpha = 1.0
    positive = ("alpha",)

    def derivative(self, d: Any) -> Any:
        return self.alpha * maximum(0.0, 1.0 - self.alpha * abs(d))

    def primitive(self, d: Any) -> Any:
        z = clamp(self.alpha * d, -1.0, 1.0)
        return 0.5 + z - 0.5 * (z * abs(z))


class Rectangle(Surrogate):
    """alpha where -1 / (2 alpha) < d <= 1 / (2 alpha), else 0, Wu et al. 2018."""

    alpha = 1.0
    positive = ("alpha",)

    def derivative(self, d: Any) -> Any:
        half_width = 1 / (2 * self.alpha)
        return where(d > -half_width, where(d <= half_width, self.alpha, 0.0), 0.0)

    def primitive(self, d: Any) -> Any:
        return clamp(self.alpha * d + 0.5, 0.0, 1.0)


class FastSigmoid(Surrogate):
    """1 / (1 + alpha |d|)^2, Zenke and Ganguli 2018."""

    alpha = 10.0
    positive = ("alpha",)

    def derivative(self, d: Any) -> Any:
        z = 1.0 + self.alpha * abs(d)
        return 1.0 / (z * z)

    def primitive(self, d: Any) -> Any:
        return d / (1.0 + self.alpha * abs(d))


def _bell(d: Any, width: Any) -> Any:
    """Density of the normal distribution of standard deviation ``width``."""
    z = d / width
    return exp(-0.5 * (z * z)) * (1 / (width * math.sqrt(2 * math.pi)))


def _bell_primitive(d: Any, width: Any) -> Any:
    return 0.5 * (1.0 + erf(d / (width * math.sqrt(2.0))))


class Gaussian(Surrogate):
    """exp(-d^2 / (2 sigma^2)) / (sigma sqrt(2 pi)), Wu et al. 2018."""

    sigma = 0.5
    positive = ("sigma",)

    def derivative(self, d: Any) -> Any:
        return _bell(d, self.sigma)

    def primitive(self, d: Any) -> Any:
        return _bell_primitive(d, self.sigma)


class MultiGaussian(Surrogate):
    """(1 + h) N(d; 0, sigma) - h N(d; sigma, s sigma) - h N(d; -sigma, s sigma), times gamma; Yin et al. 2021.

    N(d; m, w) is the density of the normal distribution with mean m and standard deviation w.
    """

    sigma, h, s, gamma = 0.5, 0.15, 6.0, 0.5
    positive = ("sigma", "s")

    def derivative(self, d: Any) -> Any:
        wide = self.s * self.sigma
        sides = _bell(d - self.sigma, wide) + _bell(d + self.sigma, wide)
        return self.gamma * ((1.0 + self.h) * _bell(d, self.sigma) - self.h * sides)

    def primitive(self, d: Any) -> Any:
        wide = self.s * self.sigma
        sides = _bell_primitive(d - self.sigma, wide) + _bell_primitive(d + self.sigma, wide)
        return self.gamma * ((1.0 + self.h) * _bell_primitive(d, self.sigma) - self.h * sides)


class SLAYER(Surrogate):
    """c exp(-alpha |d|), Shrestha and Orchard 2018."""

    alpha, c = 5.0, 1.0
    positive = ("alpha",)

    def derivative(self, d: Any) -> Any:
        return self.c * exp(-self.alpha * abs(d))

    def primitive(self, d: Any) -> Any:
        return (self.c / self.alpha) * (sign(d) * (1.0 - exp(-self.alpha * abs(d))))


class StraightThrough(Surrogate):
    """1 everywhere, Bengio et al. 2013."""

    def derivative(self, d: Any) -> Any:
        return 1.0

    def primitive(self, d: Any) -> Any:
        return d


class Custom(Surrogate):
    """A surrogate of your own: one function of d, and another one if relaxed mode is wanted.

    Raises:
        ValueError: ``derivative`` is not the derivative of ``primitive``, by finite differences at a few points.

    >>> from snnkit.equations.symbols import exp
    >>> Custom(lambda d: exp(-abs(d)))
    Custom(<lambda>)
    """

    def __init__(self, derivative: Callable[[Any], Any], primitive: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self._derivative, self._primitive = derivative, primitive
        if primitive is not None:
            _compare(derivative, primitive)

    def derivative(self, d: Any) -> Any:
        return self._derivative(d)

    def primitive(self, d: Any) -> Any:
        return self._primitive(d) if self._primitive else super().primitive(d)

    def __repr__(self) -> str:
        return f"Custom({getattr(self._derivative, '__name__', self._derivative)})"


# Near the threshold and far from it, and away from where a surrogate has a kink.
_POINTS = (-1.371, -0.613, -0.237, -0.0613, -0.0117, 0.0117, 0.0613, 0.237, 0.613, 1.371)


def _compare(derivative: Callable[[Any], Any], primitive: Callable[[Any], Any], h: float = 1e-6) -> None:
    """Raise ValueError if the derivative is not the primitive's slope at one of the points."""
    for d in _POINTS:
        try:
            given, slope = float(derivative(d)), float(primitive(d + h) - primitive(d - h)) / (2 * h)
        except Exception:  # what numbers cannot do symbols cannot either: tracing says it, and names the line
            return
        if abs(given - slope) > 1e-4 + 1e-3 * max(abs(given), abs(slope)):
            raise ValueError(
                f"Custom: at d = {d} the derivative is {given:.6g}, but the slope of the primitive is {slope:.6g}. "
                "Give the function whose derivative it is, or no primitive (relaxed mode alone needs it)."
            )
