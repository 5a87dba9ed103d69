"""Where the clips of DVS128 Gesture lie: in long recordings with lists, in tonic's files, or in SpikingJelly's.

==========================================  ===============================================================
``user01_led.aedat``,                       recordings of about three minutes; the list has lines class, start, end in
``user01_led_labels.csv``                   us, classes from 1. A clip is start <= t < end, as SpikingJelly cuts it.
                                            ``trials_to_train.txt`` and ``trials_to_test.txt`` give the parts; without
                                            them people 1 to 23 are for training, 24 to 29 for test
``ibmGestureTrain/user01_led/0.npy``        tonic's: the name is the class, from 0, the times are milliseconds
``events_np/train/0/user01_led_0.npz``      SpikingJelly's: the folder is the class, from 0
==========================================  ===============================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from snnkit.data.event_store import Entry, EventStore
from snnkit.data.recording import Recording, ordered

LAST_TRAINING_PERSON = 23


def gesture_clips(store: EventStore, classes: Sequence[str]) -> list[Recording]:
    """All clips, in order.

    Raises:
        ValueError: a list that is no such list or is empty, a label outside the classes, a recording that a list names
            and that is not there, or a recording without a list.
    """
    long = [each for each in store.entries if each.path.suffix.lower() == ".aedat"]
    if long:
        return ordered(_cut(store, long, classes), classes)
    found = []
    for each in store.entries:
        if each.path.suffix.lower() not in (".npy", ".npz"):
            continue
        tonics = each.path.suffix.lower() == ".npy"
        text = each.path.stem if tonics else each.path.parent.name
        where = f"{each.path.as_posix()}/{each.file.name}".lower()
        given = next((part for part in ("train", "test") if re.search(rf"(^|/|gesture){part}([./]|$)", where)), "")
        person = _person(each)
        found.append(Recording(each, _label(text, classes, each, 0), person, given, person=person))
    return ordered(found, classes)


def _cut(store: EventStore, long: list[Entry], classes: Sequence[str]) -> list[Recording]:
    lists = {each.path.name.lower(): each for each in store.entries if each.path.suffix.lower() in (".csv", ".txt")}
    given = {}
    for part in ("train", "test"):
        if named := lists.get(f"trials_to_{part}.txt"):
            given.update(dict.fromkeys(_text(store, named).split(), part))
    missing = sorted(set(given) - {each.path.name for each in long})
    if missing:
        raise ValueError(f"{missing[0]} is in the set's list and not in its folder; so are {len(missing) - 1} others.")
    found = []
    for each in long:
        table = lists.get(f"{each.path.stem}_labels.csv".lower())
        if given and each.path.name not in given:
            continue
        if table is None:
            raise ValueError(f"{each.shown} has no {each.path.stem}_labels.csv beside it, the list of its clips.")
        person = _person(each)
        part = given.get(each.path.name) or ("train" if (person or 0) <= LAST_TRAINING_PERSON else "test")
        for number, start, end in _rows(store, table):
            label = _label(str(number), classes, table, 1)
            found.append(Recording(each, label, person, part, start, end, person))
    return found


def _rows(store: EventStore, table: Entry) -> list[tuple[int, int, int]]:
    rows = []
    for number, line in enumerate(filter(str.strip, _text(store, table).splitlines())):
        if number == 0 and line.startswith("class"):
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 3 or not all(field.isdigit() for field in fields) or int(fields[1]) >= int(fields[2]):
            raise ValueError(f"{table.shown}, line {number + 1}: expected class,start,end in us, got {line!r}.")
        rows.append((int(fields[0]), int(fields[1]), int(fields[2])))
    if not rows:
        raise ValueError(f"{table.shown} lists no clips; expected lines of class,start,end in us: a broken copy.")
    return rows


def _text(store: EventStore, entry: Entry) -> str:
    try:
        return store.read(entry).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{entry.shown} is no list of text ({error.reason}): broken, or another file.") from error


def _label(text: str, classes: Sequence[str], entry: Entry, first: int) -> str:
    if not text.isdigit() or not first <= int(text) < first + len(classes):
        raise ValueError(f"{entry.shown}: class {text} is none of {first} to {first + len(classes) - 1}.")
    return classes[int(text) - first]


def _person(entry: Entry) -> int | None:
    match = re.search(r"user(\d+)", entry.name)
    return int(match[1]) if match else None
