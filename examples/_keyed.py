"""Options of the form ``--option KEY=VALUE ...``: read, and refused by name where they do not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

from snnkit._suggest import nearest


def keyed(option: str, texts: Sequence[str], kinds: Mapping[str, type]) -> dict[str, Any]:
    """The values of an option by name; ``kinds`` are the names it takes, each with ``int`` or ``float``.

    >>> keyed("--camera", ["contrast=0.3", "refractory_us=500"], {"contrast": float, "refractory_us": int})
    {'contrast': 0.3, 'refractory_us': 500}
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise ValueError(f"{option} has no {name!r}.{nearest(name, kinds)} It takes: {', '.join(kinds)}.")
        if name in values:
            raise ValueError(f"{option} has {name} twice, got {text!r}, too. Leave one out.")
        try:
            values[name] = kinds[name](value)
        except ValueError:
            kind = "a whole number" if kinds[name] is int else "a number"
            raise ValueError(f"{option} expects {name}=VALUE, {kind}, got {text!r}.") from None
    return values
