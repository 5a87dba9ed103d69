"""Every registered model, made small through its own keywords: what the tests over all models build.

``SIZES`` says what a keyword of some name becomes, for all classes; ``OWN`` what differs in a class. A new class whose
sizes have these names needs no line here. Variants that differ in sizes alone shrink to the same network:
``STRUCTURES`` has one name for each network that is left, and the expensive tests run over these.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import snnkit
from snnkit.models._registry import owners, rows
from snnkit.models._vision import VisionModel
from snnkit.nn import UniformDelays

SIZES: dict[str, Any] = dict(
    img_size=32, steps=4, num_classes=5, dim=16, depth=2, heads=2, mlp_ratio=2.0, scale_residual=1.0,
    dims=lambda given: tuple(8 * (i + 1) for i in range(len(given))),
    depths=lambda given: (1,) * (len(given) - 1) + (2,),
)  # fmt: skip

SPEECH: dict[str, Any] = dict(in_features=12, hidden=(16, 16), num_classes=5)
OWN: dict[str, dict[str, Any]] = {
    "DelaySNN": dict(hidden=lambda given: (16, 16) if 512 in given else given),
    "DelaySNNPlus": SPEECH
    | dict(max_delay=5, tail=2, local=lambda one: one and replace(one, outputs=3, window=4, stride=3, max_delay=3)),
    "RadLIFNet": SPEECH,
    "SEAdLIFNet": SPEECH | dict(first_step=0),
    "DelRecNet": SPEECH
    | dict(sigma=2.0, max_delay=6, start=UniformDelays(0.0, 4.0), feedforward=lambda k: k and 2, recurrent_dropout=0.2),
}


def small(name: str) -> dict[str, Any]:
    """The keywords that make a registered model small."""
    cls = class_of(name)
    given = defaults(cls) | rows[name].keywords
    sizes = SIZES | OWN.get(cls.__name__, {}) if issubclass(cls, VisionModel) else OWN[cls.__name__]
    return {key: _shrunk(sizes[key], value) for key, value in given.items() if key in sizes}


def smallest(name: str) -> dict[str, Any]:
    """The same with one block a stage, for what takes long."""
    least = {"depth": 1, "depths": lambda given: (1,) * len(given)}
    return small(name) | {key: _shrunk(least[key], value) for key, value in small(name).items() if key in least}


def _shrunk(size: Any, given: Any) -> Any:
    if callable(size):
        return size(given)
    return (size,) * len(given) if isinstance(given, tuple) and not isinstance(size, tuple) else size


def class_of(name: str) -> Any:
    """The class of a registered model."""
    return owners[name]


def defaults(cls: type) -> dict[str, Any]:
    """A constructor's keywords and their defaults, with those of the class above that it hands on."""
    found: dict[str, Any] = {}
    for one in reversed([c for c in cls.__mro__ if "__init__" in vars(c) and c is not nn.Module]):
        found |= {p.name: p.default for p in inspect.signature(one.__init__).parameters.values()}
    return {key: value for key, value in found.items() if value is not inspect.Parameter.empty}


def structure(name: str) -> str:
    """What tells the small networks apart: class and keywords."""
    keywords = rows[name].keywords | small(name)
    return f"{class_of(name).__name__} {sorted(keywords.items())!r}"


NAMES = snnkit.list_models()
VISION = [name for name in NAMES if issubclass(class_of(name), VisionModel)]
_first: dict[str, str] = {}
for _name in NAMES:
    _first.setdefault(structure(_name), _name)
STRUCTURES = list(_first.values())
VISION_STRUCTURES = [name for name in STRUCTURES if name in VISION]
ONE_A_CLASS = list({class_of(name): name for name in reversed(STRUCTURES)}.values())[::-1]


def build(name: str, seed: int = 0, **keywords: Any) -> Any:
    """A small model all of whose layers fire: a fresh one is silent in its deep layers, and a test sees nothing."""
    torch.manual_seed(seed)
    keywords = small(name) | keywords
    model = create(name, **keywords)
    key = (name, seed, repr(sorted(keywords.items())))
    if key not in _states:
        _states[key] = {key: value.clone() for key, value in lively(model).state_dict().items()}
    model.load_state_dict(_states[key])
    return model.train()


def create(name: str, **keywords: Any) -> Any:
    """A small model as it is born; one with two heads answers with their mean."""
    model = snnkit.create_model(name, **small(name) | keywords)
    if hasattr(model, "set_distilled_training"):
        model.set_distilled_training(False)
    return model


_states: dict[Any, dict[str, Tensor]] = {}


def lively(model: Any) -> Any:
    """The same model once its norms have seen data; of a vision model they get shifts with which all layers fire, of
    others larger weights.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    vision = isinstance(model, VisionModel)
    for norm in norms:
        norm.momentum = 1.0
        if vision:
            nn.init.uniform_(norm.weight, 1.5, 3.0)
            nn.init.uniform_(norm.bias, 0.0, 1.0)
    x = sample(model, 5 if vision else 30, 4)
    for _ in range(25):
        with torch.no_grad(), snnkit.firing_rates(model.train()) as rates:
            model(x)
            off = {path: -0.3 if r > 0.6 else 0.3 for path, r in rates.items() if not _least(path) < r < 0.6}
            for layer, shift in off.items() if vision else ():
                for norm in _norms_before(model, layer):
                    norm.bias += shift
            for block, rate in zip(() if vision else model.blocks, rates.values(), strict=False):
                if rate < 0.1:
                    (block.norm or block.synapse).weight.mul_(1.5)
            off = off if vision else {path: 0.0 for path, rate in rates.items() if rate < 0.1}
        if not off:
            break
    for norm in norms:
        norm.momentum = 0.1
        norm.num_batches_tracked.zero_()
    return model


def _least(neuron: str) -> float:
    """The rate below which a layer is too quiet; queries, keys and values are as their product wants them."""
    return 0.02 if neuron.split(".")[-2:-1] in (["q"], ["k"], ["v"]) else 0.15


def _norms_before(model: nn.Module, neuron: str) -> list[nn.Module]:
    """The norms that a neuron's input comes from: its layer's, the projections' of an attention, or the last one."""
    layer = model.get_submodule(neuron.rpartition(".")[0])
    if layer is model:
        return [module for path, module in model.named_modules() if path.endswith(".norm")][-1:]
    own = getattr(layer, "norm", None)
    return [own] if own is not None else [part.norm for key, part in layer.named_children() if key in ("q", "k", "v")]


def sample(model: Any, steps: int = 11, batch: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    """A sequence ``[T, B, ...]`` that this model takes."""
    generator = torch.Generator().manual_seed(steps * 100 + batch)
    if isinstance(model, VisionModel):
        return torch.randn(steps, batch, model.in_chans, *model.img_size, generator=generator).to(dtype)
    return torch.randint(0, 3, (steps, batch, model.in_features), generator=generator).to(dtype)


def small_on_meta(name: str) -> Any:
    """The small network without memory or values."""
    with torch.device("meta"):
        return snnkit.create_model(name, **small(name))


@functools.cache
def full_size(name: str) -> Any:
    """The registered model as published, without memory or values."""
    with torch.device("meta"):
        return snnkit.create_model(name)
