"""The embedded event set: scikit-learn's 1,797 handwritten digits, moved in three saccades before a DVS camera.

Nothing is downloaded. Made as N-MNIST was (Orchard, Jayawant, Cohen, Thakor 2015, Frontiers in Neuroscience 9:437):
a picture at rest gives no events, so it moves along a triangle in three legs of 100 ms. Here the legs are simulated:
each digit is drawn bilinearly at 10 offsets a leg, and ``DVSCamera`` turns the light into events. All digits see
one sensor with the same thresholds. These are no recordings: never report an accuracy on them as one on N-MNIST.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from snnkit.data.compose import Transform
from snnkit.data.dataset import Dataset
from snnkit.data.digits import digit_indices
from snnkit.data.dvs_camera import DVSCamera
from snnkit.data.seed import generator

SIDE = 32  # pixels of the sensor: a power of two, so that models may halve it
LEG_US, LEGS, IMAGES = 100_000, 3, 10
# Corners of the triangle, (x, y) in sensor pixels: down to the middle, up to the right, back to the left.
CORNERS = np.array([(-2.0, -2.0), (0.0, 2.0), (2.0, -2.0), (-2.0, -2.0)])
# Some 900 events a recording: a step from black to white is ln 3, close to three thresholds.
CAMERA_OF_DIGITS = DVSCamera(contrast=0.4, spread=0.05, refractory_us=500, noise_hz=0.3, dark=0.5)
_ZOOM = 3  # a digit's pixel in sensor pixels: the digit is 24 pixels wide and never leaves the sensor
_TOGETHER = 128  # digits that one call of the camera sees, side by side


class MovingDigits(Dataset):
    """``dataset[i] -> (events, label)``: t in us from 0 to 300,000, x, y in 0..31, p; give a transform for frames.

    Args:
        split: "train", "valid" (held out of the training part) or "test"; the same samples as ``Digits`` has there.
        transform: from events to what is wanted; may be random.
        seed: of the random transform. Neither the split nor the events depend on it.
        validation: share of the 1,437 non-test samples that are held out for validation, stratified.
        camera: the pixel model; its draws are a function of nothing but the camera.

    Attributes:
        sensor: ``(2, 32, 32)``, polarities, height and width.
        flip_keeps_class: False, a mirrored digit is another one or none.

    The first set of a process makes all 1,797 recordings (2 s, 35 MB), later ones share them. Frames are kept by
    ``InMemory`` or ``DiskCache``.
    """

    sensor = (2, SIDE, SIDE)
    flip_keeps_class = False

    def __init__(
        self,
        split: str,
        transform: Transform | None = None,
        seed: int = 0,
        validation: float = 0.1,
        camera: DVSCamera = CAMERA_OF_DIGITS,
    ) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.split, self.camera = split, camera
        self.indices = digit_indices(digits.target, split, validation)
        super().__init__(digits.target[self.indices], [str(name) for name in digits.target_names], transform, seed)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """A copy of one recording."""
        return _recordings(self.camera)[self.indices[index]].copy()

    def content(self) -> str:
        """SHA-256 of the events."""
        recordings = _recordings(self.camera)
        digest = hashlib.sha256()
        for index in self.indices:
            # By field: the bytes between the fields of an aligned record are anything.
            digest.update(b"|" + b"".join(recordings[index][name].tobytes() for name in "txyp"))
        return digest.hexdigest()


def offsets() -> np.ndarray:
    """Where a digit's centre is at each image, ``[31, 2]`` (x, y), in sensor pixels from the sensor's centre."""
    along = np.arange(LEGS * IMAGES + 1) / IMAGES
    return np.stack([np.interp(along, np.arange(LEGS + 1), corner) for corner in CORNERS.T], axis=1)


def moving_images(pictures: np.ndarray) -> np.ndarray:
    """Light ``[31, N, 32, 32]`` in 0..1 of pictures ``[N, h, w]``, drawn bilinearly at each offset on black ground."""
    _, height, width = pictures.shape
    return np.stack(
        [_bilinear(height, y) @ pictures @ _bilinear(width, x).T for x, y in offsets()]  # [SIDE, h] [N, h, w] [w, SIDE]
    )


def _bilinear(pixels: int, offset: float) -> np.ndarray:
    """Weights ``[SIDE, pixels]``: sensor pixel i is a mean of the two picture pixels about (i - offset) / zoom."""
    place = (np.arange(SIDE) - offset - (SIDE - 1) / 2) / _ZOOM + (pixels - 1) / 2
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(pixels)))


def recorded(pictures: np.ndarray, camera: DVSCamera = CAMERA_OF_DIGITS) -> list[np.ndarray]:
    """Events of pictures ``[N, h, w]`` (light in 0..1), each moved in three saccades before one sensor."""
    sensor = camera.thresholds(SIDE, SIDE, generator(0, 0, 0))
    times = np.arange(LEGS * IMAGES + 1) * (LEG_US // IMAGES)
    recordings: list[np.ndarray] = []
    for start in range(0, len(pictures), _TOGETHER):
        images = moving_images(pictures[start : start + _TOGETHER])
        count = images.shape[1]
        wall = images.reshape(len(images), count * SIDE, SIDE)  # the camera sees them one above the other
        events = camera(wall, times, generator(0, 1, start), np.tile(sensor, (1, count, 1)))
        which, events["y"] = np.divmod(events["y"], SIDE)
        order = np.argsort(which, kind="stable")  # events of one digit keep the order of time
        recordings += np.split(events[order], np.searchsorted(which[order], np.arange(1, count)))
    return recordings


@functools.lru_cache(maxsize=1)
def _recordings(camera: DVSCamera) -> list[np.ndarray]:
    """Events of all 1,797 digits."""
    from sklearn.datasets import load_digits

    return recorded(load_digits().images / 16, camera)
