"""IE-LIF: a neuron that sends a small whole number, without a state: each time step stands alone.

Qiu et al. 2025 (QSD-Transformer, ICLR, arXiv 2501.13492). With a state it is I-LIF (``ILIF``). As binary spikes:
``snnkit.nn.unrolled``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from snnkit._suggest import NamedArguments
from snnkit.equations import Equation
from snnkit.equations.symbols import clamp, floor, round, straight_through, where
from snnkit.nn.time import at_least_float32, require_time_first
from snnkit.ops.program import Plan, plan_of
from snnkit.ops.scan import run


class _Levels(Equation):
    """The formula of ``IELIF``; v is there because every equation has a state, and stays 0."""

    gain, D, divisor, lens, slope = 4.0, 4.0, 4.0, 4.0, 1.0
    half_to_even, inclusive = False, False
    states = {"v": 0.0}

    def step(self, x: Any, v: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        z = self.gain * x
        level = clamp(z, 0.0, self.D)
        n = round(level) if self.half_to_even else floor(level + 0.5)
        if self.inclusive:
            passes = where(z >= 0.0, where(z <= self.lens, self.slope, 0.0), 0.0)
        else:
            passes = where(z > 0.0, where(z < self.lens, self.slope, 0.0), 0.0)
        return straight_through(n / self.divisor, x, passes), {"v": 0.0}


class IELIF(NamedArguments, nn.Module):
    """z = gain x;  n = floor(clamp(z, 0, D) + 1/2);  y = n / divisor, on ``[T, B, ...]``.

    Backwards dy/dx is gain / divisor where 0 < z < lens, else 0.

    Args:
        D: the largest n, a whole number.
        gain: factor of the input. Default: D, so that x from 0 to 1 spans all levels.
        divisor: of the output. Default: D, so that y is from 0 to 1.
        lens: where the gradient ends. Default: D.
        half_to_even: round halves of z to even (0.5 to 0, 1.5 to 2), not up.
        inclusive: the gradient also passes at the ends, z = 0 and z = lens.

    The forms of the paper's code:

    | there | here |
    |---|---|
    | ``Multispike(lens)`` | ``IELIF(lens=lens)`` |
    | ``Multispike_att(lens)`` (after attention) | ``IELIF(divisor=2, lens=lens)`` |
    | ``MultiSpike_norm(Norm)`` (segmentation) | ``IELIF(gain=1, divisor=Norm, half_to_even=True, inclusive=True)`` |

    Half precision is rounded in float32, since z + 1/2 does not fit into its digits. ``firing_rates`` gives the mean y.

    Raises:
        ValueError: D is not a whole number > 0, or another number is not > 0.

    >>> IELIF()(torch.tensor([-1.0, 0.1, 0.125, 0.6, 7.0]).reshape(1, 1, 5)).flatten().tolist()
    [0.0, 0.0, 0.25, 0.5, 1.0]
    """

    _observer: Any = None
    _numbers = frozenset({"D", "gain", "divisor", "lens", "half_to_even", "inclusive"})

    def __init__(
        self, D: int = 4, gain: float | None = None, divisor: float | None = None, lens: float | None = None,
        half_to_even: bool = False, inclusive: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if not (D > 0 and math.isfinite(D) and D == int(D)):
            raise ValueError(f"D must be a whole number > 0, got {D}: a neuron sends 0, 1, ... or D.")
        self.D = int(D)
        self.gain, self.divisor, self.lens = (float(D if n is None else n) for n in (gain, divisor, lens))
        for name in ("gain", "divisor", "lens"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be > 0 and finite, got {value}.")
        self.half_to_even, self.inclusive = half_to_even, inclusive
        self._plan = self._planned()

    @property
    def neuron(self) -> Equation:
        """The formula as an equation, for ``snnkit.ops.path`` and ``scan``."""
        return _Levels(
            self.gain, float(self.D), self.divisor, self.lens, self.gain / self.divisor,
            half_to_even=self.half_to_even, inclusive=self.inclusive,
        )  # fmt: skip

    def _planned(self) -> Plan:
        return plan_of(self.neuron, ())

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in self._numbers and "_plan" in self.__dict__:  # a number that was changed later
            self._plan = self._planned()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to the same shape and dtype."""
        self._require(x)
        y = run(self._plan, {}, x, None, (), None, final=False).output
        if self._observer is not None:
            self._observer(y)
        return y

    def scaled(self, x: Tensor) -> Tensor:
        """z = gain x, at least in float32, outside of the graph."""
        self._require(x)
        return at_least_float32(x.detach()) * self.gain

    def _require(self, x: Tensor) -> None:
        require_time_first(self, x)
        if not x.is_floating_point():
            raise TypeError(f"IELIF expects floating numbers, got {x.dtype}. Convert it: x.float().")

    def passes(self, z: Tensor) -> Tensor:
        """Where the gradient passes, bool."""
        if self.inclusive:
            return (z >= 0) & (z <= self.lens)
        return (z > 0) & (z < self.lens)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        shown = [f"D={self.D}"] if self.D != 4 else []
        shown += [f"{n}={getattr(self, n):g}" for n in ("gain", "divisor", "lens") if getattr(self, n) != self.D]
        return ", ".join(shown + [f"{n}=True" for n in ("half_to_even", "inclusive") if getattr(self, n)])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_observer", "_plan")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plan = self._planned()


class PassGradient(torch.autograd.Function):
    """y, with the gradient slope where ``passes``, else 0, to x. It keeps one byte a element."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, passes: Tensor, slope: float) -> Tensor:
        """The y that was given."""
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep where the gradient passes."""
        _, _, passes, ctx.slope = inputs
        ctx.save_for_backward(passes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of x."""
        (passes,) = ctx.saved_tensors
        return torch.where(passes, grad * ctx.slope, 0.0), None, None, None
