"""The benchmark of neurons: names its peers, and prints no time of a wrong neuron."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

CPU = torch.device("cpu")


@pytest.fixture
def script(load_script, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("neurons")
    # The allocator of the test process stays as it is, and small calls are called a few times only.
    monkeypatch.setattr(module, "keep_memory_warm", lambda: False)
    monkeypatch.setattr(module, "small_call", lambda device, small_call=module.small_call: small_call(device, 3))
    threads = str(torch.get_num_threads())
    arguments = ["--device", "cpu", "--shape", "3", "2", "5", "--rounds", "1", "--threads", threads]
    monkeypatch.setattr("sys.argv", ["neurons.py", *arguments])
    return module


@pytest.fixture
def gpu_table(load_script, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The table for GPUs, with two neurons; the CPU stands in for the device."""
    module = load_script("_neurons_cuda")
    monkeypatch.setattr(module, "OURS", {name: module.OURS[name] for name in (module.LIF, "snnkit PLIF, learnt")})
    monkeypatch.setattr(module, "copy_rate", lambda device, size: 1e6)
    return module


def test_benchmark_names_its_peers_installed_or_not(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("snntorch", "norse.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    assert script.main() == 0
    printed = capsys.readouterr().out
    assert "snnTorch Leaky: not installed" in printed and "Norse LIF: not installed" in printed
    assert "SpikingJelly LIFNode" in printed and "load average" in printed and "\ncpu " in printed


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


def test_benchmark_says_that_there_is_no_gpu(script, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["neurons.py", "--device", "cuda"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert script.main() == 1
    assert "no CUDA device" in capsys.readouterr().err


def test_the_table_for_gpus_has_every_dtype_and_ratio(gpu_table, capsys):
    peers = {"SpikingJelly LIFNode": lambda x: gpu_table.nn.LIF()(x), "odd": lambda x: x.sort(7)}
    assert gpu_table.table(CPU, [(3, 10)], peers, 1, None) is None
    printed = capsys.readouterr().out
    for dtype in ("float32", "float16", "bfloat16"):
        size = 4 if dtype == "float32" else 2
        traffic = [f"{1e3 * parts * 3 * 10 * size / 1e6:.3f}" for parts in (2, 3, 5)]
        assert f"T=3, N=10, {dtype}: traffic forward {traffic[0]}, backward {traffic[1]}, both {traffic[2]}" in printed
    assert "odd                      no timings: IndexError" in printed and "snnkit PLIF, learnt" in printed
    assert printed.count(gpu_table.LIF) == 3


@pytest.mark.parametrize("wrong", ["spikes", "gradient"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_table_for_gpus_prints_no_time_of_a_wrong_neuron(gpu_table, wrong, dtype, monkeypatch, capsys):
    class Wrong(gpu_table.nn.LIF):
        def forward(self, x):
            s = super().forward(x)
            return s + (x == x.detach().max()) if wrong == "spikes" else s + 0.1 * (x - x.detach())

    monkeypatch.setattr(gpu_table, "OURS", {gpu_table.LIF: Wrong})
    monkeypatch.setattr(gpu_table, "DTYPES", (dtype,))
    reason = gpu_table.table(CPU, [(3, 10)], {}, 1, None)
    assert ("spikes differ" if wrong == "spikes" else "gradient differs") in reason and "T=3" in reason
    assert gpu_table.LIF not in capsys.readouterr().out


def test_a_peer_with_other_spikes_gets_no_time(gpu_table, monkeypatch, capsys):
    monkeypatch.setattr(gpu_table, "DTYPES", (torch.float32,))
    assert gpu_table.table(CPU, [(3, 10)], {"odd": gpu_table.nn.LIF(v_threshold=0.4)}, 1, None) is None
    assert "spikes differ from ours" in capsys.readouterr().out


def test_lanes_that_are_compared_lie_at_both_ends_and_between(gpu_table):
    lanes = gpu_table.lanes_to_compare(100_000)
    assert lanes[0] == 0 and lanes[-1] == 99_999 and 2000 < len(lanes) <= 3000
    assert gpu_table.lanes_to_compare(7).tolist() == list(range(7))
