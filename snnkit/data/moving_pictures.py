"""Any folder of pictures as an event set: each is moved before a DVS camera when it is asked for, and never stored.

Made as CIFAR10-DVS was (Li, Liu, Ji, Li, Shi 2017, Frontiers in Neuroscience 11:309): a picture at rest gives no
events, so it goes round a diamond, see ``moved_picture.py``, and ``DVSCamera`` turns its light into events. All
pictures see one sensor, and the noise of each is drawn from its file's bytes: events depend neither on split nor on
order. These are no recordings: never report an accuracy on them as one on CIFAR10-DVS.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import os
import sys
from typing import Any

import numpy as np

from snnkit.data import dvs_camera, moved_picture
from snnkit.data.compose import Transform
from snnkit.data.dvs_camera import DVSCamera
from snnkit.data.event_folder import EventFolder
from snnkit.data.identity import identity
from snnkit.data.moved_picture import Diamond
from snnkit.data.recording import Recording
from snnkit.data.seed import generator
from snnkit.data.split_rule import SplitRule

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
# Some 3,500 events a picture of CIFAR-10: a step as large as log_std = 0.25 is half a threshold. These numbers, and
# those of Diamond, are of a simulation of CIFAR10-DVS, and fitted to no recordings.
CAMERA_OF_PICTURES = DVSCamera(contrast=0.46, spread=0.046, refractory_us=0, noise_hz=0.05, dark=0.5)
_LEAST_STD = 1e-3  # a flat picture's noise is not blown up beyond 1 / 1e-3


class MovingPictures(EventFolder):
    """Pictures as events, ``dataset[i] -> (events or transform(events), label)``; t in us from 0.

    With I the luminance in 0..1 of the picture at the size at which it is shown (bicubic), the light is::

        L = ln(dark + I);    log_std given: L <- (L - mean L) log_std / std L

    Args:
        root: the folder (or archive) with ``train/CLASS/*.png`` and ``test/CLASS/*.png``, or with a folder a class.
        split: "train" or "test"; a validation part comes out of the first, with ``split_stratified`` and ``Part``.
        rule: how the two are told apart: ``given``, the folders train and test; or as of ``EventFolder``, ``random-0``,
            ``ids:0-399/400-499`` by the last number of a name (in both folders, if ``root`` holds both).
        size: the sensor's (H, W).
        transform, seed: as of each data set. The events do not depend on the seed.
        camera: the pixel model; its ``dark`` is the one above. Units of contrast: L.
        log_std: standard deviation of L over each picture; None leaves L as it is.
        path: how the picture is shown and moved.
        skip_bad: open each picture once now, leave out those that cannot be read, and name them in ``skipped`` and in
            a warning. Otherwise a bad one is an error when it is read.

    Attributes:
        sensor, recordings, counts, skipped: as of ``EventFolder``.
        flip_keeps_class: True; as with all pictures, letters are an exception.

    Raises:
        FileNotFoundError, ValueError: as of ``EventFolder``; a ``log_std`` or a camera's ``dark`` that is not positive.

    A picture takes some 40 ms each time it is asked for: keep the frames with ``DiskCache``.

    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name, box in (("tall", (12, 4, 20, 28)), ("wide", (4, 12, 28, 20))):
    ...     for part in ("train", "test"):
    ...         picture = Image.new("L", (32, 32), 30)
    ...         picture.paste(220, box)
    ...         (root / part / name).mkdir(parents=True)
    ...         picture.save(root / part / name / "0000.png")
    >>> dataset = MovingPictures(root, "train")
    >>> events, label = dataset[0]
    >>> dataset.classes[label], events.dtype.names, int(events["t"].max()) // 10_000
    ('tall', ('t', 'x', 'y', 'p'), 19)
    """

    title = "a folder of pictures"
    hint = "Give a folder that holds train and test, or a folder or archive of pictures for each class."
    folders = ()
    file, suffixes = "picture", PICTURES
    makers = (dvs_camera, moved_picture, sys.modules[__name__])
    flip_keeps_class = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        rule: str | SplitRule = "given",
        size: tuple[int, int] = (128, 128),
        transform: Transform | None = None,
        seed: int = 0,
        camera: DVSCamera = CAMERA_OF_PICTURES,
        log_std: float | None = 0.25,
        path: Diamond | None = None,
        skip_bad: bool = False,
    ) -> None:
        if log_std is not None and not 0 < log_std < float("inf"):
            raise ValueError(f"log_std must be > 0 and finite, or None, got {log_std}.")
        if len(size) != 2 or min(size) < 2:
            raise ValueError(f"size must be the sensor's (H, W), each at least 2, got {size}.")
        if not camera.dark > 0:
            raise ValueError(f"camera.dark must be > 0, got {camera.dark}: black has no logarithm.")
        if importlib.util.find_spec("PIL") is None:
            raise ImportError("MovingPictures reads pictures with Pillow: pip install pillow.")
        self.camera, self.log_std, self.path = camera, log_std, path or Diamond()
        self.thresholds = camera.thresholds(size[0], size[1], generator(0, 0, 0))  # one sensor for all pictures
        super().__init__(root, split, rule, size, transform, seed, skip_bad=skip_bad)

    def content(self) -> str:
        """SHA-256 of the files' names, sizes and times of change, of all that makes the events, and of its source."""
        import PIL

        made = f"{identity(self.camera)} {self.log_std} {identity(self.path)} Pillow {PIL.__version__}"
        return hashlib.sha256(f"{super().content()} {made}".encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """As of ``EventFolder``, with the camera, the path and the scale of the light."""
        made = {"camera": dataclasses.asdict(self.camera), "path": dataclasses.asdict(self.path)}
        return {**super().record(), **made, "log_std": self.log_std}

    def _events(self, recording: Recording) -> np.ndarray:
        data = self.store.read(recording.entry)
        log = np.log(self.camera.dark + self._luminance(data, recording.entry.shown))
        if self.log_std is not None:
            log = (log - log.mean()) * (self.log_std / max(float(log.std()), _LEAST_STD))
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(data).digest(), np.uint32))
        return moved_events(log, self.camera, self.thresholds, rng, self.path)

    def _luminance(self, data: bytes, name: str) -> np.ndarray:
        """Luminance in 0..1 at the size at which the picture is shown."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data)) as opened:
                if opened.mode.startswith(("I", "F")):
                    raise ValueError(f"it has pixels of mode {opened.mode}, expected 8 bits a color")
                gray = opened.convert("L")
                height, width = self.path.sides((gray.height, gray.width), (self.size[0], self.size[1]))
                shown = gray.resize((width, height), Image.Resampling.BICUBIC)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # PIL raises all for damage
            raise ValueError(f"{name} is no picture, or a broken one: {error}.") from error
        return np.asarray(shown, np.float64) / 255

    def _try(self, index: int) -> None:
        if self.camera.noise_hz == 0:  # a flat picture makes no events then
            self.stored(index)
            return
        entry = self.recordings[index].entry
        self._luminance(self.store.read(entry), entry.shown)


def moved_events(
    log: np.ndarray, camera: DVSCamera, thresholds: np.ndarray, rng: np.random.Generator, path: Diamond
) -> np.ndarray:
    """The events of one picture's log light, moved before a sensor of these thresholds ``[2, H, W]``.

    Where in the first image a pixel has fired last is not known: it is drawn within half a threshold to both sides.
    """
    images = path.images(log, thresholds.shape[1:])
    off, on = thresholds
    before = images[0] + rng.uniform(-0.5, 0.5, on.shape) * (off + on) / 2
    nearest = np.clip(before, images[0] - 0.9 * on, images[0] + 0.9 * off)
    return camera.of_log(images, path.times_us(), rng, thresholds, nearest)
