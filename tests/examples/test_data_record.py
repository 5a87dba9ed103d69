"""A run remembers its data from the start, and goes on with no other."""

import shutil
from types import SimpleNamespace

import pytest
import train_cifar10dvs
from _clips import event_parts
from _data_record import provenances, record_data
from _settings import read_json

from tests.examples.recorded import write_events


def record_of(root, **options):
    settings = train_cifar10dvs.Settings(
        dataset="folder", root=str(root), sensor=(20, 30), size=16, steps=3, split="ids:0-3/4-5", validation=0.25,
        augment="none", **options,
    )  # fmt: skip
    return provenances(train_cifar10dvs.Data(*event_parts(settings)))


def test_a_resumed_run_takes_a_copy_of_its_data_and_refuses_other_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "cache"))
    root = write_events(tmp_path / "events", per_class=6)
    folder = tmp_path / "run"
    folder.mkdir()
    run = SimpleNamespace(folder=folder, main=True, resumed=False)
    record_data(run, record_of(root))
    path = folder / "provenance.json"
    assert {part: record["samples"] for part, record in read_json(path).items()} == {"train": 6, "valid": 2, "test": 4}

    run.resumed = True
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)  # other times of change
    before = path.read_bytes()
    record_data(run, record_of(tmp_path / "copy"))
    shutil.copyfile(root / "left" / "left_5.npz", tmp_path / "copy" / "left" / "left_4.npz")
    with pytest.raises(SystemExit, match="the data changed since .*: other samples in test, see"):
        record_data(run, record_of(tmp_path / "copy"))
    assert path.read_bytes() == before
    path.unlink()  # a run of a version that kept none
    record_data(run, record_of(root))
    assert path.exists()
