"""Recordings: the files of an event set with their class and number, in an order that no file system changes.

The class is the folder that a file lies in (or the archive, where that has no folders), the number the last digits of
its name (``cifar10_airplane_12.aedat``: 12), and a folder above called train or test says which part it is given for;
one called val is the test part where there is no other, as in ImageNet, and unused where there is.
The order is by class, number, name: names are not padded with zeros, so that as text 10 comes before 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from snnkit.data.event_file import SUFFIXES
from snnkit.data.event_store import Entry

_PARTS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")


@dataclass(frozen=True)
class Recording:
    """One sample: its file, class, number, the part it is given for ("train", "test", "val", ""), a range of time."""

    entry: Entry
    label: str
    number: int | None
    given: str = ""
    start_us: int | None = None
    end_us: int | None = None
    person: int | None = None

    @property
    def name(self) -> str:
        """Class, folder (where that is not the class), file; for a clip class, file, start. Once in each part."""
        if self.start_us is not None:
            return f"{self.label}/{self.entry.path.name}@{self.start_us}"
        folder = self.entry.path.parent.name  # tonic's user01_led/0.npy: other people's files are called 0.npy, too
        return "/".join([self.label, *([folder] if folder not in ("", self.label) else []), self.entry.path.name])

    @property
    def shown(self) -> str:
        """What to call it in a message."""
        clip = "" if self.start_us is None else f", clip from {self.start_us} us"
        return f"{self.entry.shown}{clip}"


def recordings(entries: Iterable[Entry], suffixes: tuple[str, ...] = SUFFIXES) -> list[Recording]:
    """The files with these suffixes among the entries that lie in a class folder or class archive, in order."""
    found = []
    for entry in entries:
        path = entry.path
        boxes = suffixes == SUFFIXES and path.name.startswith("annotation")  # N-Caltech101's
        if path.suffix.lower() not in suffixes or boxes:
            continue
        in_archive = entry.file.suffix.lower() in _ARCHIVES
        label = path.parent.name or (entry.file.stem if in_archive else "")
        if not label:
            continue
        above = [part.lower() for part in path.parts[:-2]] + ([entry.file.stem.lower()] if in_archive else [])
        given = next((_PARTS[part] for part in reversed(above) if part in _PARTS), "")
        found.append(Recording(entry, label, number_in(path.stem), given))
    there = {each.given for each in found}
    if "test" not in there:  # val beside train is tested; alone it says nothing
        as_given = "test" if "train" in there else ""
        found = [replace(each, given=as_given) if each.given == "val" else each for each in found]
    return ordered(found)


def ordered(found: Iterable[Recording], classes: Sequence[str] = ()) -> list[Recording]:
    """Sorted by class (in the order given, else by name), number, name, start, with numbers in names as numbers.

    Raises:
        ValueError: one recording is there twice, also if in two formats.
    """
    place = {label: i for i, label in enumerate(classes)}
    in_order = sorted(found, key=lambda each: (place.get(each.label, 0), *_order(each)))
    for one, other in zip(in_order, in_order[1:], strict=False):
        if (one.name, one.given) == (other.name, other.given):
            raise ValueError(f"One recording is there twice: {one.entry.shown} and {other.entry.shown}. Remove one.")
    first: dict[str, Recording] = {}
    for each in in_order:
        path = each.entry.path
        bare = "/".join([each.given, each.name.replace(path.name, path.stem)])
        other = first.setdefault(bare, each)
        if path.suffix != other.entry.path.suffix and path.suffix.lower() in SUFFIXES:  # 1.jpg and 1.png may be two
            raise ValueError(
                f"One recording is there as {other.entry.path.suffix} and as {path.suffix}: {other.entry.shown} and "
                f"{each.entry.shown}. A split would train on one and test on the other: keep one format."
            )
    return in_order


def number_in(stem: str) -> int | None:
    """The last digits of a file's name as a number."""
    digits = re.findall(r"\d+", stem)
    return int(digits[-1]) if digits else None


def natural(name: str) -> list[tuple[int, int, str]]:
    """Key that sorts 2 before 10."""
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _order(recording: Recording) -> tuple[object, ...]:
    number = -1 if recording.number is None else recording.number
    name = natural(recording.entry.path.name)
    start, same = recording.start_us or 0, (recording.given, recording.name)  # equal ones side by side
    return natural(recording.label), number, name, start, *same, recording.entry.name
