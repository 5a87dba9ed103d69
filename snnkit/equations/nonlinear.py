"""Neurons whose membrane accelerates by itself near the threshold: EIF, QIF, Izhikevich. Time constants count steps.

Same recurrences and defaults as SpikingJelly 2.0's EIFNode, QIFNode and IzhikevichNode. Here v_rest is a parameter of
its own: a hard reset goes to v_reset, the neuron starts there (at 0 with another reset), and the leak goes to v_rest.
"""

from __future__ import annotations

from typing import Any

from snnkit.equations.equation import Equation
from snnkit.equations.resets import Hard
from snnkit.equations.surrogates import Sigmoid
from snnkit.equations.symbols import exp


class EIF(Equation):
    """v = v + (x - (v - v_rest) + delta_T exp((v - theta_rh) / delta_T)) / tau;  s = [v >= v_threshold];
    v = reset(v, s).

    Fourcaud-Trocme et al. 2003. delta_T is the sharpness of the upswing, theta_rh the rheobase threshold above which v
    rises without input. tau counts steps.
    Conversions between tau, beta and decays: docs/neurons.md.
    """

    tau, delta_T, theta_rh, v_threshold, v_rest = 2.0, 1.0, 0.8, 1.0, 0.0
    positive = ("tau", "delta_T")
    states = {"v": "v_start"}
    default_reset = Hard(-0.1)
    default_surrogate = Sigmoid(4.0)

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        upswing = self.delta_T * exp((v - self.theta_rh) / self.delta_T)
        v = v + (x - (v - self.v_rest) + upswing) / self.tau
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s)}


class QIF(Equation):
    """v = v + (x + a0 (v - v_rest) (v - v_c)) / tau;  s = [v >= v_threshold];  v = reset(v, s).

    Latham et al. 2000. v_c is the critical membrane above which v rises without input, a0 the curvature.
    tau counts steps. Conversions between tau, beta and decays: docs/neurons.md.
    """

    tau, v_c, a0, v_threshold, v_rest = 2.0, 0.8, 1.0, 1.0, 0.0
    positive = ("tau", "a0")
    states = {"v": "v_start"}
    default_reset = Hard(-0.1)
    default_surrogate = Sigmoid(4.0)

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        v = v + (x + self.a0 * (v - self.v_rest) * (v - self.v_c)) / self.tau
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s)}


class Izhikevich(Equation):
    """v = v + (x + a0 (v - v_rest) (v - v_c) - w) / tau;  s = [v >= v_threshold];
    w = w + (a (v - v_rest) - w) / tau_w + b s;  v = reset(v, s).

    Izhikevich 2003 in the scaling of QIF. w, the recovery, starts at w_rest and sees v before the reset. With the
    defaults a = b = 0 it stays at rest: b > 0 makes firing adapt, a couples w to the membrane. tau, tau_w count steps.
    Conversions between tau, beta and decays: docs/neurons.md.
    """

    tau, v_c, a0, v_threshold, v_rest, w_rest, tau_w, a, b = 2.0, 0.8, 1.0, 1.0, -0.1, 0.0, 2.0, 0.0, 0.0
    positive = ("tau", "a0", "tau_w")
    states = {"v": "v_start", "w": "w_rest"}
    default_reset = Hard(0.0)
    default_surrogate = Sigmoid(4.0)

    def step(self, x: Any, v: Any, w: Any) -> tuple[Any, dict[str, Any]]:
        v = v + (x + self.a0 * (v - self.v_rest) * (v - self.v_c) - w) / self.tau
        s = self.spike(v - self.v_threshold)
        w = w + (self.a * (v - self.v_rest) - w) / self.tau_w + self.b * s
        return s, {"v": self.reset(v, s), "w": w}
