"""Neurons that tire of firing: ALIF raises its threshold, the AdLIF family has an adaptation current w.

Time constants count steps. The three AdLIF differ in what w sees, and their parameters do not carry over:

| | w is computed from | and enters u |
|---|---|---|
| ``AdLIF`` (sparch) | the last u, before its reset, and the last s | in the same step |
| ``EFAdLIF`` | the last u, after its reset, and the last s | in the next step |
| ``SEAdLIF`` | the new u, after its reset, and the new s | in the next step |
"""

from __future__ import annotations

import math
from typing import Any

from snnkit.equations.equation import Equation
from snnkit.equations.resets import Hard, Soft
from snnkit.equations.surrogates import SLAYER, Rectangle, Triangle
from snnkit.equations.symbols import clamp, exp


class ALIF(Equation):
    """v = v + (x - (v - v_rest)) / tau;  s = [v >= theta], theta = v_threshold + beta a;  a = a + (s - a) / tau_a.

    Bellec et al. 2018 (NeurIPS, LSNN), with 1 - 1 / tau for the paper's decay exp(-1 / tau). A soft reset, the paper's,
    subtracts the threshold theta that v had to reach. v_rest is v_reset of a hard reset, else 0. The surrogate is the
    paper's triangle. tau and tau_a count steps; beta is no decay here, but the strength of the adaptation.
    Conversions between tau, beta and decays: docs/neurons.md.
    """

    tau, tau_a, beta, v_threshold = 2.0, 20.0, 0.2, 1.0
    positive = ("tau", "tau_a")
    states = {"v": "v_rest", "a": 0.0}
    default_reset = Soft()
    default_surrogate = Triangle(1.0)

    def step(self, x: Any, v: Any, a: Any) -> tuple[Any, dict[str, Any]]:
        v = v + (x - (v - self.v_rest)) / self.tau
        theta = self.v_threshold + self.beta * a
        s = self.spike(v - theta)
        return s, {"v": self.reset(v, s, theta), "a": a + (s - a) / self.tau_a}


class AdLIF(Equation):
    """w = beta w + a u + b s;  u = alpha reset(u, s) + (1 - alpha) (x - w);  s = [u >= v_threshold].

    Bittar and Garner 2022 (Front. Neurosci. 16:865897, code "sparch"). The new w and u are made from the last u and s:
    the state u is the membrane before its reset, and is what ``record`` shows. A soft reset subtracts v_threshold.
    A hard one goes to v_reset, where u also starts; u decays to 0.

    alpha is clamped to exp(-1 / 5) .. exp(-1 / 25), beta to exp(-1 / 30) .. exp(-1 / 120), a to -1 .. 1, b to 0 .. 2,
    the ranges of the paper: a learnt value that drifts out acts as the border and gets no gradient. A number out of
    range is refused. With a = b = 0 this is sparch's LIF. The decays are alpha = exp(-1 / tau_u) and beta =
    exp(-1 / tau_w), a couples w to the membrane, b to the spikes. Conversions between tau, beta and decays:
    docs/neurons.md.

    Raises:
        ValueError: as for every neuron; a number outside of its range.
    """

    alpha, beta, a, b, v_threshold = 0.9, 0.98, 0.0, 1.0, 1.0
    learnt = ("alpha", "beta", "a", "b")
    states = {"u": "v_start", "w": 0.0, "s": 0.0}
    default_reset = Soft()
    default_surrogate = Rectangle(1.0)
    ranges = {
        "alpha": (math.exp(-1 / 5), math.exp(-1 / 25)),
        "beta": (math.exp(-1 / 30), math.exp(-1 / 120)),
        "a": (-1.0, 1.0),
        "b": (0.0, 2.0),
    }

    def check(self, name: str, value: Any) -> None:
        """Also refuse a number outside the paper's range, which would act as the border."""
        super().check(name, value)
        low, high = self.ranges.get(name, (-math.inf, math.inf))
        if isinstance(value, float) and not low <= value <= high:
            raise ValueError(f"{name} must be in [{low:.6g}, {high:.6g}], the range of the paper, got {value}.")

    def step(self, x: Any, u: Any, w: Any, s: Any) -> tuple[Any, dict[str, Any]]:
        alpha, beta, a, b = (clamp(getattr(self, name), *borders) for name, borders in self.ranges.items())
        w = beta * w + a * u + b * s
        u = alpha * self.reset(u, s) + (1.0 - alpha) * (x - w)
        s = self.spike(u - self.v_threshold)
        return s, {"u": u, "w": w, "s": s}


class SEAdLIF(Equation):
    """u = du u + (1 - du) (x - w);  s = [u >= v_threshold];  u = reset(u, s);  w = dw w + (1 - dw) q (a u + b s).

    Baronig et al. 2025 (Nat. Commun. 16:5776), symplectic Euler: w sees the new u and s. du = exp(-1 / tau_u),
    dw = exp(-1 / tau_w), tau_u and tau_w in steps; a couples w to the membrane, b to the spikes, q scales both. The
    paper resets to 0, detaches the reset, and keeps a in [0, 1], b in [0, 2] by clamping them after each batch. u
    decays to v_rest, which is v_reset of a hard reset, else 0.
    Conversions between tau, beta and decays: docs/neurons.md.
    """

    tau_u, tau_w, a, b, q, v_threshold = 15.0, 180.0, 0.5, 1.0, 120.0, 1.0
    positive = ("tau_u", "tau_w")
    states = {"u": "v_rest", "w": 0.0}
    default_reset = Hard(0.0, detach=True)
    default_surrogate = SLAYER(5.0, 1.0)

    def step(self, x: Any, u: Any, w: Any) -> tuple[Any, dict[str, Any]]:
        decay_u, decay_w = exp(-1 / self.tau_u), exp(-1 / self.tau_w)
        u = self.v_rest + decay_u * (u - self.v_rest) + (1 - decay_u) * (x - w)
        s = self.spike(u - self.v_threshold)
        u = self.reset(u, s)
        # With the last u and s here it would be EFAdLIF, whose checkpoints do not carry over.
        w = decay_w * w + (1 - decay_w) * self.q * (self.a * (u - self.v_rest) + self.b * s)
        return s, {"u": u, "w": w}


class EFAdLIF(Equation):
    """h = du u + (1 - du) (x - w);  w = dw w + (1 - dw) q (a u + b s);  s = [h >= v_threshold];  u = reset(h, s).

    Baronig et al. 2025, Euler forward: w sees the last u (after its reset) and the last s. Else as ``SEAdLIF``.
    """

    tau_u, tau_w, a, b, q, v_threshold = 15.0, 180.0, 0.5, 1.0, 60.0, 1.0
    positive = ("tau_u", "tau_w")
    states = {"u": "v_rest", "w": 0.0, "s": 0.0}
    default_reset = Hard(0.0, detach=True)
    default_surrogate = SLAYER(5.0, 1.0)

    def step(self, x: Any, u: Any, w: Any, s: Any) -> tuple[Any, dict[str, Any]]:
        decay_u, decay_w = exp(-1 / self.tau_u), exp(-1 / self.tau_w)
        h = self.v_rest + decay_u * (u - self.v_rest) + (1 - decay_u) * (x - w)
        w = decay_w * w + (1 - decay_w) * self.q * (self.a * (u - self.v_rest) + self.b * s)
        s = self.spike(h - self.v_threshold)
        return s, {"u": self.reset(h, s), "w": w, "s": s}
