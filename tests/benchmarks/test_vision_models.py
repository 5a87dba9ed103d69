"""The benchmark of the vision models prints a row a model, and no time of one whose gradients are not finite."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def script(load_script, monkeypatch):
    module = load_script("vision_models")
    arguments = "--device cpu --models max_former_10_384 --size 32 --batch 2 --steps 1 --rounds 1 --dtypes bfloat16"
    monkeypatch.setattr("sys.argv", ["vision_models.py", *arguments.split()])
    return module


def test_benchmark_prints_loss_and_time(script, capsys):
    assert script.main() == 0
    printed = capsys.readouterr().out
    assert "max_former_10_384" in printed and "16.2 M" in printed and " ms" in printed


def test_benchmark_prints_no_time_of_a_broken_model(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "training_step", lambda *_: torch.tensor(float("nan")))
    assert script.main() == 1
    printed = capsys.readouterr().out
    assert "not finite" in printed and " ms" not in printed


def test_only_imagenet_variants_are_measured(script):
    assert script.models("spikformer_*_384*") == ["spikformer_8_384"]
