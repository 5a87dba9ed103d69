"""Resets: what a spike does to the membrane that fired it.

The gradient passes through the spike in the reset unless ``detach`` is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from snnkit.equations.parametric import Parametric
from snnkit.equations.symbols import detach


class Reset(Parametric):
    """Base: ``apply(v, s, v_threshold)`` gives the membrane after the spikes s."""

    detach = False

    @property
    def v_rest(self) -> Any:
        """Where the leak goes and where the neuron starts."""
        return 0.0

    def seen(self, s: Any) -> Any:
        """The spike as the reset sees it."""
        return detach(s) if self.detach else s

    def simplified(self, learnt: Sequence[str] = ()) -> Reset:
        """The same reset by a shorter formula, if its numbers allow one; ``learnt`` names those that may change."""
        return self

    def apply(self, v: Any, s: Any, v_threshold: Any) -> Any:
        """The membrane after the reset."""
        raise TypeError(f"{type(self).__name__} has no apply(self, v, s, v_threshold).")


class Hard(Reset):
    """v = (1 - s) v + s v_reset. The leak goes towards v_reset and the neuron starts there."""

    v_reset = 0.0

    @property
    def v_rest(self) -> Any:
        """v_reset."""
        return self.v_reset

    def apply(self, v: Any, s: Any, v_threshold: Any) -> Any:
        s = self.seen(s)
        return (1.0 - s) * v + s * self.v_reset

    def simplified(self, learnt: Sequence[str] = ()) -> Reset:
        """At v_reset = 0, where most neurons are, a third of a step's operations falls away."""
        zero = isinstance(self.v_reset, float) and self.v_reset == 0.0 and "v_reset" not in learnt
        return _ToZero(detach=self.detach) if zero and type(self) is Hard else self  # a subclass has its own formula


class _ToZero(Hard):
    """v = (1 - s) v: the hard reset to 0, whose v_reset no formula reads."""

    @property
    def v_rest(self) -> Any:
        """0."""
        return 0.0

    def apply(self, v: Any, s: Any, v_threshold: Any) -> Any:
        return (1.0 - self.seen(s)) * v


class Soft(Reset):
    """v = v - s v_threshold."""

    def apply(self, v: Any, s: Any, v_threshold: Any) -> Any:
        return v - self.seen(s) * v_threshold


class NoReset(Reset):
    """v = v: the membrane goes on as if nothing had happened."""

    def apply(self, v: Any, s: Any, v_threshold: Any) -> Any:
        return v
