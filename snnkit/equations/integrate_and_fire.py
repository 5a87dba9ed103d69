"""Integrate-and-fire neurons with one membrane v: IF, LIF, PLIF and the readout LI. Time constants count steps."""

from __future__ import annotations

from typing import Any

from snnkit.equations.equation import Equation
from snnkit.equations.symbols import exp, sigmoid


class IF(Equation):
    """v = v + x;  s = [v >= v_threshold];  v = reset(v, s). Lapicque 1907.

    It has no tau: nothing decays. Conversions between tau, beta and decays: docs/neurons.md.
    """

    v_threshold = 1.0
    states = {"v": "v_rest"}

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        v = v + x
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s)}


class LIF(Equation):
    """v = v + (x - (v - v_rest)) / tau;  s = [v >= v_threshold];  v = reset(v, s).

    With ``decay_input=False`` the input is not divided: v = v - (v - v_rest) / tau + x. v_rest is v_reset of a hard
    reset, else 0. Stein 1965; same recurrence as SpikingJelly's LIFNode. tau counts steps:

    | you have | here |
    |---|---|
    | tau in ms and a step of dt ms | ``LIF(tau=tau / dt)`` |
    | a decay beta, v = beta v + (1 - beta) x | ``LIF(tau=1 / (1 - beta))`` |
    | a decay beta, v = beta v + x | ``LIF(tau=1 / (1 - beta), decay_input=False)`` |
    | SpikingJelly's ``tau``, ``decay_input`` | the same |
    | snnTorch's ``Leaky(beta, reset_delay=False)`` | ``LIF(tau=1 / (1 - beta), decay_input=False, v_reset=None)`` |
    | NIR's ``LIF(tau, r)`` and a step dt | ``LIF(tau=tau / dt)`` on r x |

    docs/neurons.md has more rows; each of them is a test.
    """

    tau, v_threshold = 2.0, 1.0
    decay_input = True
    positive = ("tau",)
    states = {"v": "v_rest"}

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        if self.decay_input:
            v = v + (x - (v - self.v_rest)) / self.tau
        else:
            v = v - (v - self.v_rest) / self.tau + x
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s)}


class PLIF(Equation):
    """v = v + (x - (v - v_rest)) sigmoid(w);  s = [v >= v_threshold];  v = reset(v, s). Fang et al. 2021.

    LIF whose time constant 1 / sigmoid(w) = 1 + exp(-w) is learnt through a w that may be anything; a given tau > 1 is
    w = -log(tau - 1). With ``decay_input=False`` the input is not scaled. Same recurrence as SpikingJelly's
    ParametricLIFNode. Conversions between tau, beta and decays: docs/neurons.md.
    """

    w, v_threshold = 0.0, 1.0
    decay_input = True
    learnt = ("w",)
    states = {"v": "v_rest"}

    @property
    def tau(self) -> Any:
        """The time constant in steps, of a w that is a number or a symbol (of a tensor: the layer's ``tau``)."""
        return 1.0 + exp(-self.w)

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        rate = sigmoid(self.w)  # 1 / tau
        if self.decay_input:
            v = v + (x - (v - self.v_rest)) * rate
        else:
            v = v - (v - self.v_rest) * rate + x
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s)}


class LI(Equation):
    """v = v + (x - v) / tau, and v is the answer: a leaky integrator that never fires, for readouts.

    With ``decay_input=False``: v = v - v / tau + x. tau counts steps. Bellec et al. 2018 (NeurIPS, LSNN) read it out.
    Conversions between tau, beta and decays: docs/neurons.md.
    """

    tau = 2.0
    decay_input = True
    positive = ("tau",)
    states = {"v": 0.0}
    _fires = False

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        v = v + (x - v) / self.tau if self.decay_input else v - v / self.tau + x
        return v, {"v": v}
