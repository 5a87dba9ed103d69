"""What is known of a registered model without building it in memory: sizes, source, published accuracy, weights.

``python -m snnkit info NAME`` prints it; ``python -m snnkit list --markdown`` prints the page ``docs/models.md``.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import torch

from snnkit.models._official import TABLES
from snnkit.models._registry import create_model, list_models, owners, rows
from snnkit.nn.integer import IELIF
from snnkit.nn.neuron_layer import Neuron

FROM_MEMORY = "from memory of the paper, not looked up in its text or repository"


def info(name: str) -> dict[str, str]:
    """What ``python -m snnkit info`` prints: parameters, layers, neurons, steps, source, accuracy, weights.

    Raises:
        ValueError: no such model; the message has the nearest names.

    >>> info("delay_snn_shd")["parameters"]
    '320,512 (214,016 trained)'
    """
    model = _outline(name)
    cls, row = owners[name], rows[name]
    layers = [layer for layer in model.modules() if getattr(getattr(layer, "weight", None), "ndim", 0) > 1]
    neurons = Counter(type(layer).__name__ for layer in model.modules() if isinstance(layer, Neuron | IELIF))
    return {
        "model": f"{name}, a {cls.__module__}.{cls.__name__}",
        "parameters": _parameters(model),
        "layers": f"{len(layers)} with weights",
        "neurons": ", ".join(f"{count} layers of {kind}" for kind, count in neurons.items()) or "none",
        "input": _eats(model),
        "steps": str(getattr(model, "steps", "those of the sequence")),
        "classes": str(model.num_classes),
        "source": _source(cls),
        "accuracy": _accuracy(row.accuracy),
        "official weights": _weights(name),
    }


def text(name: str) -> str:
    """``info`` as lines of text."""
    return "\n".join(f"{key:<17} {value}" for key, value in info(name).items())


def markdown() -> str:
    """All registered models as a page: one table a class."""
    lines = [
        "# Models",
        "",
        "Written by `python -m snnkit list --markdown > docs/models.md`; `python -m snnkit info NAME` says more.",
        "A name without `_cifar10`, `_cifar100`, `_cifar10dvs`, `_dvs128`, `_shd` or `_digits` is for ImageNet.",
        "Parameters are the trained ones, as papers count them; `info` adds the widths of delays that a schedule sets.",
        "Accuracy is the source's, in percent, not measured here; official weights are names of the authors' files.",
        "A condition that is not the variant's own stands behind the accuracy: T, image size, epochs.",
        f"A star: {FROM_MEMORY}.",
    ]
    for cls in dict.fromkeys(owners[name] for name in list_models()):
        lines += ["", f"## {cls.__name__}", "", _source(cls), ""]
        lines += ["| name | parameters | steps | accuracy | official weights |", "|---|---|---|---|---|"]
        for name in [name for name in list_models() if owners[name] is cls]:
            model = _outline(name)
            cells = [f"`{name}`", f"{_counts(model)[0]:,}", getattr(model, "steps", "")]
            lines.append(f"| {' | '.join(map(str, [*cells, rows[name].accuracy, rows[name].weights]))} |")
    return "\n".join(lines) + "\n"


def _accuracy(published: str) -> str:
    if not published:
        return "none published"
    return f"{published} % (published" + (f"; star: {FROM_MEMORY})" if "*" in published else ")")


def _outline(name: str) -> Any:
    """The model at its full size, without memory or values."""
    with torch.device("meta"):
        return create_model(name)


def _counts(model: Any) -> tuple[int, int]:
    """Parameters that are trained, and all of them."""
    every = list(model.parameters())
    return sum(p.numel() for p in every if p.requires_grad), sum(p.numel() for p in every)


def _parameters(model: Any) -> str:
    trained, every = _counts(model)
    return f"{every:,}" + (f" ({trained:,} trained)" if trained != every else "")


def _eats(model: Any) -> str:
    if hasattr(model, "img_size"):
        height, width = model.img_size
        shape = f"{model.in_chans}, {height}, {width}]"
        return f"images [B, {shape} or [T, B, {shape}, and other sizes"
    return f"[T, B, {model.in_features}]"


def _source(cls: type) -> str:
    """The first line of the model file: paper, year, code."""
    return (sys.modules[cls.__module__].__doc__ or "").splitlines()[0]


def _weights(name: str) -> str:
    cls, row = owners[name], rows[name]
    if not row.weights:
        return f"none for this model: {cls.official_weights}"
    reads = any(table.model == cls.__name__ for table in TABLES.values())
    how = "snnkit.load_checkpoint(model, path) reads their layout." if reads else "Their layout is not known here."
    return f"{row.weights}; {cls.official_weights} {how}"
