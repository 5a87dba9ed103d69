"""Recordings of event cameras as clips ``[T, C, H, W]``: which set, at which size, cut into which frames."""

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _camera import camera
from _parts import refuse_empty, refuse_lost_classes

from snnkit import data
from snnkit.data import Compose, Dataset

READERS: dict[str, Any] = {
    "cifar10dvs": data.CIFAR10DVS, "dvs128": data.DVSGesture, "nmnist": data.NMNIST, "ncaltech101": data.NCaltech101,
    "folder": data.EventFolder,
}  # fmt: skip
SETS: dict[str, Any] = {"moving_digits": data.MovingDigits, **READERS, "pictures": data.MovingPictures}
OUTSIDE = {"refuse": data.refuse_outside, "clip": data.clip_outside, "drop": data.drop_outside}
FLAGS = {
    "outside=drop_outside or clip_outside": "--outside drop or clip",
    "skip_bad=True": "--skip-bad",
    "unit_us": "--unit-us",
    "camera.dark must": "--camera dark must",
    "size must be the sensor's (H, W)": "--sensor must be H and W",
}
CORES = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)
LOOKED_AT = 100  # recordings whose events are looked at for the notes: the cache keeps frames alone
FRAMINGS = ("number", "time", "window", "surface", "voxel")
EVENT_AUGMENTS = ("event_drop", "event_rpg")  # on events, before they become frames
AUGMENTS = ("none", "spikformer", "spike_driven", *EVENT_AUGMENTS)


@dataclass(frozen=True)
class ToSize:
    """Move events to a grid of ``size`` x ``size``: ``x' = floor(x size / W)``, y likewise; none is lost.

    Args:
        sensor: (P, H, W).
        size: pixels of the new grid.
    """

    sensor: tuple[int, int, int]
    size: int

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """A copy of the events with other x and y."""
        moved = events.copy()
        for name, side in zip(("y", "x"), self.sensor[1:], strict=True):
            moved[name] = events[name].astype(np.int64) * self.size // side
        return moved


def frames(settings: Any, sensor: tuple[int, int, int]) -> Compose:
    """The fixed transform from events to frames that ``--framing`` names."""
    s = settings
    small = (2, s.size, s.size)
    window_us = round(1000 * s.window_ms)
    framing = {
        "number": lambda: data.FramesByNumber(small, s.steps),
        "time": lambda: data.FramesByTime(small, s.steps),
        "window": lambda: data.Bin(small, window_us, steps=s.steps, drop_late=True),
        "surface": lambda: data.TimeSurface(small, s.steps, window_us, 1000 * s.surface_ms),
        "voxel": lambda: data.VoxelGrid(small[1:], s.steps),
    }[s.framing]()
    return Compose(framing) if sensor == small else Compose(ToSize(sensor, s.size), framing)


def augmentation(settings: Any) -> Any:
    """The random transform of ``--augment``, on clips or on events; None for none."""
    s = settings
    flip = SETS[s.dataset].flip_keeps_class if s.flip is None else s.flip
    small = (2, s.size, s.size)
    return {
        "none": lambda: None,
        "spikformer": lambda: data.spikformer_recipe(flip, s.shift),
        "spike_driven": lambda: data.spike_driven_recipe(flip, s.shift),
        "event_drop": lambda: data.event_drop(small),
        "event_rpg": lambda: data.event_rpg(small, flip),
    }[s.augment]()


