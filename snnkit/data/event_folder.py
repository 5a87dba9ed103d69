"""A data set of event files, a folder (or archive) a class; the public sets are this with their names filled in.

A sample is the camera events of one recording, after a transform such as ``FramesByNumber``. What is on the disk is
listed once, ordered by class and number, split by a named rule, and compared with what the public set should hold.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from snnkit.data import aedat2, aedat3, aedat4, atis_bin, camera_event, event_arrays
from snnkit.data.aedat4 import aedat4_decoder
from snnkit.data.camera_event import Outside, refuse_outside
from snnkit.data.checksum import checksum
from snnkit.data.compose import Transform
from snnkit.data.dataset import Dataset
from snnkit.data.event_file import SUFFIXES, events_from_bytes
from snnkit.data.event_store import NO_CLASSES, EventStore
from snnkit.data.identity import identity
from snnkit.data.recording import Recording, natural, recordings
from snnkit.data.split_rule import TEST, TRAIN, UNUSED, SplitRule, split_rule

_PARTS = {"train": TRAIN, "test": TEST}


class EventFolder(Dataset):
    """One part of an event set: ``dataset[i] -> (events or transform(events), label)``.

    Args:
        root: the folder with a folder or archive a class (or ``train`` and ``test`` with these inside), or an archive
            of such. SpikingJelly's tree with ``events_np`` is read as it is.
        split: "train" or "test"; a validation part comes out of the first, with ``split_stratified`` and ``Part``.
        rule: how the two are told apart, a name of ``split_rule.py``: ``sj-9-1``, ``tebn``, ``ids:0-99/100-119``,
            ``random-0``, ``given``. Default: ``given`` where folders or archives are called train or test, else
            ``random-0``.
        size: the sensor's (H, W).
        transform, seed: as of each data set.
        outside: what becomes of events outside the sensor: ``refuse_outside``, ``clip_outside`` or ``drop_outside``.
        skip_bad: read each recording once now, leave out those that cannot be read or hold no events, and name them in
            ``skipped`` and in a warning. Otherwise a bad one is an error when it is read.
        unit_us: microseconds per unit of the times in numpy files.

    Attributes:
        sensor: (2, H, W), what the transforms to frames want.
        recordings: what the samples are, in order.
        counts: recordings by part, ``{"train": .., "test": .., "unused": ..}``.
        skipped: message by name of each recording left out.
        flip_keeps_class: whether a recording flipped from left to right is one of the same class.

    Raises:
        FileNotFoundError: no such folder, or no event files in it; the message says what the set consists of. A
            folder beside those of the classes holds none.
        ValueError: other classes than the set's, a class without a recording in one part, a damaged archive.
    """

    title = "a folder of event files"
    hint = "Give a folder that holds a folder, or a .zip or .tar archive, of event files for each class."
    folders: tuple[str, ...] = ("events_np",)
    file = "event file"  # what a sample's file is called
    suffixes: tuple[str, ...] = SUFFIXES
    makers: tuple[ModuleType, ...] = (aedat2, aedat3, aedat4, atis_bin, camera_event, event_arrays)
    known_classes: tuple[str, ...] = ()
    some_classes_do = False  # whether known classes may be missing
    flip_keeps_class = False  # unknown; true of CIFAR10-DVS and N-Caltech101
    expected: dict[str, tuple[int, ...]] = {}  # recordings by source: train and test where they are given, else all

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        rule: str | SplitRule | None = None,
        size: tuple[int, int] = (128, 128),
        transform: Transform | None = None,
        seed: int = 0,
        outside: Outside = refuse_outside,
        skip_bad: bool = False,
        unit_us: float | None = None,
    ) -> None:
        if split not in _PARTS:
            raise ValueError(f"split must be 'train' or 'test', got {split!r}; hold a validation part out of 'train'.")
        wanted = None if rule is None else split_rule(rule)
        if np.shape(size) != (2,) or any(np.asarray(side).dtype.kind not in "iu" or side < 1 for side in size):
            raise ValueError(f"size must be the sensor's (H, W) in pixels, got {size!r}.")
        self.root, self.split = Path(root).expanduser(), split
        self.size, self.sensor = tuple(size), (2, *size)
        self.outside, self.unit_us, self.skipped = outside, unit_us, dict[str, str]()
        self.store = self._opened()
        found = self._listed()
        if not found:
            kinds = f"Files that are read: {', '.join(self.suffixes)}."
            raise FileNotFoundError(f"No recordings of {self.title} in {self.root.absolute()}. {self.hint} {kinds}")
        classes = self._checked_classes(found)
        self.rule = wanted or split_rule("given" if any(each.given for each in found) else "random-0")
        parts = self.rule(found)
        self._refuse_empty_parts(found, parts)
        self.counts = {name: int((parts == code).sum()) for name, code in (*_PARTS.items(), ("unused", UNUSED))}
        self.recordings = [each for each, part in zip(found, parts, strict=True) if part == _PARTS[split]]
        if any(each.entry.path.suffix.lower() == ".aedat4" for each in self.recordings):
            aedat4_decoder()  # its absence is told now, not at the first sample
        if skip_bad:
            self._leave_out_bad()
        number = {name: index for index, name in enumerate(classes)}
        persons = [each.person for each in self.recordings]
        labels = np.array([number[each.label] for each in self.recordings], np.int64)
        super().__init__(labels, classes, transform, seed, None if None in persons else np.array(persons, np.int64))

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """Camera events of one recording.

        Raises:
            ValueError: it cannot be read, lies outside the sensor, or holds no events; the file is named.
        """
        recording, remedy = self.recordings[index], " skip_bad=True leaves such recordings out."
        try:
            found = self._events(recording)
        except ValueError as error:
            if "unit_us" in str(error):  # the remedy is there, and all recordings need it
                raise
            raise ValueError(f"{error}{remedy}") from error
        events = self.outside(found, (self.size[0], self.size[1]), recording.shown)
        if not len(events):
            raise ValueError(f"{recording.shown} holds no events.{remedy}")
        return events

    def content(self) -> str:
        """SHA-256 of the recordings' names, sizes and CRCs (times of change, where they lie loose), and the readers."""
        digest = hashlib.sha256()
        for each in self.recordings:
            digest.update(f"{each.name} {each.entry.size} {each.entry.stamp} {each.start_us} {each.end_us}\n".encode())
        for module in self.makers:  # a reader that changed makes other events
            digest.update(inspect.getsource(module).encode())
        digest.update(f"{self.size} {self.unit_us} {identity(self.outside)} {self.classes}".encode())
        return digest.hexdigest()

    def summary(self) -> str:
        """Counts in one line, beside those that the public set should have."""
        train, test, unused = self.counts["train"], self.counts["test"], self.counts["unused"]
        text = f"{self.title}, split {self.rule.name}: {train} train, {test} test"
        text += f", {unused} in neither" if unused else ""
        text += f", {len(self.skipped)} left out of {self.split}" if self.skipped else ""
        if self.expected:
            there = {1: (train + test + unused,), 2: (train, test)}
            same = [source for source, counts in self.expected.items() if there[len(counts)] == counts]
            whole = " or ".join(f"{' + '.join(map(str, n))} {source}" for source, n in self.expected.items())
            text += f" (as expected: {same[0]})" if same else f". Not the whole public set, which has {whole}"
        return text + "."

    def record(self) -> dict[str, Any]:
        """Where the samples come from, for a result file, see :func:`snnkit.data.provenance`.

        ``sha256`` is of the part's recordings, byte by byte: the first call reads them all, see ``checksum.py``.
        """
        return {
            "reader": type(self).__name__,
            "title": self.title,
            "split": self.split,
            "rule": self.rule.name,
            "counts": dict(self.counts),
            "expected": {source: list(counts) for source, counts in self.expected.items()},
            "sensor": list(self.sensor),
            "outside": self.outside.__name__,
            "unit_us": self.unit_us,
            "skipped": dict(self.skipped),
            "sha256": checksum(self.store, self.recordings),
        }

    def _opened(self) -> EventStore:
        inner = next((self.root / name for name in self.folders if (self.root / name).is_dir()), self.root)
        try:
            return EventStore(inner, self.suffixes)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error} {self.hint}") from error

    def _listed(self) -> list[Recording]:
        return recordings(self.store.entries, self.suffixes)

    def _events(self, recording: Recording) -> np.ndarray:
        return events_from_bytes(self.store.read(recording.entry), recording.entry.shown, self.unit_us)

    def _try(self, index: int) -> None:
        self.stored(index)

    def _checked_classes(self, found: Sequence[Recording]) -> list[str]:
        there = sorted({each.label for each in found}, key=natural)
        if not self.known_classes:
            if len(there) < 2:
                raise ValueError(f"{self.root} holds the class {there[0]} alone; a set has a folder for each class.")
            self._refuse_empty_folders(found)
            self._refuse_nested_folders(found)
            return there
        foreign = [name for name in there if name not in self.known_classes]
        missing = [name for name in self.known_classes if name not in there]
        if foreign:
            raise ValueError(
                f"{self.root} is not {self.title}: it holds the classes {', '.join(foreign[:4])}"
                f"{', ...' if len(foreign) > 4 else ''}, expected {', '.join(self.known_classes[:4])}, ..."
            )
        if missing and not (self.some_classes_do and len(there) > 1):
            raise ValueError(f"{self.root} lacks classes of {self.title}: {', '.join(missing)}. {self.hint}")
        return [name for name in self.known_classes if name in there]

    def _refuse_empty_folders(self, found: Sequence[Recording]) -> None:
        """A folder beside those of the classes that holds no recording is a class that would be lost without a word."""
        filled = {folder for each in found for folder in each.entry.file.parents}
        loose = {each.entry.file for each in found if each.entry.file.suffix.lower() in self.suffixes}
        for above in sorted({file.parent.parent for file in loose}):
            for folder in sorted(above.iterdir()):
                if folder.is_dir() and folder not in filled and not folder.name.startswith((*NO_CLASSES, "_")):
                    raise FileNotFoundError(
                        f"{folder.absolute()} holds no {self.file} ({', '.join(self.suffixes)}), the folders beside it "
                        "are classes. Put recordings there, or remove it."
                    )

    def _refuse_nested_folders(self, found: Sequence[Recording]) -> None:
        """Folders of recordings in different folders: which of them are the classes cannot be told."""
        first: dict[tuple[str, Path], Recording] = {}
        for each in found:
            folder = each.entry.path.parent
            inside = each.entry.file if each.entry.file.suffix.lower() not in self.suffixes else self.root
            seen = first.setdefault((each.given, inside), each).entry.path.parent
            if folder.name and seen.name and folder.parent != seen.parent:
                raise ValueError(
                    f"{self.root}: {seen} and {folder} hold recordings and do not lie side by side, so it is unknown "
                    "which folders are the classes. Put the recordings of a class into one folder beside the others."
                )

    def _refuse_empty_parts(self, found: Sequence[Recording], parts: np.ndarray) -> None:
        """A rule that leaves a class out of one part is a mistake; a given split is as it was given."""
        for code, name in ((TRAIN, "training"), (TEST, "test")):
            filled = {each.label for each, part in zip(found, parts, strict=True) if part == code}
            empty = [each.label for each in found if each.label not in filled]
            if empty and (self.rule.name != "given" or not filled):
                n = sum(each.label == empty[0] for each in found)
                raise ValueError(
                    f"Split {self.rule.name} of {self.root} leaves class {empty[0]} without a {name} recording; "
                    f"the class has {n}. Add recordings or name another rule."
                )

    def _leave_out_bad(self) -> None:
        kept = []
        for index, recording in enumerate(self.recordings):
            try:
                self._try(index)
                kept.append(recording)
            except (ValueError, OSError) as error:
                self.skipped[recording.name] = str(error).partition(" skip_bad=True")[0]
        first = next(iter(self.skipped.values()), "")
        if not kept:
            raise ValueError(f"None of the {len(self.recordings)} recordings can be read, first: {first}")
        if self.skipped:
            warnings.warn(
                f"{len(self.skipped)} of {len(self.recordings)} recordings of {self.title} left out, first: {first}",
                stacklevel=3,
            )
        self.recordings = kept

    def __repr__(self) -> str:
        named = f"{self.split}, {self.rule.name}: {len(self)} recordings, {len(self.classes)} classes"
        return f"{type(self).__name__}({self.root}, {named})"
