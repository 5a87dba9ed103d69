"""Runs of the training scripts: where one stands, and whether two are the same."""

import csv
import json
import time

import torch
from safetensors.torch import load_file


def weights(folder):
    return load_file(folder / "last" / "model.safetensors")


def same_run(one, other):
    """Weights, optimisers, schedules, generators, log and result are equal bit for bit; times and names are not."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    for name in ("training.pt", "random_0.pt"):
        a, b = (torch.load(folder / "last" / name, weights_only=True) for folder in (one, other))
        assert str(a) == str(b)  # nested lists of numbers and tensors; the weights have been compared in full
    logs = [list(csv.DictReader((folder / "metrics.csv").open())) for folder in (one, other)]
    for row in logs[0] + logs[1]:
        del row["seconds"]
    assert logs[0] == logs[1] and len(logs[0]) == 2
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    for key in ("accuracies", "epoch", "firing_rates"):
        assert results[0][key] == results[1][key]


def position(folder):
    try:
        return json.loads((folder / "last" / "state.json").read_text())["position"]
    except (OSError, ValueError):  # not there yet, or just being replaced
        return {"epoch": -1, "step": 0}


def wait_for(process, folder, epoch, step):
    for _ in range(12000):
        at = position(folder)
        if process.poll() is not None or (at["epoch"], at["step"]) >= (epoch, step):
            return
        time.sleep(0.01)
