import pickle
import random
import shutil

import numpy as np
import pytest
import torch
from _checkpoint import (
    empty_folder,
    load_tensors,
    random_states,
    rename_folder,
    seed_all,
    set_random_states,
    whole,
    write_file,
)
from _log import Log


def draws():
    return random.random(), float(np.random.normal()), float(torch.randn(()))


def test_all_three_generators_go_on_where_they_were_written_down(tmp_path):
    seed_all(3)
    np.random.normal()  # numpy keeps the second of each pair of normal numbers
    torch.save(random_states(), tmp_path / "r.pt")
    expected = [draws() for _ in range(3)]
    seed_all(4)
    set_random_states(load_tensors(tmp_path / "r.pt"))
    assert [draws() for _ in range(3)] == expected


@pytest.mark.parametrize("written, here, restored", [(0, 2, 0), (1, 2, 1), (2, 1, 1), (2, 0, 0)])
def test_generators_of_gpus_that_are_not_here_are_left_out(monkeypatch, written, here, restored):
    states = random_states() | ({"cuda": [torch.zeros(16, dtype=torch.uint8)] * written} if written else {})
    devices = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: here)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: devices.append(device))
    set_random_states(states)
    assert devices == list(range(restored))


def folder_with(path, text):
    (empty_folder(path) / "a").write_text(text)
    return path


def test_a_folder_is_replaced_by_a_whole_one(tmp_path):
    assert whole(tmp_path / "last") is None
    for text in ("1", "2", "3"):
        rename_folder(folder_with(tmp_path / "aside", text), tmp_path / "last")
        assert (whole(tmp_path / "last") / "a").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_at_any_point_of_the_replacement_leaves_a_whole_folder(tmp_path, monkeypatch, call):
    rename_folder(folder_with(tmp_path / "aside", "1"), tmp_path / "last")
    folder_with(tmp_path / "aside", "2")
    calls, rename = [], type(tmp_path).rename

    def killed(self, target):
        calls.append(target)
        if len(calls) == call:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            rename_folder(tmp_path / "aside", tmp_path / "last")
    assert (whole(tmp_path / "last") / "a").read_text() == "1"
    rename_folder(folder_with(tmp_path / "aside", "3"), tmp_path / "last")
    assert (whole(tmp_path / "last") / "a").read_text() == "3"


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path):
    path = write_file(tmp_path / "a", lambda aside: aside.write_text("old"))

    def fails(aside):
        aside.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(path, fails)
    assert path.read_text() == "old"


class Runs:
    def __reduce__(self):
        return (shutil.rmtree, ("/nowhere/at/all",))


def test_a_missing_a_damaged_and_a_dangerous_file_are_refused(tmp_path):
    path = tmp_path / "t.pt"
    with pytest.raises(SystemExit, match="t.pt is missing"):
        load_tensors(path)
    torch.save({"a": torch.arange(100)}, path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(SystemExit, match="t.pt is damaged"):
        load_tensors(path)
    path.write_bytes(b"")
    with pytest.raises(SystemExit, match="t.pt is damaged"):
        load_tensors(path)
    path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(SystemExit, match="t.pt is damaged"):
        load_tensors(path)


def test_a_resumed_log_drops_the_epochs_that_are_done_again(tmp_path):
    log = Log(tmp_path, 0)
    for epoch in range(3):
        log.write(epoch, {"loss": 1.0 / (epoch + 1)})
    log.close()
    again = Log(tmp_path, 1)
    assert again.history() == {"epoch": [1.0], "loss": [1.0]}
    again.write(1, {"loss": 0.5})
    again.close()
    assert again.history() == {"epoch": [1.0, 2.0], "loss": [1.0, 0.5]}
