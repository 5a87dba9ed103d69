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
from snnkit.nn.time import at_least_float32, require_time_first


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

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to the same shape and dtype."""
        z = self.scaled(x)
        level = z.clamp(0, self.D)
        n = level.round() if self.half_to_even else (level + 0.5).floor()
        y = (n / self.divisor).to(x.dtype)
        y = PassGradient.apply(x, y, self.passes(z), self.gain / self.divisor)
        if self._observer is not None:
            self._observer(y)
        return y

    def scaled(self, x: Tensor) -> Tensor:
        """z = gain x, at least in float32, outside of the graph."""
        require_time_first(self, x)
        if not x.is_floating_point():
            raise TypeError(f"IELIF expects floating numbers, got {x.dtype}. Convert it: x.float().")
        return at_least_float32(x.detach()) * self.gain

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
        return {name: value for name, value in self.__dict__.items() if name != "_observer"}


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
