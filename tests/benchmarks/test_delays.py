"""The benchmark of delays: names its peers, and prints no time of a wrong layer."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from tests.shared import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("benchmark_delays", ROOT / "benchmarks/delays.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = "--in 20 --out 24 --delay 5 --batch 2 --steps 9 --rounds 1 --sigma 1"
    monkeypatch.setattr("sys.argv", ["delays.py", *arguments.split()])
    return module


def test_benchmark_names_its_peer_installed_or_not(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "DCLS.construct.modules", None)
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
