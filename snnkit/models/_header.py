"""The header of our own checkpoints: what a file says of its model beside the tensors, written and read."""

from __future__ import annotations

import json
import warnings
from typing import Any

from torch import nn

from snnkit.models._classifier import Classifier
from snnkit.models._objects import decode, encode, metadata_text

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
            "asked": json.loads(header["asked"]),
            "metadata": json.loads(header["metadata"]),
        }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: its header can't be read ({error}).") from error


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
