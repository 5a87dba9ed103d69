"""A DVS pixel: light that changes to events, so that any sequence of images becomes the recording of an event camera.

Each pixel remembers the logarithm of the light at its last event and fires when the light has moved away from it::

    L(t) = ln(dark + I(t));    L(t) - L_seen >= c_on: event p = 1;    L_seen - L(t) >= c_off: event p = 0

(Lichtsteiner, Posch, Delbruck 2008, IEEE J. Solid-State Circuits 43:566). Between two images L is a straight line, so
that an event's time is where the line crosses the threshold. After an event ``L_seen`` moves by the threshold; with a
refractory time the pixel is held in reset for so long, then takes ``L_seen`` from the light there is, so changes in
between are lost. Thresholds differ between pixels (fixed pattern) and background events come at random (v2e: Hu, Liu,
Delbruck 2021, CVPR Workshops, whose values the defaults are, but for the noise). Left out: the finite bandwidth of
the photoreceptor, leak events as a kind of their own, and an arbiter that delays events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments
from snnkit.data.camera_event import CAMERA


@dataclass(frozen=True)
class DVSCamera(NamedArguments):
    """Images ``[F, H, W]`` and their times to events (t in us, x to the right, y down, p = 1 for brighter).

    Args:
        contrast: mean threshold c in units of ln light; 0.2 is a change by 22 %.
        spread: standard deviation of the thresholds between pixels, in the same units; ON and OFF have their own.
        refractory_us: time for which a pixel is held in reset after an event.
        noise_hz: background events a pixel and second, ON and OFF alike.
        dark: light added to the image before the logarithm, in the image's units (0.02: of images whose white is 1).

    Raises:
        ValueError: a number out of its range; in the call, images that are not light ``[F, H, W]`` in floating numbers,
            light that is not above -dark, times that do not fit the images.

    >>> light = np.exp([[[0.0, 0.0]], [[0.5, -0.5]]])  # two images of one row with two pixels
    >>> camera = DVSCamera(contrast=0.2, spread=0.0, refractory_us=0, noise_hz=0.0, dark=0.0)
    >>> camera(light, np.array([0, 1000]), np.random.default_rng(0)).tolist()
    [(400, 0, 0, 1), (400, 1, 0, 0), (800, 0, 0, 1), (800, 1, 0, 0)]
    """

    contrast: float = 0.2
    spread: float = 0.03
    refractory_us: int = 500
    noise_hz: float = 0.1
    dark: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.contrast < float("inf"):
            raise ValueError(f"DVSCamera: contrast must be > 0, got {self.contrast}.")
        if not isinstance(self.refractory_us, int | np.integer):
            raise ValueError(f"DVSCamera: refractory_us is a whole number of us, got {self.refractory_us!r}.")
        for name in ("spread", "refractory_us", "noise_hz", "dark"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"DVSCamera: {name} must be >= 0, got {getattr(self, name)}.")

    def thresholds(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """One sensor: thresholds ``[2, H, W]``, OFF then ON, N(contrast, spread), at least a tenth of the contrast."""
        drawn = rng.normal(self.contrast, self.spread, (2, height, width))
        return np.maximum(drawn, 0.1 * self.contrast)

    def __call__(
        self, images: np.ndarray, times_us: np.ndarray, rng: np.random.Generator, thresholds: np.ndarray | None = None
    ) -> np.ndarray:
        """The events of one recording, sorted by time (int64 us, x and y int16, p int8).

        Args:
            images: light, ``[F, H, W]``, at least 0 (with ``dark=0``: above 0), in linear units, not in gray levels: a
                picture of 0 to 255 is ``(picture / 255) ** 2.2``.
            times_us: when each image is seen in us, ``[F]``, increasing by at least 1.
            rng: draws the noise, and the thresholds where none are given.
            thresholds: those of a sensor that is used more than once, see ``thresholds``.

        Raises:
            ValueError: shapes that do not fit, times that do not increase (by 1 us), light < 0 or not finite, whole
                numbers, which are gray levels.
        """
        images = np.asarray(images)
        if images.ndim != 3:
            raise ValueError(f"DVSCamera takes at least two images [F, H, W], got shape {images.shape}.")
        if not np.issubdtype(images.dtype, np.floating):
            remedy = "Gray levels of 0..255 become light by (levels / 255) ** 2.2."
            raise ValueError(f"DVSCamera takes light as floating numbers, got {images.dtype}. {remedy}")
        light = images + np.float64(self.dark)
        if not (np.isfinite(light) & (light > 0)).all():
            raise ValueError(f"DVSCamera: light must be finite and above -dark = {-self.dark}, got {images.min()}.")
        return self.of_log(np.log(light), times_us, rng, thresholds)

    def of_log(
        self,
        log: np.ndarray,
        times_us: np.ndarray,
        rng: np.random.Generator,
        thresholds: np.ndarray | None = None,
        seen: np.ndarray | None = None,
    ) -> np.ndarray:
        """The same from L, the logarithm of the light, ``dark`` in it: where it is at hand, or was made to measure.

        Args:
            log: ``[F, H, W]``.
            times_us, rng, thresholds: as of a call.
            seen: L at each pixel's last event before the first image, ``[H, W]``, less than a threshold from that.
                Default: L of the first image.

        Raises:
            ValueError: as of a call; L that is not finite; ``seen`` of another shape or a threshold away.
        """
        log, times = np.asarray(log, np.float64), np.asarray(times_us, np.float64)
        _refuse_times(log, times)
        if not np.isfinite(log).all():
            raise ValueError("DVSCamera: log light must be finite, got inf or nan. Give the camera a dark > 0.")
        _, height, width = log.shape
        if thresholds is None:
            thresholds = self.thresholds(height, width, rng)
        if thresholds.shape != (2, height, width):
            raise ValueError(f"thresholds must be {(2, height, width)}, got {thresholds.shape}.")
        off, on = thresholds.reshape(2, -1)
        seen = log[0] if seen is None else np.asarray(seen, np.float64)
        if seen.shape != (height, width):
            raise ValueError(f"seen must be {(height, width)}, got {seen.shape}.")
        change = (log[0] - seen).ravel()
        if not ((change < on) & (-change < off)).all():
            raise ValueError("seen must be less than a threshold from the first image: there are no events before it.")
        t, pixel, p = _crossings(log.reshape(len(log), -1), times, off, on, self.refractory_us, seen.ravel())
        t, pixel, p = self._with_noise(t, pixel, p, times, height * width, rng)
        order = np.lexsort((pixel, t))
        events = np.empty(len(t), CAMERA)
        events["t"], events["p"] = t[order], p[order]
        events["y"], events["x"] = np.divmod(pixel[order], width)
        return events

    def _with_noise(
        self, t: np.ndarray, pixel: np.ndarray, p: np.ndarray, times: np.ndarray, pixels: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The events and background events: Poisson in number, uniform in time, none within a refractory time."""
        if not self.noise_hz:
            return t, pixel, p
        count = int(rng.poisson(self.noise_hz * pixels * (times[-1] - times[0]) * 1e-6))
        drawn = np.floor(rng.uniform(times[0], times[-1], count)).astype(np.int64)
        t = np.concatenate([t, drawn])
        pixel = np.concatenate([pixel, rng.integers(0, pixels, count)])
        p = np.concatenate([p, rng.integers(0, 2, count, dtype=np.int8)])
        order = np.lexsort((t, pixel))
        # Signals keep the refractory time among themselves. Noise stays only where both neighbours are far enough.
        near = (np.diff(t[order]) < self.refractory_us) & (np.diff(pixel[order]) == 0)
        crowded = np.zeros(len(t), bool)
        crowded[order[1:]] |= near
        crowded[order[:-1]] |= near
        crowded[: len(t) - count] = False
        return t[~crowded], pixel[~crowded], p[~crowded]


