"""Firing rates while a model runs: neurons report their spikes to an observer as long as one is there.

No forward hooks: a neuron that is fused into the layer before it is never called, but it still reports.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from snnkit.nn.checkpoint import recomputing

Rate = TypeVar("Rate")


class _Mean:
    """Running mean of what a layer reports, in float64 and on its device, so that observing does not wait for a GPU."""

    def __init__(self, axes: Callable[[Tensor], tuple[int, ...]], before: Callable[[Tensor], None] | None) -> None:
        self.axes = axes
        self.before = before
        self.valid: Tensor | None = None  # of the next report, see count_only
        self.total: Tensor | None = None
        self.count: Tensor | None = None  # a tensor: the compiler takes another number for another program

    def __call__(self, s: Tensor) -> None:
        valid, self.valid = self.valid, None
        if self.before is not None:
            if isinstance(self.before, _Mean):
                self.before.valid = valid
            self.before(s)
        if recomputing():
            return
        axes = self.axes(s)
        s = s.detach() if valid is None else torch.where(valid, s.detach(), 0.0)
        total = s.sum(axes, dtype=torch.float64)
        count = torch.full((), s.numel() // max(total.numel(), 1), dtype=torch.float64, device=s.device)
        if valid is not None:
            count = count * valid.mean(dtype=torch.float64)
        self.total = total if self.total is None else self.total + total
        self.count = count if self.count is None else self.count + count


class Rates(Mapping[str, Rate], Generic[Rate]):
    """Name of the layer -> mean of its spikes so far, for all layers that have run."""

    def __init__(self, means: dict[str, _Mean], result: Callable[[Tensor], Rate]) -> None:
        self._means = means
        self._result = result

    def __getitem__(self, name: str) -> Rate:
        mean = self._means[name]
        if mean.total is None or mean.count is None:
            raise KeyError(f"{name} has not run")
        return self._result(mean.total / mean.count)

    def __iter__(self) -> Iterator[str]:
        return (name for name, mean in self._means.items() if mean.count is not None and mean.count > 0)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))

    def over_processes(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, Rate]:
        """The means over what several processes saw, each a part.

        Args:
            reduce: sums a tensor over the processes, as accelerate's ``accelerator.reduce`` does. It is called twice a
                layer, so that each process must have run the same layers.
        """
        ran = {name: self._means[name] for name in self}
        return {name: self._result(reduce(mean.total) / reduce(mean.count)) for name, mean in ran.items()}  # type: ignore[arg-type]


class _Observation(Generic[Rate]):
    """The block ``with firing_rates(model) as rates:``."""

    def __init__(
        self, model: nn.Module, axes: Callable[[Tensor], tuple[int, ...]], result: Callable[[Tensor], Rate]
    ) -> None:
        self.model = model
        self.axes = axes
        self.result = result

    def __enter__(self) -> Rates[Rate]:
        # A layer's own observer goes on: two observations of one model do not disturb each other.
        self.found: list[tuple[Any, Any]] = []
        means = {}
        for name, layer in self.model.named_modules():
            if hasattr(layer, "_observer"):
                self.found.append((layer, layer._observer))
                layer._observer = means[name] = _Mean(self.axes, layer._observer)
        return Rates(means, self.result)

    def __exit__(self, *_: object) -> None:
        for layer, before in self.found:
            if before is None:
                del layer._observer
            else:
                layer._observer = before


def count_only(layer: nn.Module, valid: Tensor) -> None:
    """Let what the neurons of a layer report next count in these steps alone: the rest is padding.

    Args:
        layer: the neurons, or a module that holds them.
        valid: bool, ``[T, B, 1, ...]`` with as many axes as the spikes.
    """
    for each in layer.modules():
        observer = getattr(each, "_observer", None)
        if observer is not None:
            observer.valid = valid


def firing_rates(model: nn.Module) -> _Observation[float]:
    """``with firing_rates(model) as rates:`` mean number of spikes a step and neuron, of each layer that fires.

    ``rates`` maps a layer's name to the mean over all steps, samples and neurons of all calls in the block; where a
    network is told the ``lengths`` of its samples, over their own steps. It can be read inside the block and after it.
    Layers that have not run are absent.

    >>> import snnkit
    >>> with firing_rates(snnkit.nn.LIF(tau=2.0)) as rates:
    ...     dict(rates)
    {}
    """
    return _Observation(model, lambda s: tuple(range(s.ndim)), lambda mean: float(mean))


def unit_rates(model: nn.Module) -> _Observation[Tensor]:
    """As ``firing_rates``, for each neuron: a float64 tensor of shape ``x.shape[2:]`` for each layer."""
    return _Observation(model, lambda s: (0, 1), lambda mean: mean)


def silent(rates: Mapping[str, Tensor]) -> dict[str, float]:
    """Layers with neurons that never fired, and the share of these neurons: ``{"blocks.0.lif": 0.25}``.

    Args:
        rates: what ``unit_rates`` gives.
    """
    shares = {name: float((rate == 0).double().mean()) for name, rate in rates.items()}
    return {name: share for name, share in shares.items() if share > 0}


def saturated(rates: Mapping[str, Tensor]) -> dict[str, float]:
    """Layers with neurons that fired at every step, and the share of these neurons.

    Args:
        rates: what ``unit_rates`` gives.
    """
    shares = {name: float((rate >= 1).double().mean()) for name, rate in rates.items()}
    return {name: share for name, share in shares.items() if share > 0}
