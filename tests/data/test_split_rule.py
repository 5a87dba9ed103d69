import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit.data.event_store import Entry
from snnkit.data.recording import recordings
from snnkit.data.split_rule import TEST, TRAIN, UNUSED, split_rule

# Numbers of the files of each class: any, with gaps, of any number of digits.
sets = st.lists(st.lists(st.integers(0, 1200), min_size=1, max_size=30, unique=True), min_size=1, max_size=4)


def listed(numbers, order=None):
    """Recordings of classes a, b, .. from entries in the given order of listing."""
    entries = [
        Entry(f"{label}/{label}_{n}.npz", 1, "", Path(f"{label}_{n}.npz"))
        for label, own in zip("abcd", numbers, strict=False)
        for n in own
    ]
    return recordings([entries[i] for i in order] if order is not None else entries)


def parts_by_name(rule, found):
    return dict(zip((each.name for each in found), split_rule(rule)(found).tolist(), strict=True))


@settings(deadline=None)
@given(sets, st.data())
def test_a_split_is_of_the_files_and_not_of_their_listing(numbers, data):
    count = sum(map(len, numbers))
    order = data.draw(st.permutations(range(count)))
    for rule in ("sj-9-1", "tebn", "ids:3-90/91-100", "random-0", "random-7"):
        parts = parts_by_name(rule, listed(numbers))
        assert parts == parts_by_name(rule, listed(numbers, order)) and len(parts) == count
        assert set(parts.values()) <= {TRAIN, TEST, UNUSED}, "each file is in one part"


@settings(deadline=None)
@given(sets)
def test_sj_trains_on_the_first_nine_tenths_of_the_names_as_text(numbers):
    parts = parts_by_name("sj-9-1", listed(numbers))
    for label, own in zip("abcd", numbers, strict=False):
        # The suffix belongs to the text: 9.npz comes before 90.npz, since "." comes before "0".
        names = sorted(f"{label}_{n}.npz" for n in own)
        first = math.ceil(0.9 * len(names))
        assert [parts[f"{label}/{name}"] for name in names] == [TRAIN] * first + [TEST] * (len(names) - first)


@settings(deadline=None)
@given(sets, st.lists(st.integers(0, 1200), min_size=4, max_size=4, unique=True), st.booleans())
def test_ids_are_in_the_range_that_holds_their_number_or_unused(numbers, ends, swapped):
    a, b, c, d = sorted(ends)
    train, test = ((c, d), (a, b)) if swapped else ((a, b), (c, d))
    found = listed(numbers)
    parts = split_rule(f"ids:{train[0]}-{train[1]}/{test[0]}-{test[1]}")(found)
    for each, part in zip(found, parts, strict=True):
        inside = [train[0] <= each.number <= train[1], test[0] <= each.number <= test[1]]
        assert part == (TRAIN if inside[0] else TEST if inside[1] else UNUSED)


@settings(deadline=None)
@given(sets, st.integers(0, 99))
def test_random_holds_out_a_tenth_of_all_and_of_each_class_and_draws_anew_for_each_seed(numbers, seed):
    found = listed(numbers)
    parts = split_rule(f"random-{seed}")(found)
    assert (parts == TEST).sum() == round(0.1 * len(found)) and not (parts == UNUSED).any()
    held, whole = (Counter(each.label for each in some) for some in (np.array(found, object)[parts == TEST], found))
    assert all(abs(held[label] - n * (parts == TEST).sum() / len(found)) < 1 for label, n in whole.items())
    many = listed([range(100)])
    assert (split_rule(f"random-{seed}")(many) != split_rule(f"random-{seed + 1}")(many)).any()


def test_a_seed_that_numpy_does_not_take_is_refused_by_its_name():
    assert split_rule("random-4294967295").seed == 2**32 - 1
    with pytest.raises(ValueError, match="random-SEED must be 0 to 4294967295, as numpy's are, got 99999999999"):
        split_rule("random-99999999999")
