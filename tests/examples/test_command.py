import shlex
import sys

import pytest
from _command import command


@pytest.mark.parametrize(
    ("processes", "start"), [(1, ["python"]), (3, ["torchrun", "--standalone", "--nproc_per_node", "3"])]
)
def test_the_line_starts_as_many_processes_and_survives_a_shell(monkeypatch, processes, start):
    monkeypatch.setattr(sys, "argv", ["my scripts/train.py", "--left", "out"])
    line = command(["--resume", "a run"], processes)
    assert shlex.split(line) == [*start, "my scripts/train.py", "--resume", "a run"]
