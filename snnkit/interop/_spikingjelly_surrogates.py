"""SpikingJelly's surrogates in our functions: one table, by the names of its classes.

``SuperSpike`` and the others here are those that ``snnkit.equations`` does not have with the same constant or border.
Three have no form here: ``SquarewaveFourierSeries`` needs a cosine, ``PoissonPass`` is random, ``MultiLevelSpikeCount``
counts. Formulas: spikingjelly/activation_based/surrogate.py, version 2.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from snnkit.equations import SLAYER, ATan, Gaussian, Sigmoid, StraightThrough, Surrogate, Triangle
from snnkit.equations.symbols import exp, log, minimum, sigmoid, where


class SoftSign(Surrogate):
    """1 / (2 alpha (1 / alpha + |d|)^2)."""

    alpha = 2.0
    positive = ("alpha",)

    def derivative(self, d: Any) -> Any:
        z = 1 / self.alpha + abs(d)
        return 1.0 / ((2.0 * self.alpha) * (z * z))


class SuperSpike(Surrogate):
    """alpha / (1 + |d|)^2."""

    alpha = 1.0

    def derivative(self, d: Any) -> Any:
        z = 1.0 + abs(d)
        return self.alpha / (z * z)


class NonzeroSignLogAbs(Surrogate):
    """1 / (1 / alpha + |d|)."""

    alpha = 1.0
    positive = ("alpha",)

    def derivative(self, d: Any) -> Any:
        return 1.0 / (1 / self.alpha + abs(d))


class Rect(Surrogate):
    """alpha where |d| < 1 / (2 alpha), else 0: both borders are outside."""

    alpha = 1.0
    positive = ("alpha",)

    def derivative(self, d: Any) -> Any:
        return where(abs(d) < 0.5 / self.alpha, self.alpha, 0.0)


class PiecewiseLeakyReLU(Surrogate):
    """1 / (2 w) where |d| < w, else c."""

    w, c = 1.0, 0.01
    positive = ("w",)

    def derivative(self, d: Any) -> Any:
        return where(abs(d) < self.w, 1 / (2 * self.w), self.c)


class S2NN(Surrogate):
    """alpha g (1 - g), g = 1 / (1 + exp(-alpha d)), where d < 0; else beta / (d + 1)."""

    alpha, beta = 4.0, 1.0

    def derivative(self, d: Any) -> Any:
        g = sigmoid(self.alpha * d)
        return where(d < 0.0, self.alpha * (g * (1.0 - g)), self.beta / (d + 1.0))


class QPseudoSpike(Surrogate):
    """(1 + 2 |d| / (alpha - 1))^-alpha, with the parameter above_one = alpha - 1."""

    above_one = 1.0
    positive = ("above_one",)

    def derivative(self, d: Any) -> Any:
        return exp(-(self.above_one + 1.0) * log(1.0 + 2 / self.above_one * abs(d)))


class LeakyKReLU(Surrogate):
    """k where d >= 0, else leak."""

    leak, k = 0.0, 1.0

    def derivative(self, d: Any) -> Any:
        return where(d >= 0.0, self.k, self.leak)


class FakeNumericalGradient(Surrogate):
    """min(1 / |d|, alpha)."""

    alpha = 0.3

    def derivative(self, d: Any) -> Any:
        return minimum(1.0 / abs(d), self.alpha)


class LogTailedReLU(Surrogate):
    """alpha where d <= 0, 1 / d where d > 1, else 1."""

    alpha = 0.0

    def derivative(self, d: Any) -> Any:
        return where(d > 1.0, 1.0 / d, where(d <= 0.0, self.alpha, 1.0))


SURROGATES: dict[str, Callable[..., Surrogate]] = {
    "ATan": lambda alpha: ATan(alpha),
    "DeterministicPass": lambda: StraightThrough(),
    "Erf": lambda alpha: Gaussian(1 / (math.sqrt(2.0) * alpha)),
    "FakeNumericalGradient": lambda alpha: FakeNumericalGradient(alpha),
    "LeakyKReLU": lambda leak, k: LeakyKReLU(leak, k),
    "LogTailedReLU": lambda alpha: LogTailedReLU(alpha),
    "NonzeroSignLogAbs": lambda alpha: NonzeroSignLogAbs(alpha),
    "PiecewiseExp": lambda alpha: SLAYER(alpha, alpha / 2),
    "PiecewiseLeakyReLU": lambda w, c: PiecewiseLeakyReLU(w, c),
    "PiecewiseQuadratic": lambda alpha: Triangle(alpha),
    "QPseudoSpike": lambda alpha: QPseudoSpike(alpha - 1.0),
    "Rect": lambda alpha: Rect(alpha),
    "S2NN": lambda alpha, beta: S2NN(alpha, beta),
    "Sigmoid": lambda alpha: Sigmoid(alpha),
    "SoftSign": lambda alpha: SoftSign(alpha),
    "SuperSpike": lambda alpha: SuperSpike(alpha),
}
"""Name of SpikingJelly's class -> ours, from the values of its parameters."""
