"""Named rules that split the recordings of an event set into training and test, by number and never by listing order.

===================  ===============================================================================================
name                 rule
===================  ===============================================================================================
``sj-9-1``           of each class, names sorted as text, the first ceil(0.9 n) train, as SpikingJelly's
                     ``split_to_train_test_set(0.9)``. On CIFAR10-DVS the test part is 909, 91 .. 99, 910 .. 999
``tebn``             numbers 100 .. 999 train, 0 .. 99 test (TEBN; SpikingJelly's ``CIFAR10DVSTEBNSplit``)
``ids:A-B/C-D``      numbers A .. B train, C .. D test, e.g. ``ids:0-99/100-119``
``random-SEED``      of each class 10 % test, drawn by numpy's frozen ``RandomState(SEED)`` from recordings in order
``given``            what the set's folders or lists say
===================  ===============================================================================================

Accuracies under different rules cannot be compared: the name goes into every report.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snnkit.data.recording import Recording
from snnkit.data.split import split_stratified

TRAIN, TEST, UNUSED = 0, 1, 2


@dataclass(frozen=True)
class SplitRule:
    """Base of the rules; a call gives TRAIN, TEST or UNUSED for each recording."""

    @property
    def name(self) -> str:
        """The name, which ``split_rule`` reads."""
        raise NotImplementedError(f"{type(self).__name__} must define name.")

    def __call__(self, recordings: Sequence[Recording]) -> np.ndarray:
        """One of TRAIN, TEST, UNUSED for each recording."""
        raise NotImplementedError(f"{type(self).__name__} must define a call.")


@dataclass(frozen=True)
class FirstNames(SplitRule):
    """``sj-9-1``: of each class the first ceil(share n) names, sorted as text, are for training."""

    share: float = 0.9

    @property
    def name(self) -> str:
        """sj-9-1 for a share of 0.9."""
        return f"sj-{round(10 * self.share)}-{10 - round(10 * self.share)}"

    def __call__(self, recordings: Sequence[Recording]) -> np.ndarray:
        """TRAIN or TEST."""
        parts = np.full(len(recordings), TEST)
        for members in _by_class(recordings).values():
            by_text = sorted(members, key=lambda i: f"{recordings[i].entry.path.stem}.")
            parts[by_text[: math.ceil(len(by_text) * self.share)]] = TRAIN
        return parts


@dataclass(frozen=True)
class Numbers(SplitRule):
    """``ids:A-B/C-D`` (and ``tebn``): ranges of numbers, both ends included."""

    train: tuple[int, int]
    test: tuple[int, int]
    called: str = ""

    def __post_init__(self) -> None:
        (a, b), (c, d) = self.train, self.test
        if a > b or c > d or max(a, c) <= min(b, d):
            raise ValueError(f"{self.name}: ranges must go upwards and not overlap.")

    @property
    def name(self) -> str:
        """ids:A-B/C-D."""
        (a, b), (c, d) = self.train, self.test
        return self.called or f"ids:{a}-{b}/{c}-{d}"

    def __call__(self, recordings: Sequence[Recording]) -> np.ndarray:
        """TRAIN, TEST, or UNUSED for numbers in neither range."""
        nameless = [each for each in recordings if each.number is None]
        if nameless:
            raise ValueError(f"Split {self.name}: {nameless[0].entry.shown} has no number in its name.")
        numbers = np.array([each.number for each in recordings], np.int64)
        parts = np.full(len(recordings), UNUSED)
        for part, (low, high) in ((TRAIN, self.train), (TEST, self.test)):
            parts[(low <= numbers) & (numbers <= high)] = part
        return parts


@dataclass(frozen=True)
class Drawn(SplitRule):
    """``random-SEED``: 10 % of each class for test."""

    seed: int = 0
    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"The seed of random-SEED must be 0 to 4294967295, as numpy's are, got {self.seed}.")

    @property
    def name(self) -> str:
        """random-SEED."""
        return f"random-{self.seed}"

    def __call__(self, recordings: Sequence[Recording]) -> np.ndarray:
        """TRAIN or TEST."""
        numbers = {label: i for i, label in enumerate(sorted({each.label for each in recordings}))}
        labels = np.array([numbers[each.label] for each in recordings])
        parts = np.full(len(recordings), TRAIN)
        parts[split_stratified(labels, round(self.share * len(labels)), self.seed)[1]] = TEST
        return parts


@dataclass(frozen=True)
class Given(SplitRule):
    """``given``: the part that the set itself names for each recording."""

    @property
    def name(self) -> str:
        """given."""
        return "given"

    def __call__(self, recordings: Sequence[Recording]) -> np.ndarray:
        """TRAIN, TEST, or UNUSED for what is given for neither."""
        if not any(each.given for each in recordings):
            raise ValueError(
                "Split given: no folder, archive or list called train or test; name another rule, such as random-0."
            )
        return np.array([{"train": TRAIN, "test": TEST}.get(each.given, UNUSED) for each in recordings])


def split_rule(name: str | SplitRule) -> SplitRule:
    """The rule of a name.

    Raises:
        ValueError: no such rule; it names those there are.

    >>> split_rule("ids:0-99/100-119")
    Numbers(train=(0, 99), test=(100, 119), called='')
    """
    if isinstance(name, SplitRule):
        return name
    if name == "tebn":
        return Numbers((100, 999), (0, 99), "tebn")
    if name == "given":
        return Given()
    if name == "sj-9-1":
        return FirstNames()
    if match := re.fullmatch(r"random-(\d+)", name):
        return Drawn(int(match[1]))
    if match := re.fullmatch(r"ids:(\d+)-(\d+)/(\d+)-(\d+)", name):
        a, b, c, d = map(int, match.groups())
        return Numbers((a, b), (c, d))
    if name.startswith("ids"):
        raise ValueError(
            f"No split is called {name!r}: ids takes two ranges of numbers, training/test, such as ids:0-99/100-119."
        )
    raise ValueError(f"No split is called {name!r}; there are sj-9-1, tebn, ids:A-B/C-D, random-SEED and given.")


def _by_class(recordings: Sequence[Recording]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for index, recording in enumerate(recordings):
        members[recording.label].append(index)
    return members
