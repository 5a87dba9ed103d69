"""Constructor arguments as JSON and back: numbers, texts, lists, and the toolkit's own small objects.

An object such as ``ATan(5.0)`` is stored as its name and its numbers, a class as its name. Reading looks names up in
this package and calls nothing else, so that no file can run code of its own.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from typing import Any

from snnkit.equations.parametric import Parametric

PACKAGES = ("equations", "ops", "nn", "models")


def encode(value: Any) -> Any:
    """Return what ``json`` can write for a number, text, None, list, or an object or class of this package.

    Raises:
        TypeError: something else, e.g. a function, an object around one (``Custom(f)``), or a class of the user's.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if inspect.isclass(value):
        return {"class": _name(value)}
    cls = type(value)
    name = _name(cls)
    if isinstance(value, Parametric):  # what it is beside numbers and options, they can't bring back
        more = sorted(vars(value).keys() - {*value.parameter_names, *value.option_names})
        if more:
            raise TypeError(f"{cls.__name__} holds more than numbers and options: {', '.join(more)}")
    try:
        return {"object": name, "arguments": {key: encode(getattr(value, key)) for key in _argument_names(cls)}}
    except (AttributeError, ValueError) as error:
        raise TypeError(f"{cls.__name__} does not keep its arguments: {error}") from error


def decode(value: Any) -> Any:
    """Inverse of :func:`encode`; lists stay lists.

    Raises:
        ValueError: a name that is no class of this package.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"class"}:
        return _find(value["class"])
    if set(value) == {"object", "arguments"} and isinstance(value["arguments"], dict):
        return _find(value["object"])(**{key: decode(item) for key, item in value["arguments"].items()})
    raise ValueError(f"{value!r} is neither a class nor an object of snnkit.")


def metadata_text(metadata: dict[str, Any]) -> str:
    """Return a user's own notes as JSON.

    Raises:
        TypeError: a value that JSON can't hold; the message has its name, type and remedy.
    """
    for name, value in metadata.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            convertible = hasattr(value, "item") and hasattr(value, "tolist")  # tensors and numpy
            remedy = f"{name}.tolist()" if convertible else "numbers, texts, lists and dicts of these"
            raise TypeError(f"Metadata must fit into JSON, got {name}={kind} ({error}). Give {remedy}.") from error
    return json.dumps(metadata)


def _argument_names(cls: type) -> list[str]:
    numbers = getattr(cls, "parameter_names", None)
    if numbers is not None:  # equations, surrogates, resets
        return [*numbers, *getattr(cls, "option_names", ())]
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return [key for key in inspect.signature(cls).parameters]


def _name(cls: type) -> str:
    top, _, rest = cls.__module__.partition(".")
    package = rest.split(".")[0]
    if top != "snnkit" or package not in PACKAGES:
        raise TypeError(f"{cls.__module__}.{cls.__qualname__} is not part of snnkit")
    # The public place if there is one: it outlives a move from file to file.
    for place in (package, rest):
        if getattr(importlib.import_module(f"snnkit.{place}"), cls.__qualname__, None) is cls:
            return f"{place}.{cls.__qualname__}"
    raise TypeError(f"{cls.__qualname__} can't be found by name in {cls.__module__}")


def _find(name: Any) -> type:
    place, _, attribute = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    found = None
    if place.split(".")[0] in PACKAGES:
        try:
            found = getattr(importlib.import_module(f"snnkit.{place}"), attribute, None)
        except ImportError:
            found = None
    if not inspect.isclass(found) or not found.__module__.startswith("snnkit."):
        raise ValueError(f"{name!r} is no class of snnkit.")
    return found
