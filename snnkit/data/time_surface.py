"""Time surfaces: how long ago each pixel fired, as an exponential decay (Lagorce et al. 2016, on the whole sensor).

With t_f = t_0 + (f + 1) window, and last_f[a] the last event at address a before t_f,

    S[f, a] = exp(-(t_f - last_f[a]) / tau),     0 where nothing has fired yet

tonic's ``ToTimesurface`` gives the same surfaces, but as many as there are whole windows, loses the events after the
last one, and cannot take an empty recording. Here the number is fixed, and the last window takes the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.address import address
from snnkit.data.event import field, microseconds


@dataclass(frozen=True)
class TimeSurface(NamedArguments):
    """Events to ``[steps, P, H, W]`` float32 in [0, 1].

    Args:
        sensor: ``(P, H, W)``.
        steps: number of surfaces.
        window_us: microseconds between two surfaces.
        tau_us: time constant of the decay in microseconds.

    An event after the last moment counts as if it were at that moment.

    Raises:
        ValueError: a number that is not > 0; in the call, events outside of the sensor.
    """

    sensor: tuple[int, int, int] = (2, 128, 128)
    steps: int = 16
    window_us: int = 75_000
    tau_us: float = 50_000.0

    def __post_init__(self) -> None:
        for name in ("steps", "window_us", "tau_us"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}.")

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """Surfaces of one recording."""
        where = address(events, self.sensor, "TimeSurface")
        times = microseconds(field(events, "t", "TimeSurface"))
        surfaces = np.zeros((self.steps, int(np.prod(self.sensor))), np.float32)
        if not len(times):
            return surfaces.reshape(self.steps, *self.sensor)
        if (times[1:] < times[:-1]).any():
            order = np.argsort(times, kind="stable")
            where, times = where[order], times[order]
        elapsed = times - times[0]
        edges = np.searchsorted(elapsed, self.window_us * np.arange(1, self.steps), side="left")
        last = np.full(surfaces.shape[1], -np.inf)
        age = np.empty_like(last)  # one for all frames: fresh memory costs more than the arithmetic
        for f, (begin, end) in enumerate(zip([0, *edges], [*edges, len(elapsed)], strict=True)):
            moment = (f + 1) * self.window_us
            last[where[begin:end]] = np.minimum(elapsed[begin:end], moment)  # of equal addresses the last one stays
            np.subtract(last, moment, out=age)
            age /= self.tau_us
            surfaces[f] = np.exp(age, out=age)
        return surfaces.reshape(self.steps, *self.sensor)
