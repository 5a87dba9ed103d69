"""A picture that moves before a sensor along a closed diamond, as the pictures of CIFAR10-DVS did on their screen.

Four legs of 45 degrees lead from the lower corner over the right, the upper and the left one back (Li, Liu, Ji, Li, Shi
2017, Frontiers in Neuroscience 11:309), and so round by round. The pictures here are logarithms of light: what is
drawn between two pixels of a picture lies on a straight line between their logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkit._suggest import NamedArguments

_CORNERS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 1)], float)
BORDERS = ("mean", "edge")


@dataclass(frozen=True)
class Diamond(NamedArguments):
    """How a picture is shown and moved; every length is a share of the sensor, so that all sensors see the same.

    Args:
        rounds: times round the diamond, 2.
        round_us: time of a round in us, 100,000.
        image_us: time from one image to the next in us, 2,000; it divides ``round_us``.
        shown: the picture's longer side, as a share of the sensor's (the other one keeps its ratio), 7/8.
        reach: half the diamond's diagonal, as a share of the sensor's shorter side, 1/32.
        border: what surrounds the picture. "edge": its outermost pixels go on, so that its frame makes no events of its
            own. "mean": the mean of its logarithms, a plain screen, so that the frame is seen as far as it differs.

    Raises:
        ValueError: a number that is not positive, times that are no whole numbers, another border.
    """

    rounds: int = 2
    round_us: int = 100_000
    image_us: int = 2_000
    shown: float = 7 / 8
    reach: float = 1 / 32
    border: str = "mean"

    def __post_init__(self) -> None:
        for name in ("rounds", "round_us", "image_us"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"Diamond: {name} must be a whole number of at least 1, got {value!r}.")
        if self.round_us % self.image_us or self.round_us == self.image_us:
            raise ValueError(
                f"Diamond: image_us must divide round_us = {self.round_us} into at least 2, got {self.image_us}."
            )
        for name in ("shown", "reach"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"Diamond: {name} must be > 0 and finite, got {getattr(self, name)}.")
        if self.border not in BORDERS:
            raise ValueError(f"Diamond: border must be one of {', '.join(BORDERS)}, got {self.border!r}.")

    def times_us(self) -> np.ndarray:
        """When each image is seen, 0 and the end included, int64 ``[F]``."""
        return np.arange(self.rounds * self.round_us // self.image_us + 1) * self.image_us

    def offsets(self, size: tuple[int, int]) -> np.ndarray:
        """Where the picture's middle is at each image of a round, ``[F, 2]`` (x, y), in pixels from the sensor's."""
        along = np.arange(self.round_us // self.image_us) * 4 * self.image_us / self.round_us
        corners = -_CORNERS * self.reach * min(size)  # the view goes to the right: the picture to the left
        return np.stack([np.interp(along, np.arange(5), corner) for corner in corners.T], axis=1)

    def sides(self, picture: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """Height and width in sensor pixels at which a picture of height and width is shown."""
        zoom = self.shown * min(size[0] / picture[0], size[1] / picture[1])
        return max(1, round(picture[0] * zoom)), max(1, round(picture[1] * zoom))

    def images(self, log: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """What the sensor sees, log light ``[F, *size]``, of a picture's, which has a value for each sensor pixel."""
        framed = np.pad(log, 1, "edge") if self.border == "edge" else np.pad(log, 1, constant_values=log.mean())
        offsets = self.offsets(size)
        once = np.empty((len(offsets), *size))
        for image, (x, y) in zip(once, offsets, strict=True):
            rows = _between(framed, y, size[0])
            image[:] = _between(rows.T, x, size[1]).T
        return np.resize(once, (self.rounds * len(once) + 1, *size))  # round by round, and the first one again


def _between(lines: np.ndarray, offset: float, count: int) -> np.ndarray:
    """``count`` lines, where sensor line i shows the middle lines at i - offset; outside goes on as the last ones."""
    place = np.arange(count) - offset - (count - 1) / 2 + (len(lines) - 1) / 2
    place = np.clip(place, 0, len(lines) - 1)
    low = np.minimum(place.astype(np.int64), len(lines) - 2)
    share = (place - low)[:, None]
    below = lines[low]
    return below + share * (lines[low + 1] - below)
