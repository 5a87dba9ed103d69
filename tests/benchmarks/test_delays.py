"""The benchmark of delays: names its peers, and prints no time of a wrong layer."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest


@pytest.fixture
def script(load_script, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    arguments = "--device cpu --in 20 --out 24 --delay 5 --batch 2 --steps 9 --rounds 1 --sigma 1"
    monkeypatch.setattr("sys.argv", ["delays.py", *arguments.split()])
    return load_script("delays")


def test_benchmark_names_its_peer_installed_or_not(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "DCLS.construct.modules", None)
    assert script.main() == 0
    printed = capsys.readouterr().out
    assert "DCLS Dcls1d               not installed" in printed and "load average" in printed


def test_benchmark_prints_no_time_of_a_wrong_layer(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = script.DelayLinear
    monkeypatch.setattr(layer, "_sum", lambda self, x, tail, right=layer._sum: right(self, x, tail) * 1.001)
    assert script.main() == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "no timings: y of" in printed.err


def test_a_stream_is_measured_on_two_tables_and_not_when_it_is_wrong(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", "delays.py --stream --in 20 --out 24 --delay 5 --rounds 1".split())
    assert script.main() == 0
    printed = capsys.readouterr().out
    assert "20 x 24 x 5, B=1, 5 % spikes" in printed and "us for a step of 10 ms" in printed
    layer = script.DelayLinear
    monkeypatch.setattr(layer, "_sum", lambda self, x, tail, right=layer._sum: right(self, x, tail) * 1.1)
    assert script.main() == 1
    printed = capsys.readouterr()
    assert "best of" not in printed.out and "DelayLinear in carry, a step a call differs from" in printed.err
