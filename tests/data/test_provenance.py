import json

import numpy as np
import pytest

import snnkit
from snnkit.data import (
    Compose,
    DiskCache,
    EventFolder,
    FramesByNumber,
    InMemory,
    OnDevice,
    Part,
    TimeShift,
    provenance,
)
from tests.data.event_bytes import made_rows, npz_bytes
from tests.data.recordings import MadeFrames


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "snnkit-cache"))


@pytest.fixture
def folder(tmp_path):
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(5):
            rows = made_rows(number, width=7, height=5)
            (tmp_path / "set" / label / f"{number}.npz").write_bytes(npz_bytes(rows))
    return tmp_path / "set"


def test_a_result_can_say_where_its_samples_come_from(folder, tmp_path):
    reader = EventFolder(folder, "train", "ids:0-2/4-4", (5, 7), FramesByNumber((2, 5, 7), 3))
    part = Part(DiskCache(reader, tmp_path / "cache"), [0, 1, 3], TimeShift(1))
    record = json.loads(json.dumps(provenance(part)))
    assert record["reader"] == "EventFolder" and record["rule"] == "ids:0-2/4-4" and record["split"] == "train"
    assert record["counts"] == {"train": 6, "test": 2, "unused": 2} and record["skipped"] == {}
    assert record["samples"] == 3 and record["per_class"] == {"a": 2, "b": 1}
    assert record["levels"] == ["EventFolder", "DiskCache", "Part"]
    assert record["transforms"][0] == "FramesByNumber(sensor=(2, 5, 7), steps=3)" and len(record["transforms"]) == 2
    assert len(record["sha256"]) == 64 and record["content"] == reader.content() and len(record["identity"]) == 64
    assert record["versions"]["snnkit"] == snnkit.__version__ and record["versions"]["numpy"] == np.__version__


def test_other_files_or_arguments_give_another_identity_and_the_same_ones_the_same(folder):
    def identity(steps=3, rule="ids:0-2/4-4"):
        return provenance(EventFolder(folder, "train", rule, (5, 7), FramesByNumber((2, 5, 7), steps)))["identity"]

    assert identity() == identity() and len({identity(), identity(4), identity(rule="ids:0-3/4-4")}) == 3


def test_any_data_set_has_a_record_and_a_lambda_no_identity():
    for wrapped in (MadeFrames(), InMemory(MadeFrames()), OnDevice(MadeFrames())):
        record = provenance(wrapped)
        assert record["reader"] == "MadeFrames" and record["samples"] == 6 and record["identity"]
    record = provenance(MadeFrames(transform=Compose(lambda frames: frames)))
    assert record["identity"] is None and "lambda" in record["transforms"][0]
