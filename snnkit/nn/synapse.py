"""Synapses with a memory: spikes become currents that decay."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.equations import Equation
from snnkit.nn.carry import Stateful
from snnkit.nn.time import require_time_first
from snnkit.ops.scan import scan


class Filter(Equation):
    """y = y - (1 - x) y rate + x, and y is the answer; rate = 1 / tau."""

    rate = 0.01
    states = {"y": 0.0}
    _fires = False

    def step(self, x: Any, y: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]  # it names its state
        """One time step."""
        y = y - (1.0 - x) * y * self.rate + x
        return y, {"y": y}


class SynapseFilter(Stateful):
    """``y[t] = y[t-1] - (1 - x[t]) y[t-1] / tau + x[t]``: a spike adds one, between spikes the current decays.

    Args:
        tau: time constant in steps, > 0.
        learn: tau is learnt as ``w`` with ``1 / tau = sigmoid(w)`` (state-dict key ``w``, as in SpikingJelly's files);
            tau > 1 then.

    In the step of a spike nothing decays. ``[T, B, ...]`` to the same shape and dtype; the state is float32 or better.
    Source: Diehl & Cook 2015 (Front. Comput. Neurosci. 9:99); SpikingJelly's ``layer.SynapseFilter``.

    >>> SynapseFilter(tau=2.0)(torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)).flatten().tolist()
    [1.0, 0.5, 0.25]
    """

    def __init__(self, tau: float = 100.0, learn: bool = False) -> None:
        super().__init__()
        least = 1.0 if learn else 0.0
        if not (math.isfinite(tau) and tau > least):
            raise ValueError(f"tau must be > {least:g}{' to be learnt' if learn else ''}, got {tau}.")
        self.tau = float(tau)
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1.0))) if learn else None

    def forward(self, x: Tensor) -> Tensor:
        """Map spikes ``[T, B, ...]`` to currents ``[T, B, ...]``."""
        require_time_first(self, x)
        rate = 1.0 / self.tau if self.w is None else self.w.sigmoid()
        y, state, _ = scan(Filter(rate=rate), x, self.carried(x.shape[1], x.shape[2:]))
        self.keep(state, {"y": 0.0})
        return y

    def extra_repr(self) -> str:
        """The time constant."""
        return f"tau={self.tau:g}" if self.w is None else f"tau={float(1 / self.w.detach().sigmoid()):g}, learn=True"
