"""Neurons that send a small whole number instead of a spike: ILIF. Time constants count steps."""

from __future__ import annotations

import math
from typing import Any

from snnkit.equations.equation import Equation
from snnkit.equations.resets import Hard, Soft
from snnkit.equations.symbols import clamp, floor, round, straight_through, where


class ILIF(Equation):
    """h = v - (v - v_rest) / tau + x;  s = floor(clamp(h / v_threshold, 0, D) + 1/2);  v = h - s v_threshold.

    Luo et al. 2024 (ECCV, I-LIF): trained with whole numbers 0 .. D, run as D binary spikes. Backwards ds/dh is
    1 / v_threshold where h / v_threshold is in [0, D], else 0; the surrogate is not used. Defaults are the paper's:
    D = 4, decay 1 - 1 / tau = 0.25. D is whole, > 0.

    Halves round up; ``half_to_even=True`` rounds them as torch.round does (0.5 to 0, 1.5 to 2). With
    ``decay_input=True``: h = v + (x - (v - v_rest)) / tau. A hard reset happens where s >= 1. tau counts steps.
    Conversions between tau, beta and decays: docs/neurons.md.

    Raises:
        ValueError: as for every neuron; a D that is not whole.
    """

    tau, D, v_threshold = 4 / 3, 4.0, 1.0
    decay_input, half_to_even = False, False
    positive = ("tau", "D", "v_threshold")
    states = {"v": "v_rest"}
    default_reset = Soft()

    def check(self, name: str, value: Any) -> None:
        """Also refuse a D that is not whole: 2.5 would send 3. One that is learnt starts whole and may leave it."""
        super().check(name, value)
        if name == "D" and isinstance(value, float) and not value.is_integer():
            raise ValueError(f"D must be whole, got {value}: a neuron sends 0, 1, ... or D. Take D={math.ceil(value)}.")

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:
        if self.decay_input:
            h = v + (x - (v - self.v_rest)) / self.tau
        else:
            h = v - (v - self.v_rest) / self.tau + x
        unit = where(self.D > 0.0, self.v_threshold, math.nan)  # a learnt D that became NaN would clamp nothing
        level = clamp(h / unit, 0.0, self.D)
        count = round(level) if self.half_to_even else floor(level + 0.5)
        s = level if self.relaxed else straight_through(count, level, 1.0)
        # (1 - s) h would throw the membrane far off at s = 3: a hard reset sees whether the neuron fired.
        seen = where(s > 1.0, 1.0, s) if isinstance(self.reset_rule, Hard) else s
        return s, {"v": self.reset(h, seen)}
