"""A step of a stream that goes on as the one before it: the answer of ``stream``, for half the questions.

Event by event, a step takes the kernel 3 us. To look up the state, to weigh events against the dense sum and to hand a
dozen addresses to the kernel takes twice that, and comes out the same at every step. ``Step`` keeps it from a call that
went by events to the next, and asks no more than whether anything has changed; if so, the general way takes the call.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from snnkit.nn.carry import _Slot
from snnkit.ops.delay_events import Chunks, Columns, Line


class Step:
    """A call by events that left its sums in the line it found.

    Args:
        state: what the layer's place in the carry block holds: this line.
        x: its chunk; for chunks of this shape events must pay whatever their values.
        columns: of the kernel that the layer has as long as ``Prepared`` holds.
    """

    def __init__(self, state: Mapping[str, Tensor] | None, x: Tensor, columns: Columns, line: Line) -> None:
        self._state, self._shape, self._dtype = state, x.shape, x.dtype
        self.run = Chunks(x, columns, line)
        """What a chunk gives, and the line brought up to date."""

    def goes_on(self, x: Tensor, slot: _Slot) -> bool:
        """Whether x is another chunk of that kind, and for the state of then."""
        alike = x.shape == self._shape and x.dtype == self._dtype and x.is_contiguous()
        return alike and slot.would_read(self._state)
