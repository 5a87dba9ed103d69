import os
import shutil
import tarfile
import zipfile

import pytest

from snnkit.data import DVSGesture, EventFolder
from snnkit.data.event_store import EventStore
from tests.data.event_bytes import made_rows, npz_bytes
from tests.data.test_dvs_gesture import write_recordings


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "snnkit-cache"))


@pytest.fixture
def folder(tmp_path):
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "set" / label / f"{number}.npz").write_bytes(npz_bytes(made_rows(number)))
    return tmp_path / "set"


def sha256(root, rule="ids:0-1/2-2"):
    return EventFolder(root, "train", rule).record()["sha256"]


def test_a_copy_and_an_archive_have_the_checksum_of_the_folder(folder, tmp_path):
    whole = sha256(folder)
    for number, path in enumerate((tmp_path / "set").rglob("*.npz")):
        os.utime(path, (10**9 + number, 10**9 + number))
    assert sha256(folder) == whole == sha256(shutil.copytree(folder, tmp_path / "other"))
    for how in ("zip", "tar", "tar.gz"):
        (tmp_path / how).mkdir()
        if how == "zip":
            with zipfile.ZipFile(tmp_path / how / "set.zip", "w") as archive:
                for path in folder.rglob("*.npz"):
                    archive.write(path, path.relative_to(tmp_path))
        else:
            with tarfile.open(tmp_path / how / f"set.{how}", "w:gz" if how == "tar.gz" else "w") as archive:
                archive.add(folder, "set")
        assert sha256(tmp_path / how) == whole


def test_other_bytes_names_or_parts_have_another_checksum(folder):
    whole = sha256(folder)
    path = folder / "b" / "1.npz"
    assert sha256(folder, "ids:0-0/1-2") != whole
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(5, 5))
    changed = sha256(folder)
    path.write_bytes(data)
    path.rename(folder / "b" / "01.npz")
    assert len({whole, changed, sha256(folder)}) == 3


def test_the_bytes_are_read_once_and_the_result_is_remembered_until_a_file_changes(folder, monkeypatch):
    whole, read = sha256(folder), []
    mapped = EventStore.mapped
    monkeypatch.setattr(EventStore, "mapped", lambda store, entry: read.append(entry.name) or mapped(store, entry))
    assert sha256(folder) == whole and read == []
    os.utime(folder / "a" / "0.npz", ns=(7, 7))
    assert sha256(folder) == whole and read == ["a/0.npz", "a/1.npz", "b/0.npz", "b/1.npz"]
    remembered = next((folder.parent / "snnkit-cache" / "checksums").iterdir()).parent
    for path in remembered.iterdir():
        path.write_text(whole[:9])  # a full disk
    assert sha256(folder) == whole


def test_a_long_recording_is_hashed_once_for_all_its_clips(tmp_path, monkeypatch):
    data = DVSGesture(write_recordings(tmp_path / "DvsGesture"), "train")
    read = []
    mapped = EventStore.mapped
    monkeypatch.setattr(EventStore, "mapped", lambda store, entry: read.append(entry.name) or mapped(store, entry))
    assert len(data.record()["sha256"]) == 64 and sorted(read) == ["user01_led.aedat", "user23_led.aedat"]


def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(folder, tmp_path, monkeypatch):
    whole = sha256(folder)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "file"))
    assert sha256(folder) == whole
