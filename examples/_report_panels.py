"""Panels of a temporal run's picture: one test sample's input and spikes, and the delays of the network."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnkit.nn import DelayedRecurrence

RECURRENT = ", recurrent"  # at the end of a name: drawn dashed


def are_counts(x: np.ndarray) -> bool:
    """Whether an input holds spikes or counts of them: whole numbers that are not negative."""
    return bool(np.all((x >= 0) & (x == np.floor(x))))


def draw_input(axis: Any, x: np.ndarray, steps: int, step: str) -> None:
    """Draw an input ``[T, channels]`` of real numbers: an image over time, a curve if there is one channel.

    Args:
        axis: where.
        x: the input.
        steps: length of the axis of time, at least T.
        step: the unit of time.
    """
    axis.set(title="Input of one test sample", xlabel=f"time ({step})", xlim=(-0.5, steps - 0.5))
    if x.shape[1] == 1:
        axis.plot(x[:, 0], linewidth=0.7)
        axis.set_ylabel("value")
        return
    image = axis.imshow(x.T, origin="lower", aspect="auto", interpolation="none")
    axis.set(ylabel="channel", xlim=(-0.5, steps - 0.5))
    axis.figure.colorbar(image, ax=axis, label="value")


def draw_spikes(axis: Any, spikes: Mapping[str, np.ndarray], step: str) -> None:
    """Draw a dot for each unit and step with spikes; ``spikes``: ``[T, units ...]`` by layer, from below."""
    below, ticks = 0, {}
    for name, s in spikes.items():
        s = s.reshape(len(s), -1)  # places and neurons of a place, say, one after the other
        t, unit = np.nonzero(s)
        axis.scatter(t, unit + below, s=3, linewidths=0)
        ticks[below + s.shape[1] / 2] = f"{name}\n{s.shape[1]} unit{'s' if s.shape[1] > 1 else ''}"
        below += s.shape[1]
        axis.axhline(below, color="grey", linewidth=0.5)
    axis.set(title="Spikes of one test sample", xlabel=f"time ({step})", ylim=(0, below))
    axis.set_xlim(-0.5, max(len(s) for s in spikes.values()) - 0.5)  # silent steps, too
    axis.set_yticks(list(ticks), list(ticks.values()))


def delays_of(model: Any) -> dict[str, np.ndarray]:
    """Delays in steps by layer: ``layer 2``, or ``layer 2, recurrent`` and ``layer 2, feed-forward``.

    Layers are counted from the input, the last one is ``output``; empty for a network without delays.
    """
    kept = list(model.delay_layers())
    apart = any(isinstance(layer, DelayedRecurrence) for layer in kept)
    names = {}
    parts = {f"layer {number}": block for number, block in enumerate(model.blocks, start=1)}
    for name, part in (parts | {"output": model.head}).items():
        for layer in part.modules():
            kind = RECURRENT if isinstance(layer, DelayedRecurrence) else ", feed-forward"
            names[layer] = name + (kind if apart else "")
    return {names[layer]: layer.delay.detach().cpu().numpy().ravel() for layer in kept}


def draw_delays(axis: Any, delays: Mapping[str, np.ndarray], step: str) -> None:
    """Draw a histogram for each layer, of ``delays_of``; one colour a layer, dashed for recurrent delays."""
    edges = np.arange(np.ceil(max(d.max() for d in delays.values())) + 2) - 0.5
    layers = list(dict.fromkeys(name.split(",")[0] for name in delays))
    for name, d in delays.items():
        axis.stairs(
            100 * np.histogram(d, edges)[0] / d.size,
            edges,
            label=f"{name}: mean {d.mean():.1f}",
            color=f"C{layers.index(name.split(',')[0])}",
            linestyle="--" if name.endswith(RECURRENT) else "-",
        )
    axis.set(title="Delays", xlabel=f"delay ({step})", ylabel="share of the layer's delays (%)")
    axis.legend()