def _refuse_times(log: np.ndarray, times: np.ndarray) -> None:
    """Raise ValueError unless there are two images or more, at times that increase."""
    if log.ndim != 3 or len(log) < 2:
        raise ValueError(f"DVSCamera takes at least two images [F, H, W], got shape {log.shape}.")
    if times.shape != (len(log),):
        raise ValueError(f"DVSCamera: one time an image, {len(log)}, got shape {times.shape}.")
    steps = np.diff(times)
    if not (steps > 0).all():
        raise ValueError("DVSCamera: the times of the images must increase.")
    if steps.min() < 1:  # times of events are whole us: seconds would all fall on one
        raise ValueError(
            f"DVSCamera: images must be at least 1 us apart, got {steps.min():g} us. Times in seconds? Give 1e6 t."
        )


def _crossings(
    log: np.ndarray, times: np.ndarray, off: np.ndarray, on: np.ndarray, refractory: int, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events (t, pixel, p) without noise from log light ``[F, pixels]``; the loops are over images and repeats."""
    seen, ready = seen.copy(), np.full(log.shape[1], times[0])
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for k, (begin, end) in enumerate(zip(times, times[1:], strict=False)):
        before, after = log[k], log[k + 1]
        if refractory:  # pixels whose reset ends in this interval take the light at its end
            waking = np.flatnonzero((ready > begin) & (ready <= end))
            seen[waking] = before[waking] + _share(ready[waking], begin, end) * (after - before)[waking]
        change = after - seen
        (pixel,) = np.nonzero(((change >= on) | (-change >= off)) & (ready <= end))
        while len(pixel):
            up = after[pixel] - seen[pixel] >= on[pixel]
            aim = seen[pixel] + np.where(up, on[pixel], -off[pixel])
            share = (aim - before[pixel]) / (after[pixel] - before[pixel])
            t = np.clip(begin + share * (end - begin), np.maximum(begin, ready[pixel]), end)  # against rounding only
            found.append((np.floor(t).astype(np.int64), pixel, up.astype(np.int8)))
            if refractory:
                ready[pixel] = t + refractory
                pixel = pixel[ready[pixel] <= end]
                seen[pixel] = before[pixel] + _share(ready[pixel], begin, end) * (after[pixel] - before[pixel])
            else:
                seen[pixel] = aim
            change = after[pixel] - seen[pixel]
            pixel = pixel[(change >= on[pixel]) | (-change >= off[pixel])]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int8)
    t, pixel, p = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return t, pixel, p


def _share(t: np.ndarray, begin: float, end: float) -> np.ndarray:
    """How far t lies between begin (0) and end (1)."""
    return (t - begin) / (end - begin)
