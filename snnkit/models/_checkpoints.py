"""Checkpoints: our own files, which rebuild their model alone, and those of the papers' official code.

Official names are translated by one table a paper, rows of (their prefix, ours). Nothing is copied into a model
before every tensor has been checked.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.models import _files, _header, _registry
from snnkit.models._classifier import Classifier
from snnkit.models._match import MismatchError as MismatchError
from snnkit.models._match import both_names, match
from snnkit.models._official import TABLES
from snnkit.models._values import check_values, stands_beyond
from snnkit.nn.delay import DelayLinear
from snnkit.nn.delayed_recurrence import DelayedRecurrence


@dataclass(frozen=True)
class Loaded:
    """What :func:`load_checkpoint` did.

    Attributes:
        source: ``"snnkit"``, or the official code whose names were translated; with ``", by position"`` if a file has
            other names and its tensors were taken in the order of that code.
        left_out: names of tensors of classifiers that were not loaded, since the number of classes differs, or since
            the file or the model alone has that classifier. The model's own keep their random values.
        dead: tensors of the official file that its code builds and never uses, by its names; they have no place here.
        metadata: what was given to :func:`save_checkpoint`.
        clamped: how many positions or delays of each layer stood out of range and were brought to the nearest end.
            Official code lets the positions of an even ``max_delay`` go one step too far, where the synapse is lost,
            and DelRec's delays below 0.
    """

    source: str
    left_out: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    clamped: dict[str, int] = field(default_factory=dict)
    dead: tuple[str, ...] = ()


def save_checkpoint(model: nn.Module, path: str | os.PathLike[str], **metadata: Any) -> None:
    """Write weights, model name, arguments and version to a safetensors file: tensors and JSON, no pickle.

    The file is written aside and renamed: a crash leaves the old file or none. Arguments that JSON can't hold (a
    neuron class of your own) are left out by name, and :func:`load_model` asks for them.

    Args:
        model: any module; :func:`load_model` needs one of the registered classes. DDP and ``torch.compile`` wrappers
            are taken off.
        path: the file, by custom ``*.safetensors``. Folders are made.
        metadata: more to remember, e.g. ``epoch=3, accuracy=0.91``; anything that JSON can hold.

    Raises:
        TypeError: metadata that JSON can't hold, a model that is an evaluation copy (``discretize()``), or no module.
        IsADirectoryError: the path is a folder.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"save_checkpoint expects (model, path), got {type(model).__name__} as the model.")
    model = _bare(model)
    if getattr(model, "evaluation_copy", False):
        raise TypeError(
            "This is an evaluation copy, made by discretize() or fold(). Save the model it came from; after loading, "
            "make the copy again."
        )
    delays = {name or "the layer": m for name, m in model.named_modules() if isinstance(m, DelayLinear)}
    beyond = [name for name, layer in delays.items() if stands_beyond(layer, layer.P.detach())]
    if beyond:
        warnings.warn(
            f"{path}: delays of {', '.join(beyond)} stand beyond their taps, and load_checkpoint will refuse them. "
            "Call clamp_() after each step of the optimiser, and now before you save again.",
            stacklevel=2,
        )
    _files.write(model.state_dict(), _header.written(model, metadata), path)


def checkpoint_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a file's class, variant, version, arguments and metadata; an empty dict for files of other tools."""
    return _header.read(_files.read(path)[1], str(path))


def load_model(path: str | os.PathLike[str], **keywords: Any) -> Classifier:
    """Build the model of a file of :func:`save_checkpoint` and load its weights; returned in evaluation mode.

    Args:
        path: the file.
        keywords: arguments over those of the file, e.g. ``num_classes=5`` (then the head stays random, with a
            warning), or those that the file could not hold. Not ``max_delay``: positions count from the middle of
            the taps, so that with other taps each delay would be another one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an empty, cut, damaged or foreign file, a model class that is not known here, an argument that
            the file could not hold and that was not given, or one that contradicts the file's tensors (``max_delay``).
    """
    state, header = _files.read(path)
    info = _header.read(header, str(path))
    if not info:
        raise ValueError(
            f"{path} holds tensors but no model: build one with snnkit.create_model(name) and call "
            "snnkit.load_checkpoint(model, path)."
        )
    if info["class"] not in _registry.classes:
        raise ValueError(
            f"{path} holds a {info['class']}, which is no registered model. Build it yourself and call "
            "snnkit.load_checkpoint(model, path)."
        )
    lacking = [name for name in info["asked"] if name not in keywords]
    if lacking:
        raise ValueError(f"{path} was built with an own {', '.join(lacking)}: load_model(path, {lacking[0]}=...).")
    for name in _registry.classes[info["class"]].must_match:
        stored = info["arguments"].get(name)
        if name in keywords and name in info["arguments"] and keywords[name] != stored:
            raise ValueError(
                f"{path} was saved with {name}={stored!r}, got {name}={keywords[name]!r}: its tensors mean something "
                f"else then. Leave {name} out, or train a model with {name}={keywords[name]!r}."
            )
    arguments = {**info["arguments"], **keywords}
    if info["variant"] in _registry.entries:
        model = _registry.create_model(info["variant"], **arguments)
    else:
        model = _registry.classes[info["class"]](**arguments)
    _load(model, state, info, str(path), compare=False)
    return model.eval()


