"""``python -m snnkit``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import snnkit
from snnkit.__main__ import main
from tests.shared import ROOT


def test_list_prints_every_model(capsys):
    assert main(["list"]) == 0
    assert capsys.readouterr().out.split() == snnkit.list_models()


def test_list_takes_a_pattern(capsys):
    assert main(["list", "*_shd"]) == 0
    assert "delay_snn_shd" in (listed := capsys.readouterr().out.split())
    assert all(name.endswith("_shd") for name in listed)


def test_a_pattern_without_a_model_says_so_and_fails(capsys):
    assert main(["list", "no_such_model"]) == 1
    out, error = capsys.readouterr()
    assert out == "" and "no_such_model" in error


def test_an_unknown_command_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        main(["lisst"])
    assert "list" in capsys.readouterr().err


def test_it_runs_as_a_module():
    process = subprocess.run([sys.executable, "-m", "snnkit", "list"], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0 and "delay_snn_shd" in process.stdout.split()
