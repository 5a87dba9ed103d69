import shlex
import sys

import pytest
from _command import command, record_start, starts


@pytest.mark.parametrize(
    ("processes", "start"), [(1, ["python"]), (3, ["torchrun", "--standalone", "--nproc_per_node", "3"])]
)
def test_the_line_starts_as_many_processes_and_survives_a_shell(monkeypatch, processes, start):
    monkeypatch.setattr(sys, "argv", ["my scripts/train.py", "--left", "out"])
    line = command(["--resume", "a run"], processes)
    assert shlex.split(line) == [*start, "my scripts/train.py", "--resume", "a run"]


def test_a_run_remembers_the_line_that_began_it_and_those_that_resumed_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--folder", "b"])
    record_start(tmp_path, 1, resumed=False)
    assert starts(tmp_path) == {"command": "python train.py --folder b", "resumed_by": []}
    for arguments in (["--resume", "b"], ["--resume", "b", "--cpu"]):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        record_start(tmp_path, 1, resumed=True)
    resumed_by = ["python train.py --resume b", "python train.py --resume b --cpu"]
    assert starts(tmp_path) == {"command": "python train.py --folder b", "resumed_by": resumed_by}


def test_a_run_begun_before_its_command_was_kept_does_not_name_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume", "b"])
    record_start(tmp_path, 2, resumed=True)
    line = "torchrun --standalone --nproc_per_node 2 train.py --resume b"
    assert starts(tmp_path) == {"command": None, "resumed_by": [line]}
