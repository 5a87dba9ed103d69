"""A model against a fixture of its official code: weights through the loader, answers, gradients, statistics, rates."""

from __future__ import annotations

import numpy as np
import torch

import snnkit
from snnkit.models._official import TABLES
from tests.shared import Fixture


def load(model: torch.nn.Module, numbers: Fixture) -> torch.nn.Module:
    """The model in float64 with the fixture's weights, loaded as a user would."""
    state = {name.removeprefix("state/"): torch.from_numpy(numbers[name]) for name in numbers.names("state/")}
    model = model.double()
    snnkit.load_checkpoint(model, state)
    return model


def names(model: torch.nn.Module, theirs: list[str]) -> dict[str, str]:
    """Our name for each official one, by the table that loads the checkpoints."""
    table = next(table for table in TABLES.values() if table.model == type(model).__name__)
    return table.names(model, theirs)


def distance(ours: torch.Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """Norm of the difference over norm; absolute for a gradient that is zero in exact arithmetic."""
    got = ours.detach().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    assert got.size == theirs.size, (got.shape, theirs.shape)
    scale = np.linalg.norm(theirs)
    return float(np.linalg.norm(got.reshape(theirs.shape) - theirs) / (scale if scale > 1e-9 else 1.0))


def reproduces(model: torch.nn.Module, numbers: Fixture, time_first: bool = True) -> None:
    """Assert that outputs, loss, gradients, running statistics and firing rates are the official ones, to 1e-9."""
    model = load(model, numbers)
    x = torch.from_numpy(numbers["input/x"]).double()
    if not time_first:
        x = x.transpose(0, 1).contiguous()
    x.requires_grad_()
    for output in numbers.names("output_eval/"):
        with torch.no_grad():
            assert distance(model.eval()(x), numbers[output]) < 1e-9, output
    if not numbers.names("grad/"):
        return
    with snnkit.firing_rates(model) as rates:
        y = model.train()(x)
    assert distance(y, numbers["output/y"]) < 1e-9
    loss = (y * torch.from_numpy(numbers["input/loss_weight"])).sum()
    assert distance(loss, numbers["loss"]) < 1e-9
    loss.backward()
    check_gradients(model, numbers)
    if "grad_input/x" in numbers:
        grad = x.grad if time_first else x.grad.transpose(0, 1)
        assert distance(grad, numbers["grad_input/x"]) < 1e-9
    elif "grad_input_summary/x" in numbers:
        summary = torch.stack([x.grad.sum(), (x.grad**2).sum(), x.grad.abs().max()])
        assert distance(summary, numbers["grad_input_summary/x"]) < 1e-9
    check_statistics(model, numbers)
    check_rates(model, numbers, rates)


def check_gradients(model: torch.nn.Module, numbers: Fixture) -> None:
    """Every official gradient, and none that the official code does not have."""
    theirs = [name.removeprefix("grad/") for name in numbers.names("grad/")]
    ours = names(model, theirs)
    own = dict(model.named_parameters())
    for key in theirs:
        grad = own.pop(ours[key]).grad
        assert grad is not None, key
        assert distance(grad, numbers[f"grad/{key}"]) < 1e-9, (key, distance(grad, numbers[f"grad/{key}"]))
    assert not own, f"without an official gradient: {list(own)}"


def check_statistics(model: torch.nn.Module, numbers: Fixture) -> None:
    """Running statistics after one training step."""
    theirs = [name.removeprefix("state_after/") for name in numbers.names("state_after/")]
    ours = names(model, theirs)
    own = dict(model.named_buffers())
    for key in theirs:
        if key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert distance(own[ours[key]], numbers[f"state_after/{key}"]) < 1e-9, key


def check_rates(model: torch.nn.Module, numbers: Fixture, rates: dict[str, float]) -> None:
    """The firing rate of every neuron layer."""
    theirs = [name.removeprefix("rate/") for name in numbers.names("rate/")]
    ours = names(model, [f"{key}." for key in theirs])
    for key in theirs:
        rate = rates[ours[f"{key}."].removesuffix(".")]
        assert abs(rate - float(numbers[f"rate/{key}"])) < 1e-12, (key, rate, float(numbers[f"rate/{key}"]))