def event_parts(settings: Any) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test part; what is framed once lies in a cache on disk, counts as uint8."""
    s = settings
    drawn = augmentation(s)
    on_events = s.augment in EVENT_AUGMENTS
    if s.dataset == "moving_digits":
        readers = [data.MovingDigits(part, validation=s.validation) for part in ("train", "valid", "test")]
    else:
        readers = [_reader(s, part) for part in ("train", "test")]
    framed = frames(s, readers[0].sensor)
    for reader in readers:
        reader.transform = framed
    keep = data.InMemory if s.dataset == "moving_digits" else partial(data.DiskCache, workers=CORES)
    whole, *others = [keep(reader) for reader in readers]
    chosen = range(len(whole))
    if len(others) == 1:
        chosen, held_out = data.split_stratified(whole.labels, round(s.validation * len(whole)), seed=1234)
        others.insert(0, data.Part(whole, held_out))
    refuse_empty((data.Part(whole, chosen), *others), s)
    if on_events:
        reader = data.MovingDigits("train", validation=s.validation) if not s.root else _reader(s, "train")
        *to_size, framing = framed.transforms
        reader.transform = Compose(*to_size)
        whole = data.InMemory(reader) if s.events_in_memory else reader
        drawn = Compose(drawn, framing)
    return data.Part(whole, chosen, drawn, s.seed), others[0], others[1]


def summaries(*parts: Dataset) -> list[str]:
    """What the readers of these parts say of the recordings: split, counts, how many are left out; each line once."""
    lines = {}
    for reader in map(_innermost, parts):
        if hasattr(reader, "summary"):
            lines[reader.summary()] = True
    return list(lines)


def uneven(settings: Any, part: Dataset) -> list[str]:
    """A line, if ``--size`` does not divide the sensor (maps then show stripes), or is larger (maps then have gaps)."""
    sides, size = _innermost(part).sensor[1:], settings.size
    if any(size > side for side in sides):
        gaps = [f"{size - side} {name}" for side, name in zip(sides, ("rows", "columns"), strict=True) if size > side]
        return [
            f"note: --size {size} is more than the sensor's {sides[0]} x {sides[1]} pixels have: {' and '.join(gaps)} "
            f"stay empty. --size {min(sides)} has no gaps."
        ]
    if not any(size < side and side % size for side in sides):
        return []
    common = math.gcd(*sides)
    best = min((d for d in range(1, common + 1) if common % d == 0), key=lambda d: abs(d - size))
    remedy = f" --size {best} {'keeps' if {best} == set(sides) else 'divides'} them." if 2 * best >= size else ""
    return [
        f"note: the sensor's {sides[0]} x {sides[1]} pixels don't divide into {size} x {size}: some rows and columns "
        f"gather one pixel more than others.{remedy}"
    ]


def left_out(settings: Any, part: Dataset) -> list[str]:
    """What share of the events comes after the last frame, in up to ``LOOKED_AT`` recordings; nothing if all fit."""
    if settings.framing != "window":  # the other framings take all events
        return []
    end_us = settings.steps * round(1000 * settings.window_ms)
    times = [events["t"] for events in _some_events(part)]
    seen = f"(seen in {len(times)} training recordings)"
    unit = " If times are in another unit: --unit-us." if settings.dataset == "folder" else ""
    longest = max((int(t[-1] - t[0]) for t in times if len(t)), default=0)
    if settings.steps > 1 and longest < 1000 * settings.window_ms:
        return [
            f"note: recordings last up to {longest / 1000:g} ms {seen}, so that all events lie in the first of "
            f"{settings.steps} frames of {settings.window_ms:g} ms. A shorter --window-ms spreads them.{unit}"
        ]
    late = sum(int((t > t[0] + end_us).sum()) for t in times) / sum(map(len, times))
    if not late:
        return []
    return [
        f"{settings.steps} frames of {settings.window_ms:g} ms leave out {100 * late:.3g} % of the events, which come "
        f"later {seen}. A longer --window-ms or more --steps take them in.{unit if late > 0.5 else ''}"
    ]


def too_large(settings: Any, part: Dataset) -> list[str]:
    """A line, if the recordings of a folder stay in a corner of what is taken for their sensor; else nothing."""
    if settings.dataset != "folder":
        return []
    (height, width), seen = settings.sensor, _some_events(part)
    x, y = (max(int(events[name].max(initial=0)) for events in seen) for name in "xy")
    if 2 * (x + 1) > width and 2 * (y + 1) > height:
        return []
    return [
        f"note: no event lies beyond x = {x}, y = {y} of a sensor of {height} x {width} pixels, in up to {LOOKED_AT} "
        "training recordings. If the camera has fewer pixels, --sensor HEIGHT WIDTH says so."
    ]


def _some_events(part: Dataset) -> list[np.ndarray]:
    """The events of up to ``LOOKED_AT`` recordings."""
    reader = _innermost(part)
    chosen = np.linspace(0, len(reader) - 1, min(LOOKED_AT, len(reader))).astype(int)
    return [reader.stored(int(index)) for index in chosen]


def _innermost(part: Dataset) -> Any:
    while isinstance(inner := getattr(part, "dataset", None), Dataset):
        part = inner
    return part


def in_flags(problem: Exception) -> str:
    """A message whose remedies are a reader's arguments, with the options of the script in their place."""
    text = str(problem)
    for argument, flag in FLAGS.items():
        text = text.replace(argument, flag)
    return text


def _reader(settings: Any, part: str) -> Dataset:
    s = settings
    if not s.root:
        raise ValueError(f"--dataset {s.dataset} needs --root, the folder of the recordings or pictures.")
    options: dict[str, Any] = {"skip_bad": s.skip_bad}
    if s.split:
        options["rule"] = s.split
    if s.dataset in ("folder", "pictures"):
        if len(s.sensor) != 2:
            raise ValueError(f"--sensor takes height and width, got {len(s.sensor)} numbers.")
        options["size"] = s.sensor
    if s.dataset == "folder":
        options["unit_us"] = s.unit_us
    if s.dataset == "pictures":
        path = data.Diamond(border=s.border)
        options |= {"camera": camera(s.camera), "log_std": s.log_std or None, "path": path}
    else:
        options["outside"] = OUTSIDE[s.outside]
    reader = SETS[s.dataset](Path(s.root), part, **options)
    refuse_lost_classes(reader)
    return reader
