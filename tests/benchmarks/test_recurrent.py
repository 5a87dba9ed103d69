"""The benchmark of recurrent layers: it names its peer, and prints no time of a wrong layer."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from snnkit import equations


@pytest.fixture
def script(load_script, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    arguments = "--device cpu --steps 3 --batch 2 --size 5 --rounds 1".split()
    monkeypatch.setattr("sys.argv", ["recurrent.py", *arguments, "--threads", str(torch.get_num_threads())])
    return load_script("recurrent")


def test_benchmark_shows_best_and_median_and_says_where_its_peer_is_missing(script, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "spikingjelly.activation_based", None)
    assert script.main() == 0
    printed = capsys.readouterr().out
    assert "best    median" in printed and "\ncpu " in printed and "SpikingJelly: not installed" in printed
    assert all(name in printed for name in ("snnkit SE-adLIF", "plain loop, x[t]", "products", "snnkit LIF"))


def test_benchmark_sets_spikingjellys_container_beside_the_same_lif(script, capsys):
    pytest.importorskip("spikingjelly")
    assert script.main() == 0
    assert "SpikingJelly LIF in container" in capsys.readouterr().out


@pytest.mark.parametrize("neuron", ["SEAdLIF", "LIF"])
def test_benchmark_prints_no_time_of_a_wrong_layer(script, neuron, monkeypatch, capsys):
    if neuron == "LIF":
        pytest.importorskip("spikingjelly")
    layer = getattr(script, neuron)
    other = {"SEAdLIF": dict(q=100.0), "LIF": dict(surrogate=equations.ATan(3.0))}[neuron]
    monkeypatch.setattr(script, neuron, lambda **given: layer(**given, **other))
    assert script.main() == 1
    printed = capsys.readouterr()
    assert "no timings" in printed.err and "ms" not in printed.out


def test_benchmark_says_that_there_is_no_gpu(script, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["recurrent.py", "--device", "cuda"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert script.main() == 1
    assert "no CUDA device" in capsys.readouterr().err
