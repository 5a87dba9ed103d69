"""Integrate-and-fire neurons with one membrane v: IF, LIF and the readout LI. Time constants count steps.

| you have | here |
|---|---|
| tau in ms, step dt in ms | tau / dt |
| decay factor beta of v = beta v + x | ``LIF(tau=1 / (1 - beta), decay_input=False)`` |
| decay factor beta of v = beta v + (1 - beta) x | ``LIF(tau=1 / (1 - beta))`` |
| SpikingJelly ``decay_input`` | the same |
| snnTorch ``Leaky(beta)`` | ``decay_input=False``; it resets one step later |
| NIR ``LIF(tau, r=1)`` with step dt | ``LIF(tau=tau / dt)`` |
"""

from __future__ import annotations

from typing import Any

from snnkit.equations.equation import Equation


class IF(Equation):
    """v = v + x;  s = [v >= v_threshold];  v = reset(v, s). Lapicque 1907."""

    v_threshold = 1.0
    states = {"v": "v_rest"}

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        v = v + x
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s)}


class LIF(Equation):
    """v = v + (x - (v - v_rest)) / tau;  s = [v >= v_threshold];  v = reset(v, s).

    With ``decay_input=False`` the input is not divided: v = v - (v - v_rest) / tau + x. v_rest is v_reset of a hard
    reset, else 0. Stein 1965; same recurrence as SpikingJelly's LIFNode.
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


class LI(Equation):
    """v = v + (x - v) / tau, and v is the answer: a leaky integrator that never fires, for readouts.

    With ``decay_input=False``: v = v - v / tau + x.
    """

    tau = 2.0
    decay_input = True
    positive = ("tau",)
    states = {"v": 0.0}
    _fires = False

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        v = v + (x - v) / self.tau if self.decay_input else v - v / self.tau + x
        return v, {"v": v}
