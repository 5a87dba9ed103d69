"""Torch modules: neurons, delays, readouts, time."""

from snnkit.nn.carry import Stateful, carry
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.time import PerStep, TimeDropout

__all__ = ["PerStep", "Stateful", "TimeDropout", "carry", "checkpoint"]
