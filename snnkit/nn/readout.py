"""Readouts: from a sequence ``[T, B, C]`` to one answer a sample, ``[B, C]``.

All are called ``readout(x, lengths=None)``. ``lengths`` is ``[B]``, the number of valid steps of each sample in x: the
padded steps behind them do not count, whatever they hold. Inside ``carry`` the last chunk's answer is the whole's; a
chunk's lengths are those of its own steps, ``(lengths - start).clamp(0, len(chunk))``. Sums over time are taken, and
returned, in float32 or better. A sample without a valid step has no last step and no mean: NaN, and -inf for the
maximum. If x has no steps at all, that is an error. A length that is not from 0 to the steps of x is a ValueError
where lengths is on the CPU; on a GPU nobody looks (that would wait for it).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from snnkit._suggest import NamedArguments
from snnkit.nn.carry import Stateful
from snnkit.nn.time import at_least_float32, require_time_first, valid_steps


class Readout(Stateful):
    """Base of the readouts: a summary of a chunk, two summaries joined, and the answer that a summary gives."""

    initial: Mapping[str, float] = {}
    answers_without_steps = False

    def __init__(self) -> None:
        super().__init__()

    def summary(self, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """What must be known of a chunk; each entry ``[B, ...]``."""
        raise NotImplementedError

    def join(self, before: dict[str, Tensor], chunk: dict[str, Tensor]) -> dict[str, Tensor]:
        """The summary of two chunks that follow each other."""
        raise NotImplementedError

    def answer(self, summary: dict[str, Tensor]) -> Tensor:
        """The readout ``[B, C]``."""
        raise NotImplementedError

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map ``[T, B, C]`` to ``[B, C]``; lengths: valid steps of each sample, ``[B]``."""
        require_time_first(self, x)
        before = self.carried(x.shape[1], x.shape[2:])
        if len(x) == 0 and before is None and not self.answers_without_steps:
            raise ValueError(f"{type(self).__name__} needs at least one step, got a sequence {tuple(x.shape)}.")
        summary = self.summary(x, None if lengths is None else valid_steps(x, lengths))
        if before is not None:
            summary = self.join(before, summary)
        self.keep(summary, self.initial)
        return self.answer(summary)


