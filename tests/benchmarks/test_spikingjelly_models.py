"""The benchmark of accelerated SpikingJelly models prints no time of a wrong model."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from tests.shared import ROOT

pytest.importorskip("spikingjelly.activation_based.model")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(
        "benchmark_spikingjelly_models", ROOT / "benchmarks/spikingjelly_models.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("sys.argv", ["spikingjelly_models.py", *"--cpu-shape 9 2 --rounds 1 --threads 1".split()])
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: 0)
    return module


def test_benchmark_prints_both_times_and_the_gain(script, capsys):
    assert script.main() == 0
    printed = capsys.readouterr().out
    assert "700-512-512-20, T=9, B=2" in printed and "neurons of it alone" in printed and "load average" in printed
    for kind in script.NODES:
        assert script.half_difference(kind, script.torch.device("cpu")) is None


def test_benchmark_prints_no_time_of_a_wrong_model(script, monkeypatch, capsys):
    def wrong(model):
        right(model)
        model[-1].v_threshold = 1.1

    right = script.accelerate
    monkeypatch.setattr(script, "accelerate", wrong)
    assert script.main() == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "outputs differ" in printed.err


def test_the_residual_networks_of_the_benchmark_are_accelerated_whole(script):
    for name in script.MODELS:
        assert not script.accelerate(script.residual("LIF", name)).left
