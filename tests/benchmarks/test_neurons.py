"""The benchmark of neurons: names its peers, and prints no time of a wrong neuron."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
import torch

from tests.shared import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("benchmark_neurons", ROOT / "benchmarks/neurons.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # The allocator of the test process stays as it is, and small calls are called a few times only.
    monkeypatch.setattr(module, "keep_memory_warm", lambda: False)
    monkeypatch.setattr(module, "small_call", lambda: None)
    threads = str(torch.get_num_threads())
    monkeypatch.setattr("sys.argv", ["neurons.py", "--shape", "3", "2", "5", "--rounds", "1", "--threads", threads])
    return module


def test_benchmark_names_its_peers_installed_or_not(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("snntorch", "norse.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    assert script.main() == 0
    printed = capsys.readouterr().out
    assert "snnTorch Leaky: not installed" in printed and "Norse LIF: not installed" in printed
    assert "SpikingJelly LIFNode" in printed and "load average" in printed


@pytest.mark.parametrize("wrong", ["spikes", "gradient"])
def test_benchmark_prints_no_time_of_a_wrong_neuron(
    script: ModuleType, wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = script.nn.LIF
    other = {"spikes": dict(v_threshold=1.01), "gradient": dict(surrogate=script.equations.ATan(3.0))}[wrong]
    monkeypatch.setattr(script.nn, "LIF", lambda: layer(**other))
    assert script.main() == 1
    printed = capsys.readouterr()
    assert "no timings" in printed.err and not printed.out
