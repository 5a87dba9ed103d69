"""How the benchmarks measure: turns, devices, and graphs."""

from __future__ import annotations

import pytest
import torch

from tests.on_gpu import gpus

CPU = torch.device("cpu")


@pytest.fixture
def timing(load_script):
    return load_script("_timing")


def test_steps_take_turns_and_the_first_calls_do_not_count(timing):
    calls = []
    found = timing.measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, CPU, warm=1)
    assert calls == ["a", "b", "a", "b", "a", "b"] and set(found) == {"a", "b"}


def test_one_gpu_of_each_kind_is_measured(timing, monkeypatch):
    names = ["small", "large", "small"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    assert timing.devices("all") == [CPU, torch.device("cuda:0"), torch.device("cuda:1")]
    assert timing.devices("cuda") == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert timing.devices("cpu") == [CPU]


def test_a_copy_counts_what_is_read_and_what_is_written(timing, monkeypatch):
    monkeypatch.setattr(timing, "measure", lambda steps, rounds, device: {"copy": 0.5})
    assert timing.copy_rate(CPU, size=1000) == 4000


@gpus()
def test_a_graph_replays_the_step_and_keeps_what_the_step_kept(timing):
    x, y = torch.zeros(1 << 20, device="cuda"), []

    def made(held):
        def step():
            if not held:
                held.append(torch.full_like(x, 2.0))
            y[:] = [x + held[0]]
            return y[0]

        return timing.graphed(step, x.device)

    replay, result = made([]), y[0]
    torch.cuda.empty_cache()
    torch.full_like(x, 9.0)  # would take the place of what the step kept
    x.fill_(3.0)
    replay()
    assert result.unique().tolist() == [5.0]
    assert timing.measure({"step": replay}, 2, x.device)["step"] > 0
