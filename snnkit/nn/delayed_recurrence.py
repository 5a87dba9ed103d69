"""Recurrent connections with learnt delays (DelRec): what a neuron hears of its layer was said some steps ago.

Source: Queant et al. 2025 (arXiv 2509.24852; code alexmaxad/DelRec).
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkit.nn.neuron_layer import Neuron
from snnkit.nn.recurrent import Feedback
from snnkit.nn.time import TimeDropout
from snnkit.ops.registered import is_plain, transformed
from snnkit.ops.scan_call import compute_dtype


@dataclass(frozen=True)
class UniformDelays:
    """Delays start uniform between low and high (steps).

    Raises:
        ValueError: not 0 <= low <= high.
    """

    low: float = 10.0
    high: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"UniformDelays needs 0 <= low <= high, got low={self.low}, high={self.high}.")

    def draw_(self, delay: Tensor) -> None:
        """Fill a tensor."""
        nn.init.uniform_(delay, self.low, self.high)


@dataclass(frozen=True)
class HalfNormalDelays:
    """Delays start as abs(N(0, std)) (steps)."""

    std: float = 12.0

    def draw_(self, delay: Tensor) -> None:
        """Fill a tensor."""
        nn.init.normal_(delay, 0.0, self.std)
        with torch.no_grad():
            delay.abs_()


class DelayedRecurrence(Feedback):
    """A layer of neurons that hear each other after learnt delays: source j is heard 1 + d[j] steps later.

        x[t] + mask * sum_j W[i, j] sum_{l >= 1} m[j, l] s[t - l, j],   m[j, l] = max(0, r - abs(l - 1 - d[j])) / r^2

    In training a spike is spread over a triangle of half base r = 1 + sigma, which narrows as sigma falls (see
    ``SpreadSchedule``); with ``learn_spread`` each source has its own, r[j] = 1 + 2 sigma sigmoid(p[j]). What the
    triangle would put at lags below 1 is lost, and its mass is not made up for, as in the authors' code.

    Args:
        neuron: any neuron, such as ``LIF()``; the paper's has no learnt parameters.
        features: N, size of the layer.
        max_delay: ``clamp_`` keeps d in [0, max_delay]. A larger d acts as max_delay, without a gradient. On a GPU, and
            under ``torch.compile`` or ``torch.func``, where nobody can look at the delays, a step hears up to
            ``1 + max_delay + r`` steps back (r of the first sigma), elsewhere as far as its delays reach.
        synaptic: a delay for each pair, ``[target, source]``, in place of one for each source (axonal). Memory and work
            of the weights grow by the number of lags.
        learn_spread: learn p, one for each source.
        sigma: spread at first, >= 0.
        dropout: probability that a neuron does not hear its layer for the whole sequence (one mask for all steps).
        start: how delays are drawn.

    Parameters: ``weight [target, source]`` (orthogonal at first), ``delay [N]`` or ``[target, source]`` (d), ``spread
    [N]`` (p, 0 at first); the buffer ``sigma`` is in the state dict, so that a file evaluates as it was trained.
    Inside ``carry`` the outputs of the last steps are state.

    Raises:
        ValueError: a negative max_delay or sigma, a dropout outside [0, 1); a sigma above the first one.
        RuntimeError: on loading, a delay above max_delay (the authors' code has no upper bound), a sigma above the
            first one, or a value that is not finite.

    >>> from snnkit.nn import LIF
    >>> layer = DelayedRecurrence(LIF(v_reset=None), 1, max_delay=5, sigma=0.0, start=UniformDelays(0, 5))
    >>> _ = nn.init.constant_(layer.weight, 2.0), nn.init.constant_(layer.delay, 2.0)
    >>> x = torch.zeros(8, 1, 1)
    >>> x[0] = 2.0
    >>> layer(x).flatten().tolist()
    [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    """

    sigma: Tensor

    def __init__(
        self, neuron: Neuron, features: int, max_delay: int = 60, synaptic: bool = False, learn_spread: bool = False,
        sigma: float = 10.0, dropout: float = 0.0,
        start: UniformDelays | HalfNormalDelays = UniformDelays(),  # noqa: B008
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(neuron, features)
        for name, value in dict(max_delay=max_delay, sigma=sigma).items():
            if not value >= 0:
                raise ValueError(f"{name} must be >= 0, got {value}.")
        self.max_delay, self.synaptic, self.start, self.first_sigma = max_delay, synaptic, start, float(sigma)
        place = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(features, features, **place))
        self.delay = nn.Parameter(torch.empty((features, features) if synaptic else (features,), **place))
        self.spread: nn.Parameter | None
        if learn_spread:
            self.spread = nn.Parameter(torch.empty(features, **place))
        else:
            self.register_parameter("spread", None)
        self.register_buffer("sigma", torch.tensor(float(sigma), **place))
        self.dropout = TimeDropout(dropout)
        if isinstance(start, UniformDelays) and max_delay <= start.low < start.high:
            told = f"All delays start at max_delay={max_delay}, since {start} lies above."
            warnings.warn(f"{told} Give a start below it, such as start=UniformDelays(0, {max_delay}).", stacklevel=2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and delays."""
        nn.init.orthogonal_(self.weight)
        self.start.draw_(self.delay)
        self.clamp_()
        if self.spread is not None:
            nn.init.zeros_(self.spread)

    def radius(self) -> Tensor:
        """Half the base of the triangle in steps: r, one value or ``[N]``."""
        return 1.0 + self.sigma if self.spread is None else 1.0 + 2.0 * self.sigma * torch.sigmoid(self.spread)

    def lags(self) -> int:
        """How many steps back a step hears."""
        factor = 1.0 if self.spread is None else 2.0
        if self.delay.is_cpu and is_plain(self.delay) and not transformed():
            with torch.no_grad():
                reach = 1.0 + min(float(self.delay.max()), self.max_delay) + float(self.radius().max())
        else:
            reach = 2.0 + self.max_delay + factor * self.first_sigma
        return max(1, math.ceil(reach)) if math.isfinite(reach) else 1  # NaN: every tap is, too

    def taps(self) -> Tensor:
        """Strength of each lag 1, 2, ...: ``[L, N]``, or ``[L, target, source]``."""
        lag = torch.arange(1, self.lags() + 1, device=self.delay.device, dtype=self.delay.dtype)
        radius, lag = self.radius(), lag.reshape(-1, *[1] * self.delay.ndim)
        delay = self.delay.clamp(max=float(self.max_delay))  # all that the lags above can hold
        return F.relu(radius - (lag - (1.0 + delay)).abs()) / radius**2

    def connections(self) -> tuple[Tensor, Tensor | None]:
        """The weights and the taps, or the weights of each lag."""
        return (self.weight * self.taps(), None) if self.synaptic else (self.weight, self.taps())

    def feedback_mask(self, x: Tensor) -> Tensor | None:
        """The dropout's mask, in training."""
        if not self.training or getattr(self.dropout, "p", 1) == 0:
            return None
        dtype = compute_dtype(x)
        return self.dropout(x.new_ones(1, *x.shape[1:], dtype=dtype))[0]

    def set_sigma(self, value: float) -> None:
        """Set the spread; not above the one that the layer was made with."""
        if not 0 <= value <= self.first_sigma:
            raise ValueError(f"sigma must be from 0 to the first one, {self.first_sigma:g}, got {value}.")
        with torch.no_grad():
            self.sigma.fill_(value)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Clamp delays in place to [0, max_delay]. Once a step; the authors do it once an epoch, from below."""
        self.delay.clamp_(0.0, float(self.max_delay))

    @torch.no_grad()
    def discretize(self) -> DelayedRecurrence:
        """A copy in eval mode with whole delays, rounded half to even; sigma stays as it is, as in the paper.

        (The authors' test rounds the delays of the network in training itself, and goes on from there.)
        """
        layer = copy.deepcopy(self)
        layer.delay.round_()
        layer.clamp_()
        return layer.eval()

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        problems = [
            f"{prefix}{name} {problem}"
            for name, most in (("delay", float(self.max_delay)), ("sigma", self.first_sigma))
            if prefix + name in state_dict and (problem := _beyond(state_dict[prefix + name], most, name))
        ]
        error_msgs += problems
        if not problems:
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )

    def extra_repr(self) -> str:
        """Size and kind."""
        kind = "synaptic" if self.synaptic else "axonal"
        return f"features={self.features}, max_delay={self.max_delay}, {kind}, learn_spread={self.spread is not None}"


def _beyond(value: Tensor, most: float, name: str) -> str | None:
    """What is wrong with a file's delays or sigma, or None. A sigma may be the first one, rounded to bfloat16."""
    if not value.isfinite().all():
        return f"must be finite, got {value[~value.isfinite()][0].item()}."
    if not value.numel() or value.max() <= most * (1 + 2**-8 if name == "sigma" else 1):
        return None
    reached, argument = value.max().item(), "max_delay" if name == "delay" else name
    remedy = math.ceil(reached) if name == "delay" else f"{reached:g}"
    return f"reaches {reached:g} steps, {argument}={most:g} is the most here. Build it with {argument}={remedy}."


class SpreadSchedule:
    """sigma(e) = sigma(0) * (0.95^(100 / epochs))^e in epoch e, in all layers of a model: it ends near 0.06, not at 0.

    Args:
        model: every ``DelayedRecurrence`` in it takes part, from the sigma that it was made with.
        epochs: of the whole training.
        decay: 0.95 in the paper.

    Raises:
        ValueError: no such layer in the model, no epochs, a decay outside of (0, 1].

    >>> from snnkit.nn import LIF
    >>> layer = DelayedRecurrence(LIF(), 2)
    >>> schedule = SpreadSchedule(layer, epochs=100)
    >>> schedule.step()
    >>> layer.sigma.item()
    9.5
    """

    def __init__(self, model: nn.Module, epochs: int, decay: float = 0.95) -> None:
        self._layers = [layer for layer in model.modules() if isinstance(layer, DelayedRecurrence)]
        if not self._layers:
            raise ValueError("SpreadSchedule: the model has no DelayedRecurrence.")
        if epochs < 1 or not 0 < decay <= 1:
            raise ValueError(f"SpreadSchedule expects epochs >= 1 and 0 < decay <= 1, got {epochs}, {decay}.")
        self.epoch, self._factor = 0, decay ** (100 / epochs)

    def step(self) -> None:
        """End an epoch."""
        self.epoch += 1
        for layer in self._layers:
            layer.set_sigma(layer.first_sigma * self._factor**self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Number of epochs that have ended; the spread is in the model's state."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken."""
        self.epoch = int(state["epoch"])