def load_checkpoint(model: nn.Module, source: str | os.PathLike[str] | Mapping[str, Any]) -> Loaded:
    """Load weights into a model: from our own files, or from a file or state dict of the paper's official code.

    Known official code: DelRec, Max-Former, Max-ResNet, Meta-SpikeFormer, MS-QKFormer, QSD-Transformer, SE-adlif,
    SNN-delays, sparch (RadLIF), Spike-driven Transformer and Spikformer. (A DelaySNN answers as published after
    ``model.discretize()``, since the files of SNN-delays hold the continuous positions.) ``module.`` and
    ``state_dict`` wrappers are taken off. Files are read with ``weights_only=True``.

    Args:
        model: where to load; unchanged if anything is wrong.
        source: a path, or a state dict.

    Returns:
        Where the names came from and what was left out. If only the number of classes differs, the head is left out:
        it keeps its values, a warning says so, and ``left_out`` names its tensors. So it is with a vision model's head
        that the file lacks, and with the head for distillation that one of the two lacks. Official positions beyond
        the taps, and delays below 0, are clamped, with a warning, too.

    Raises:
        TypeError: the first argument is no module.
        FileNotFoundError: no such file.
        MismatchError: tensors are missing, unexpected or of another shape; a ``ValueError`` that lists them.
        ValueError: an empty, cut, damaged or foreign file; a file of another model class; values that can't be (NaN, a
            time constant <= 0, positions outside the model's range of delays, DelRec's delays above ``max_delay``);
            positions of another ``max_delay``, as far as the file tells it (ours, and torch's of our layers).
    """
    if not isinstance(model, nn.Module):
        got = type(model).__name__
        raise TypeError(f"load_checkpoint expects (model, path or state dict), got {got} as the model.")
    if isinstance(source, Mapping):
        where = "The state dict"
        return _load(_bare(model), _files.tensors(source, where), {}, where)
    state, header = _files.read(source)
    return _load(_bare(model), state, _header.read(header, str(source)), str(source))


def _load(model: nn.Module, state: dict[str, Tensor], info: dict[str, Any], where: str, compare: bool = True) -> Loaded:
    kind = type(model).__name__
    source, theirs, dead, positions = "snnkit", dict[str, str](), list[str](), dict[str, str]()
    holds = ""
    if info:
        if info["class"] != kind:
            raise ValueError(f"{where} holds a {info['class']}, this is a {kind}. Build that with load_model(path).")
        if compare and isinstance(model, Classifier):
            _header.compare_arguments(model, info, where)
        _header.compare_taps(model, info["taps"], where)
    else:
        noted = getattr(state, "_metadata", {}).items()
        _header.compare_taps(model, {n: m["max_delay"] for n, m in noted if "max_delay" in m}, where)
        holds = next((table.model for table in TABLES.values() if table.model != kind and table.wrote(state)), "")
        for name, table in TABLES.items():
            found = table.by_position(model, state)
            if found or table.fits(model, state):
                state, theirs, dead = table.translate(model, state, where, found)
                source, positions = f"{name}, by position" if found else name, found
                break
    state, left_out = match(model, state, theirs, where, holds)  # the latter by the reason
    check_values(model, state, where, theirs)
    with torch.no_grad():
        model.load_state_dict({**model.state_dict(), **state})
    if positions:
        pairs = ", ".join(f"{a} -> {b}" for a, b in list(positions.items())[:3])
        warnings.warn(
            f"{where} has other names than the official code: its {len(positions)} tensors were loaded by position, "
            f"as that code does ({pairs}, ...). Shapes fit; neighbours of one shape can't be told apart.",
            stacklevel=3,
        )
    clamped = {} if source == "snnkit" else _clamp(model)
    if clamped:
        warnings.warn(
            f"{where}: {sum(clamped.values())} positions stood beyond the taps, where a synapse is lost, or delays "
            f"below 0. They were clamped to the nearest ({', '.join(clamped)}).",
            stacklevel=3,
        )
    for reason, names in left_out.items():
        warnings.warn(f"{where} {reason} ({', '.join(both_names(name, theirs) for name in names)}).", stacklevel=3)
    out = tuple(name for names in left_out.values() for name in names)
    return Loaded(source, out, info.get("metadata", {}), clamped, tuple(dead))


def _clamp(model: nn.Module) -> dict[str, int]:
    """Bring positions back into the taps, and delays above 0; return how many moved, by the names of their tensors."""
    moved = {}
    for name, layer in model.named_modules():
        if isinstance(layer, DelayLinear | DelayedRecurrence):
            leaf = "P" if isinstance(layer, DelayLinear) else "delay"
            before = layer.get_parameter(leaf).detach().clone()
            layer.clamp_()
            moved[f"{name}.{leaf}"] = int((layer.get_parameter(leaf) != before).sum())
    return {name: count for name, count in moved.items() if count}


def _bare(model: nn.Module) -> nn.Module:
    """Take off the wrappers of torch.compile and DDP."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner
