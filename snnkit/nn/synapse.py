"""Synapses with a memory: spikes become currents that decay."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.equations import Equation
from snnkit.nn.carry import Stateful
from snnkit.nn.time import require_time_first
from snnkit.ops.program import Plan, plan_of
from snnkit.ops.scan import run


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

    Raises:
        ValueError: an impossible tau.
        RuntimeError: on loading, a w that is not finite.

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
        self._tau = float(tau)
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1.0))) if learn else None
        self._plan = self._planned()

    @property
    def tau(self) -> float:
        """The time constant in steps; to be changed by a new layer, or through w where it is learnt."""
        return self._tau if self.w is None else float(1 / self.w.detach().sigmoid())

    def _planned(self) -> Plan:
        return plan_of(Filter(rate=1.0 / self._tau), () if self.w is None else ("rate",))

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        w = state_dict.get(f"{prefix}w")
        if w is not None and not w.isfinite().all():
            error_msgs.append(f"{prefix}w must be finite, got {w[~w.isfinite()][0].item()}.")
        else:
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_plan"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plan = self._planned()

    def forward(self, x: Tensor) -> Tensor:
        """Map spikes ``[T, B, ...]`` to currents ``[T, B, ...]``."""
        require_time_first(self, x)
        rate = {} if self.w is None else {"rate": self.w.sigmoid()}
        held, in_carry = self.carried(x.shape[1], x.shape[2:]), self.in_carry
        y, state, _ = run(self._plan, rate, x, held, (), None, final=in_carry)
        if in_carry:
            self.keep(state, {"y": 0.0})
        return y

    def extra_repr(self) -> str:
        """The time constant."""
        return f"tau={self.tau:g}" if self.w is None else f"tau={self.tau:g}, learn=True"
