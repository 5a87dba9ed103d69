"""A delay layer inside ``carry``: dense over a chunk, or event by event, whichever is less work.

Two forms of state, one of them at a time: ``past``, the last K - 1 steps of the input, for the dense sum; ``line`` and
``at``, what the inputs so far still give (``delay_events.Line``), for events. The first is turned into the second when
events come in, and the second stays. What is worked out from the parameters lasts until they change, or the block ends:
a step of a stream costs less than the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.nn._delay_positions import Positioned
from snnkit.nn._delay_step import Step
from snnkit.nn.checkpoint import plain_run
from snnkit.ops import delay_events, delayed_sum
from snnkit.ops.delay_events import Line
from snnkit.ops.registered import is_plain, transformed

SHARE = 0.5
"""Events pay while they touch at most this share of the entries that the dense kernel has.

Measured, 256 x 256 x 25, one core of a Xeon with AVX-512: a tap touched by an event takes 1 ns in a layer of whole
delays and 2 ns with ten taps a synapse, the dense kernel's 0.33 ns a call and 0.015 ns a row.
"""


class Streamed(Positioned):
    """Base of layers of delayed weights, whose kernel is ``[out, in / groups, K]``."""

    weight: nn.Parameter
    in_features: int
    out_features: int
    places = 1
    """Rows of x that one step of one sample has."""

    def kernel(self) -> Tensor:
        """Dense kernel ``[out, in / groups, K]``; tap k is a delay of K - 1 - k steps."""
        raise NotImplementedError

    def path(self, x: Tensor) -> str:
        """Say in one line which way a call with ``x [T, B, in]`` takes, here and now: by events, or dense, and why.

        >>> from snnkit.nn import DelayLinear, carry
        >>> layer, x = DelayLinear(64, 32, max_delay=9).discretize(), torch.zeros(1, 1, 64)
        >>> with torch.no_grad(), carry(layer):
        ...     layer.path(x).split()[0]
        'events'
        """
        refusal = "outside snnkit.carry" if self._slot is None else _unfit(self, x) or _prepared(self).refusal(x)
        if refusal is not None:
            return f"{delayed_sum.path(x, self.kernel())}; not by events: {refusal}"
        reason = delay_events.refusal()
        return f"events ({'compiled C++' if reason is None else f'reference: {reason}'})"


class Prepared:
    """Kernel and columns of a layer, for the parameters that it has now."""

    def __init__(self, layer: Streamed) -> None:
        self._layer, self._profile = layer, layer.profile
        # So that no other tensor can have the id of one of them, and no other memory its address.
        self._held = [(p, p.detach()) for p in _parameters(layer) if p is not None]
        self._stamp = _stamp(layer)
        self.step: Step | None = None
        """The last call, if it went by events that pay whatever the values."""
        self._most = int(SHARE * layer.max_delay * layer.weight[..., 0].numel())
        self._entries = 0
        self._kernel: Tensor | None = None
        self._columns: delay_events.Columns | None = None

    def holds(self) -> bool:
        """Whether nothing has changed: an update in place changes the version, ``p.data = ...`` the address."""
        try:
            return self._layer.profile is self._profile and _stamp(self._layer) == self._stamp
        except RuntimeError:  # a parameter made in inference mode has no version
            return False

    def kernel(self) -> Tensor:
        """The dense kernel."""
        if self._kernel is None:
            self._kernel = self._layer.kernel().detach()
        return self._kernel

    def columns(self) -> delay_events.Columns:
        """Its taps by input."""
        if self._columns is None:
            self._columns = delay_events.columns(self._layer.kernel(), self._layer.in_features)
            self._entries = len(self._columns.place)
        return self._columns

    def pays(self, x: Tensor) -> bool:
        """Whether events pay for a chunk of this shape even if all of it is events."""
        return len(x) * x.shape[1] * self._entries <= self._most

    def refusal(self, x: Tensor) -> str | None:
        """Why events do not pay for a chunk; None if they do."""
        T, B, inputs = x.shape
        if self._columns is None:
            rows = T * B // self._layer.places
            if rows > self._layer.max_delay:
                return f"{rows} rows at the start of a stream, more than K = {self._layer.max_delay}"
            self.columns()
        if self.pays(x):
            return None
        touched = int(x.count_nonzero()) * self._entries // inputs
        return None if touched <= self._most else f"events touch {touched} taps, more than {self._most}"


def next_step(layer: Streamed, x: Tensor) -> Tensor | None:
    """What ``stream`` gives for a chunk that goes on as the last one did; None: ask it."""
    slot = layer._slot
    if slot is None or _unfit_here(x) is not None:
        return None
    ready = slot.prepared
    if ready is None or ready.step is None or not (ready.step.goes_on(x, slot) and ready.holds()):
        return None
    y = ready.step.run(x)
    layer.kept_in_place()
    return y


def stream(layer: Streamed, x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """The sum over a chunk ``[T, B, in]`` inside ``carry``, and the new state."""
    ready = None if _unfit(layer, x) else _prepared(layer)
    if ready is not None and ready.refusal(x) is None:
        return _by_events(layer, x, state, ready)
    kernel, later = layer.kernel() if ready is None else ready.kernel(), layer.max_delay - 1
    if "line" in state:
        pending = Line(state["line"], state["at"]).pending(layer.max_delay)
        y = delayed_sum.delayed_sum(x, kernel, tail=later)
        y = torch.cat([y[:later] + pending, y[later:]])
        _keep(layer, delay_events.delay_line(y[len(x) :]))
        return y[: len(x)]
    past = state["past"].transpose(0, 1) if state else None
    layer.keep({"past": _last(x, past, later).transpose(0, 1)}, {"past": 0.0})
    return delayed_sum.delayed_sum(x, kernel, past=past)


def _by_events(layer: Streamed, x: Tensor, state: Mapping[str, Tensor], ready: Prepared) -> Tensor:
    columns = ready.columns()
    if "line" in state:
        line = Line(state["line"], state["at"])
        # A checkpointed run is told again what it read, so that must stay as it was.
        if line.sums.dtype == x.dtype and not line.sums.requires_grad and plain_run():
            if ready.pays(x) and delay_events.refusal() is None and layer._slot is not None:
                ready.step = Step(layer._slot.state, x, columns, line)
            y = delay_events.delayed_events(x, columns, line)
            layer.kept_in_place()
            return y
        line = Line(line.sums.detach().to(x.dtype, copy=True), line.at.clone())
    else:
        line = delay_events.delay_line(x.new_zeros(layer.max_delay - 1, x.shape[1], layer.out_features))
        if state:
            delay_events.delayed_events(state["past"].transpose(0, 1).to(x.dtype), columns, line)
    y = delay_events.delayed_events(x, columns, line)
    _keep(layer, line)
    return y


def _keep(layer: Streamed, line: Line) -> None:
    layer.keep({"line": line.sums, "at": line.at}, {"line": 0.0, "at": 0.0})


def _unfit(layer: Streamed, x: Tensor) -> str | None:
    """Why nothing may be kept of the parameters, and no event taken; None if it may."""
    reason = _unfit_here(x)
    if reason is not None:
        return reason
    weight, position, width = _parameters(layer)
    if not weight.is_cpu:
        return "weights not on the CPU"
    if x.dtype != weight.dtype or x.dtype not in (torch.float32, torch.float64):
        return f"{x.dtype} with weights of {weight.dtype}; it takes float32 or float64"
    if any(p is not None and p.is_inference() for p in (weight, position, width)):
        return "parameters made in inference mode do not say when they change"
    return None


def _unfit_here(x: Tensor) -> str | None:
    """The part of it that may change from call to call while the parameters stay."""
    if not is_plain(x) or transformed():
        return "torch.compile, a mode or torch.func is at work"
    if torch.is_grad_enabled():
        return "gradients are on (torch.no_grad() turns them off)"
    if not x.is_cpu:
        return "not on the CPU"
    return "autocast is on" if torch.is_autocast_enabled("cpu") else None


def _parameters(layer: Streamed) -> tuple[Tensor, Tensor, Tensor | None]:
    """Weight, position and width; straight from the table, where they are plain parameters: a third of the time."""
    table: Mapping[str, Any] = layer._parameters
    try:
        return table["weight"], table["P"], table["SIG"]
    except KeyError:
        return layer.weight, layer.P, layer.SIG


def _stamp(layer: Streamed) -> tuple[int, ...]:
    """Numbers that differ once a parameter is another tensor or has other values."""
    weight, position, width = _parameters(layer)
    stamp = (
        id(weight), weight._version, weight.data_ptr(), id(position), position._version, position.data_ptr(),
    )  # fmt: skip
    return stamp if width is None else (*stamp, id(width), width._version, width.data_ptr())


def _prepared(layer: Streamed) -> Prepared:
    """What the layer's block holds of it, made anew if a parameter has changed."""
    slot = layer._slot
    if slot is None:
        return Prepared(layer)
    if slot.prepared is None or not slot.prepared.holds():
        slot.prepared = Prepared(layer)
    return slot.prepared


def _last(x: Tensor, past: Tensor | None, steps: int) -> Tensor:
    """The last steps of past and x together, zeros before them: ``[steps, B, ...]``."""
    if past is None:
        past = x.new_zeros(steps, *x.shape[1:])
    kept = x[len(x) - min(len(x), steps) :]
    return torch.cat([past[len(kept) :].to(x.dtype), kept])
