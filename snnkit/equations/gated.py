"""Kin of LIF that reshape the membrane or gate it: KLIF, CLIF and CUBA. Time constants count steps.

Same recurrences and defaults as SpikingJelly 2.0's KLIFNode, ComplementaryLIFNode and CUBALIFNode.
"""

from __future__ import annotations

from typing import Any

from snnkit.equations.equation import Equation
from snnkit.equations.resets import Hard, Soft
from snnkit.equations.surrogates import Rectangle, Sigmoid
from snnkit.equations.symbols import sigmoid, where


class KLIF(Equation):
    """h = v + (x - (v - v_rest)) / tau;  f = max(0, k h);  s = [f >= v_threshold];  v = reset(f, s).

    Jiang and Zhang 2023 (arXiv 2302.09238): k, learnt, sets the slope of the surrogate and the height of the membrane.
    With ``scale_reset=True`` the reset works on f / k, and a soft one subtracts v_threshold / k. With
    ``decay_input=False``: h = v - (v - v_rest) / tau + x. v_rest is v_reset of a hard reset, else 0. tau counts steps.
    Conversions between tau, beta and decays: docs/neurons.md.
    """

    tau, k, v_threshold = 2.0, 1.0, 1.0
    decay_input, scale_reset = True, False
    positive = ("tau",)
    learnt = ("k",)
    states = {"v": "v_rest"}
    default_reset = Hard(0.0)
    default_surrogate = Sigmoid(4.0)

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        if self.decay_input:
            h = v + (x - (v - self.v_rest)) / self.tau
        else:
            h = v - (v - self.v_rest) / self.tau + x
        f = self.k * h
        f = where(f <= 0.0, 0.0, f)  # relu: no gradient at 0, where maximum would pass half of it; NaN passes
        s = self.spike(f - self.v_threshold)
        if self.scale_reset:
            return s, {"v": self.reset(f / self.k, s, self.v_threshold / self.k)}
        return s, {"v": self.reset(f, s)}


class CLIF(Equation):
    """h = v - (v - v_rest) / tau + x;  s = [h >= v_threshold];  m = m sigmoid(h / tau) + s;  v = reset(h, s).

    Huang et al. 2024 (ICML, complementary LIF). A soft reset, as in the paper, subtracts v_threshold + sigmoid(m): the
    more a neuron fired lately, the deeper it falls. tau counts steps. Conversions between tau, beta and decays:
    docs/neurons.md.
    """

    tau, v_threshold = 2.0, 1.0
    positive = ("tau",)
    states = {"v": "v_rest", "m": 0.0}
    default_reset = Soft()
    default_surrogate = Rectangle(1.0)

    def step(self, x: Any, v: Any, m: Any) -> tuple[Any, dict[str, Any]]:
        h = v - (v - self.v_rest) / self.tau + x
        s = self.spike(h - self.v_threshold)
        m = m * sigmoid(h / self.tau) + s
        return s, {"v": self.reset(h, s, self.v_threshold + sigmoid(m)), "m": m}


class CUBA(Equation):
    """c = c_decay c + x;  v = v_decay v + c;  s = [v >= v_threshold];  v = reset(v, s).

    Current-based LIF as on Loihi (Davies et al. 2018): the input goes through a synaptic current c that decays, too.
    A decay is 1 - 1 / tau (Euler) or exp(-1 / tau) (exact). v decays to 0 whatever v_reset is, and starts at v_reset.
    Conversions between tau, beta and decays: docs/neurons.md.
    """

    c_decay, v_decay, v_threshold = 0.5, 0.75, 0.5
    states = {"v": "v_start", "c": 0.0}
    default_reset = Hard(0.0)
    default_surrogate = Rectangle(1.0)

    def step(self, x: Any, v: Any, c: Any) -> tuple[Any, dict[str, Any]]:
        c = c * self.c_decay + x
        v = v * self.v_decay + c
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s), "c": c}
