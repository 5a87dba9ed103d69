"""What a SpikingJelly neuron computes, as an equation of ours, or the reason why there is none.

``LIFNode`` and ``IFNode`` are our LIF and IF, in the same order of operations. ``ParametricLIFNode`` computes
sigmoid(w) in the precision of w, ours in float64, which rounds otherwise: here its sigmoid comes finished.
"""

from __future__ import annotations

import numbers
from typing import Any

from snnkit.equations import IF, LIF, Equation, Surrogate
from snnkit.interop._spikingjelly_surrogates import SURROGATES
from snnkit.ops.program import Plan, plan_of


class ParametricLIF(Equation):
    """v = v + (x - (v - v_rest)) q;  s = [v >= v_threshold];  v = reset(v, s), q = sigmoid(w).

    With ``decay_input=False``: v = v - (v - v_rest) q + x. Fang et al. 2021.
    """

    q, v_threshold = 0.5, 1.0
    decay_input = True
    states = {"v": "v_rest"}

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        if self.decay_input:
            v = v + (x - (v - self.v_rest)) * self.q
        else:
            v = v - (v - self.v_rest) * self.q + x
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s)}


EQUATIONS = {"IFNode": IF, "LIFNode": LIF, "ParametricLIFNode": ParametricLIF}
"""SpikingJelly's class -> our equation. Their options and numbers have the names of SpikingJelly's attributes."""


def settings_of(node: Any) -> tuple[Any, ...]:
    """All that decides what a node computes, to see whether it was changed since it was planned."""
    surrogate = node.surrogate_function
    return (
        node.v_threshold,
        node.v_reset,
        node.detach_reset,
        getattr(node, "tau", None),
        getattr(node, "decay_input", None),
        getattr(node, "_neuron_precision", None),
        getattr(surrogate, "spiking", None),
        type(surrogate),
        *getattr(surrogate, "_sg_params", {}).values(),
    )


def plan_or_reason(node: Any, kind: str) -> Plan | str:
    """The plan of a node whose class in SpikingJelly is named ``kind``, or why it has none."""
    found = _surrogate_or_reason(node.surrogate_function)
    if isinstance(found, str):
        return found
    if getattr(node, "_neuron_precision", None) is not None:
        return "a precision of its own was set for its kernels"
    if kind == "ParametricLIFNode" and node.w.ndim:
        return f"w has the shape {tuple(node.w.shape)} instead of one value"
    named = EQUATIONS[kind].keyword_names()
    values: dict[str, Any] = {n: getattr(node, n) for n in ("v_threshold", "tau", "decay_input") if n in named}
    values["v_reset"] = node.v_reset
    for name, value in values.items():
        if not isinstance(value, numbers.Real) and not (name == "v_reset" and value is None):
            return f"{name} is a {type(value).__name__}, not a number"
    try:
        equation = EQUATIONS[kind](**values, surrogate=found, detach_reset=bool(node.detach_reset))
    except (TypeError, ValueError) as error:
        return str(error)
    return plan_of(equation, ("q",) if kind == "ParametricLIFNode" else ())


def _surrogate_or_reason(theirs: Any) -> Surrogate | str:
    name = type(theirs).__name__
    if type(theirs).__module__ != "spikingjelly.activation_based.surrogate" or not hasattr(theirs, "_sg_params"):
        return f"its surrogate {getattr(theirs, '__name__', name)} is not one of SpikingJelly's own classes"
    if name not in SURROGATES:
        return f"its surrogate {name} has no form in snnkit"
    if not theirs.spiking:
        return f"its surrogate {name}(spiking=False) gives the primitive in place of spikes"
    values = theirs._sg_params
    for parameter, value in values.items():
        if not isinstance(value, numbers.Real):
            return f"its surrogate {name} has a {type(value).__name__} as {parameter}, not a number"
    try:
        return SURROGATES[name](**values)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        return f"its surrogate {name}: {error}"
