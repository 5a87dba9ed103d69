"""Registered models on a GPU answer as on the CPU, by our kernels and where CuPy is missing."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from snnkit.nn.integer import IELIF
from snnkit.nn.losses import cross_entropy
from snnkit.nn.neuron_layer import Neuron
from snnkit.ops import path
from tests.closeness import error
from tests.hidden_parts import cupy_raises
from tests.models.shrink import STRUCTURES, build, sample
from tests.on_gpu import DEVICE, gpus

pytestmark = pytest.mark.parametrize("name", STRUCTURES)


def training_step(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Answer and gradients, in float64, where no spike hangs on the order of a sum."""
    model.zero_grad()
    y = model(x)
    cross_entropy(y, torch.arange(x.shape[1], device=x.device)).backward()
    return [y.detach().cpu(), *(p.grad.detach().cpu().clone() for p in model.parameters() if p.grad is not None)]


def paths(model: nn.Module) -> set[str]:
    """What the layers of neurons take on the GPU."""
    neurons = [layer.neuron for layer in model.modules() if isinstance(layer, Neuron | IELIF)]
    shapes = [[torch.as_tensor(value).shape for value in neuron.parameters().values()] for neuron in neurons]
    features = [torch.broadcast_shapes((1,), *each) for each in shapes]
    return {path(n, torch.zeros(1, 1, *size, device=DEVICE)) for n, size in zip(neurons, features, strict=True)}


def compare(name: str) -> set[str]:
    model = build(name).eval().double()  # eval: no dropout
    x = sample(model, 20, 4, torch.float64)
    expected, got = training_step(model, x), training_step(model.to(DEVICE), x.to(DEVICE))
    assert len(expected) > 2 and all(error(a, b) < 1e-9 for a, b in zip(got, expected, strict=True))
    return paths(model)


@gpus()
def test_a_model_takes_the_training_step_of_the_cpu_by_kernels(name):
    assert compare(name) == {"cuda"}


@gpus()
def test_without_cupy_it_takes_the_same_step_and_path_says_why(name, monkeypatch):
    missing = ModuleNotFoundError("No module named 'cupy'", name="cupy")
    cupy_raises(monkeypatch, missing, torch.version.cuda or "13.0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # another test looks at the warning
        said = compare(name)
    assert said and all(why.startswith("reference (cuda: cupy is not installed") for why in said)
