"""The header of our own checkpoints: what a file says of its model beside the tensors, written and read."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from snnkit.models._classifier import Classifier
from snnkit.models._objects import decode, encode, metadata_text
from snnkit.nn._delay_positions import Positioned

FORMAT = "1"  # a reader refuses another one


def written(model: nn.Module, metadata: dict[str, Any]) -> dict[str, str]:
    """The header of a model's file. Arguments that JSON can't hold are left out and named under ``asked``.

    Raises:
        TypeError: metadata that JSON can't hold.
    """
    from snnkit import __version__

    arguments, asked = {}, []
    for name, value in getattr(model, "arguments", {}).items():
        try:
            arguments[name] = encode(value)
        except TypeError:
            asked.append(name)
    return {
        "format": FORMAT,
        "snnkit": __version__,
        "class": type(model).__name__,
        "variant": getattr(model, "variant", ""),
        "arguments": json.dumps(arguments),
        "taps": json.dumps(taps(model)),
        "asked": json.dumps(asked),
        "metadata": metadata_text(metadata),
    }


def read(header: dict[str, str], where: str) -> dict[str, Any]:
    """Class, variant, version, arguments, asked and metadata of a header; nothing where it is another tool's.

    Raises:
        ValueError: a format of a later version, or a header that can't be read.
    """
    if "snnkit" not in header:
        return {}
    if header.get("format") != FORMAT:
        raise ValueError(f"{where} was written by snnkit {header['snnkit']} in a format unknown here. Update snnkit.")
    try:
        arguments = json.loads(header["arguments"])
        return {
            "class": header["class"],
            "variant": header["variant"],
            "version": header["snnkit"],
            "arguments": {name: decode(value) for name, value in arguments.items()},
            "taps": json.loads(header.get("taps", "{}")),
            "asked": json.loads(header["asked"]),
            "metadata": json.loads(header["metadata"]),
        }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: its header can't be read ({error}).") from error


def taps(model: nn.Module) -> dict[str, int]:
    """``max_delay`` of each layer whose positions count from the middle of its taps, by the layer's name."""
    return {name: layer.max_delay for name, layer in model.named_modules() if isinstance(layer, Positioned)}


def compare_taps(model: nn.Module, saved: Mapping[str, Any], where: str) -> None:
    """Positions of other taps would be other delays without a word; ``saved``: ``max_delay`` by layer, if it is known.

    Raises:
        ValueError: a layer has another number of taps.
    """
    for name, count in taps(model).items():
        if saved.get(name, count) != count:
            raise ValueError(
                f"{where}: {f'layer {name!r}' if name else 'the layer'} was saved with max_delay={saved[name]!r}, this "
                f"model's has {count}: its positions would be other delays. Build the model with the file's max_delay."
            )


def compare_arguments(model: Classifier, info: dict[str, Any], where: str) -> None:
    """Arguments that no tensor shows (a time constant, a threshold) would change the network without a word.

    Raises:
        ValueError: one of the model's ``must_match`` differs; any other gets a warning.
    """
    for name, value in info["arguments"].items():
        try:
            same = encode(model.arguments.get(name)) == encode(value)
        except TypeError:
            continue
        if same or name == "num_classes":
            continue
        text = f"{where} was saved with {name}={value!r}, this model has {name}={model.arguments.get(name)!r}."
        if name in model.must_match:
            raise ValueError(f"{text} Build it with load_model(path), or with {name}={value!r}.")
        warnings.warn(text, stacklevel=4)
