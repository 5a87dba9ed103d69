"""The Open Neuromorphic benchmark: names who is absent, and prints no time of wrong spikes."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def script(load_script, monkeypatch):
    module = load_script("open_neuromorphic")
    kept = {name: make for name, make in module.CANDIDATES.items() if "compile" not in name}
    monkeypatch.setattr(module, "CANDIDATES", kept)
    arguments = "--device cpu --neurons 12 --batch 3 --steps 7 --rounds 1"
    monkeypatch.setattr("sys.argv", ["open_neuromorphic.py", *arguments.split()])
    return module


def test_benchmark_names_its_peers_installed_or_not(script, monkeypatch, capsys):
    for name in ("snntorch", "norse.torch", "jax"):
        monkeypatch.setitem(sys.modules, name, None)
    assert script.main() == 0
    printed = capsys.readouterr().out
    assert "12 neurons, B=3, T=7" in printed and "1.00 x" in printed and "\ncpu " in printed
    for name in ("snnTorch Leaky", "Norse LIFBoxCell", "Spyx LIF"):
        assert f"{name:26}   not installed" in printed


@pytest.mark.parametrize("what", ["spikes", "gradient"])
def test_benchmark_prints_no_time_of_a_wrong_neuron(script, what, monkeypatch, capsys):
    pytest.importorskip("spikingjelly.activation_based.neuron")
    layer = script.snnkit.nn.LIF
    other = {"spikes": {"v_threshold": 0.1}, "gradient": {"surrogate": script.snnkit.equations.ATan(3.0)}}[what]
    monkeypatch.setattr(script.snnkit.nn, "LIF", lambda tau: layer(tau=tau, **other))
    assert script.main() == 1
    printed = capsys.readouterr()
    assert f"no timings: {'the ' if what == 'gradient' else ''}" in printed.err and what in printed.err
    assert "forward, ms" not in printed.out
