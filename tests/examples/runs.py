"""Runs of the training scripts: where one stands, and whether two are the same."""

import csv
import json
import time

import torch
from safetensors.torch import load_file

import snnkit


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


def one_step_of_parts_and_averaged_weights(folder, start):
    """Of runs of one epoch from the model ``start``: parts make up their batch, and averaged weights are kept as best.

    ``whole`` takes batches at once, ``parts`` in three parts, ``averaged`` at once with ``--ema 0.9``.
    """
    first = {name: value.detach() for name, value in start.named_parameters()}

    def moved(run, kept="last"):
        there = snnkit.load_model(folder / run / kept / "model.safetensors").state_dict()
        return torch.cat([(there[name] - value).flatten() for name, value in first.items()])

    # Norms see a third of the samples at a time, so parts are only about the whole; a sum in place of a mean is not.
    ratio = float(moved("parts").norm() / moved("whole").norm())
    assert 0.5 < ratio < 2.0, ratio
    assert torch.equal(moved("averaged"), moved("whole"))
    assert 0.05 < moved("averaged", "best").norm() / moved("whole", "best").norm() < 0.95
    assert torch.equal(moved("whole", "best"), moved("whole"))
