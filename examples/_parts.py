"""What the parts of a data set must hold before a training begins: samples, and the same classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snnkit import data as snn_data


def refuse_empty(parts: Sequence[snn_data.Dataset], settings: Any) -> None:
    """Raise ValueError if the training, validation or test part holds no sample: its accuracy would be 0 / 0."""
    train, valid, test = map(len, parts)
    if len(parts[0].classes) == 1:
        raise ValueError(f"The data hold the class {parts[0].classes[0]} alone, expected at least two.")
    if not train or not valid:
        raise ValueError(
            f"--validation {settings.validation:g} holds out {valid} of {train + valid} training samples, expected "
            f"some, and some left to train. {'Lower' if valid else 'Raise'} it, or add samples."
        )
    if not test:
        raise ValueError("The test part holds no sample, expected at least one. Add samples to it.")
    for name in lacking(parts[0], parts[1]):
        raise ValueError(
            f"--validation {settings.validation:g} holds out all training samples of class {name}. Add samples, or "
            "lower it."
        )


def unite_classes(parts: Sequence[snn_data.Dataset]) -> None:
    """Give each part the classes of all. A file without names has one a label up to its largest.

    Raises:
        ValueError: the parts name a class otherwise: a label would mean two things.
    """
    longest = max((part.classes for part in parts), key=len)
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if part.classes != longest[: len(part.classes)]:
            ours, theirs = (", ".join(classes[:4]) for classes in (part.classes, longest))
            raise ValueError(
                f"the {name} part names its classes {ours}, ..., another one {theirs}, ...: a label would mean two "
                "classes. Store extra/keys in the same order in all files."
            )
        part.classes = list(longest)


def never_trained(train: snn_data.Dataset) -> list[str]:
    """A line that names the classes without a training sample: labels that count from 1, or a file cut by hand."""
    there = set(train.labels.tolist())
    names = [name for label, name in enumerate(train.classes) if label not in there]
    told = f"{', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
    return [f"note: no training sample of class {told}. Do the labels count from 0?"] if names else []


def lacking(part: snn_data.Dataset, other: snn_data.Dataset) -> list[str]:
    """Names of the classes that ``other`` has a sample of and ``part`` has none."""
    missing = sorted(set(other.labels.tolist()) - set(part.labels.tolist()))
    return [other.classes[label] for label in missing]


def not_in_validation(train: snn_data.Dataset, valid: snn_data.Dataset) -> list[str]:
    """A line that names the classes without a validation sample: the epoch is chosen on the others; else nothing."""
    names = lacking(valid, train)
    if not names:
        return []
    told = f"{', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
    return [
        f"note: no sample of class {told} is held out, so the epoch is chosen on the other classes alone. "
        "Add samples, or raise --validation."
    ]


def refuse_lost_classes(reader: Any) -> None:
    """Raise ValueError if ``skip_bad`` left a class without a recording: accuracies would be of the other classes."""
    kept = {each.label for each in reader.recordings}
    for name, problem in reader.skipped.items():
        label = name.split("/")[0]
        if label not in kept:
            raise ValueError(
                f"--skip-bad leaves class {label} without a {reader.split} recording; the first: {problem} "
                "Replace these files, or remove the class."
            )


def refuse_other_classes(train: Sequence[str], other: Sequence[str], root: Path) -> None:
    """Raise ValueError if validation or test have other classes than training: a number would mean another class."""
    if list(train) == list(other):
        return
    told = []
    for where, these, those in (("train/", train, other), ("another part", other, train)):
        names = [name for name in these if name not in those]
        if names:
            told.append(f"{where} alone has {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}")
    raise ValueError(f"{root}: the parts have other classes: {'; '.join(told)}. Give all the same folders.")