class SumOverTime(Readout):
    """``y = sum_t x[t]``: spike counts, or the summed membrane. Zeros without steps.

    >>> SumOverTime()(torch.ones(5, 2, 3), lengths=torch.tensor([5, 1])).tolist()
    [[5.0, 5.0, 5.0], [1.0, 1.0, 1.0]]
    """

    initial = {"total": 0.0}
    answers_without_steps = True

    def summary(self, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The sum."""
        x = at_least_float32(x)
        return {"total": (x if mask is None else x.masked_fill(~mask, 0.0)).sum(0)}

    def join(self, before: dict[str, Tensor], chunk: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add."""
        return {name: before[name] + chunk[name] for name in chunk}

    def answer(self, summary: dict[str, Tensor]) -> Tensor:
        """The sum."""
        return summary["total"]


class SumOfSoftmax(SumOverTime):
    """``y = sum_t softmax(x[t])`` over the classes: each step has one vote (Hammouamri et al. 2024, ICLR, SNN-delays).

    >>> SumOfSoftmax()(torch.zeros(3, 1, 2)).tolist()
    [[1.5, 1.5]]
    """

    def summary(self, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The sum of the softmaxes."""
        x = at_least_float32(x)
        x = x if mask is None else x.masked_fill(~mask, 0.0)  # of an inf in the padding the gradient would be NaN
        return super().summary(x.softmax(-1), mask)


class MeanOverTime(SumOverTime):
    """``y = sum_t x[t] / T``, over the valid steps: firing rates, or the mean membrane.

    >>> MeanOverTime()(torch.tensor([1.0, 2.0, 9.0]).reshape(3, 1, 1), lengths=torch.tensor([2])).tolist()
    [[1.5]]
    """

    initial = {"total": 0.0, "count": 0.0}
    answers_without_steps = False

    def summary(self, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The sum and the number of steps."""
        total = super().summary(x, mask)["total"]
        steps = total.new_full(x.shape[1:2], len(x)) if mask is None else mask.flatten(1).sum(0).to(total.dtype)
        return {"total": total, "count": steps}

    def answer(self, summary: dict[str, Tensor]) -> Tensor:
        """The mean."""
        total = summary["total"]
        return total / summary["count"].reshape(-1, *[1] * (total.ndim - 1))


class LastStep(Readout):
    """``y = x[T - 1]``, the last valid step.

    >>> LastStep()(torch.arange(6.0).reshape(3, 2, 1), lengths=torch.tensor([3, 2])).tolist()
    [[4.0], [3.0]]
    """

    initial = {"last": float("nan"), "seen": 0.0}

    def summary(self, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The last valid step, and whether this chunk has one."""
        steps = torch.full(x.shape[1:2], len(x), device=x.device) if mask is None else mask.flatten(1).sum(0)
        seen = (steps > 0).reshape(-1, *[1] * (x.ndim - 2))
        if len(x) == 0:
            return {"last": x.new_full(x.shape[1:], float("nan")), "seen": seen}
        if mask is None:
            return {"last": x[-1], "seen": seen}
        last = (steps - 1).clamp(min=0).reshape(1, -1, *[1] * (x.ndim - 2)).expand(1, *x.shape[1:])
        return {"last": torch.where(seen, x.gather(0, last)[0], float("nan")), "seen": seen}

    def join(self, before: dict[str, Tensor], chunk: dict[str, Tensor]) -> dict[str, Tensor]:
        """The later one, where there is one."""
        return {**chunk, "last": torch.where(chunk["seen"], chunk["last"], before["last"])}

    def answer(self, summary: dict[str, Tensor]) -> Tensor:
        """The last step."""
        return summary["last"]


class MaxOverTime(Readout):
    """``y = max_t x[t]``; the gradient goes to one step (the first chunk's, if two chunks are equal).

    >>> MaxOverTime()(torch.tensor([1.0, 3.0, 9.0]).reshape(3, 1, 1), lengths=torch.tensor([2])).tolist()
    [[3.0]]
    """

    initial = {"largest": float("-inf")}

    def summary(self, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The maximum."""
        if len(x) == 0:
            return {"largest": x.new_full(x.shape[1:], float("-inf"))}
        return {"largest": (x if mask is None else x.masked_fill(~mask, float("-inf"))).max(0).values}

    def join(self, before: dict[str, Tensor], chunk: dict[str, Tensor]) -> dict[str, Tensor]:
        """The larger one; NaN stays."""
        old, new = before["largest"], chunk["largest"]
        return {"largest": torch.where((new > old) | new.isnan(), new, old)}

    def answer(self, summary: dict[str, Tensor]) -> Tensor:
        """The maximum."""
        return summary["largest"]


class EveryStep(nn.Identity):
    """``y = x``, ``[T, B, C]``: no readout, for losses that read each step (TET).

    >>> EveryStep()(torch.zeros(3, 2, 1)).shape
    torch.Size([3, 2, 1])
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return x as it is, padded steps included."""
        return x


class Membrane(NamedArguments, nn.Module):
    """Read a membrane: ``readout(neuron(x))`` with a neuron that returns its membrane, such as the leaky integrator LI.

    Args:
        neuron: maps the input current ``[T, B, C]`` to a membrane of the same shape.
        readout: what is done with it, e.g. ``SumOfSoftmax()``, ``LastStep()``, ``MaxOverTime()``.

    >>> Membrane(nn.Identity(), LastStep())(torch.arange(3.0).reshape(3, 1, 1)).item()
    2.0
    """

    def __init__(self, neuron: nn.Module, readout: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron
        self.readout = readout

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map the input current ``[T, B, C]`` to ``[B, C]``."""
        return self.readout(self.neuron(x), lengths)
