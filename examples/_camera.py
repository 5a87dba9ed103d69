"""The simulated event camera that sees the pictures of ``--dataset pictures``, from ``--camera KEY=VALUE ...``."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from snnkit._suggest import nearest
from snnkit.data import DVSCamera
from snnkit.data.moving_pictures import CAMERA_OF_PICTURES


def camera(texts: Sequence[str]) -> DVSCamera:
    """The usual camera of pictures with these changes.

    >>> camera(["contrast=0.3", "refractory_us=500"])
    DVSCamera(contrast=0.3, spread=0.046, refractory_us=500, noise_hz=0.05, dark=0.5)
    """
    known = {f.name: type(getattr(CAMERA_OF_PICTURES, f.name)) for f in fields(DVSCamera)}
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in values:
            raise ValueError(f"--camera has {name} twice, got {text!r}, too. Leave one out.")
        if name not in known:
            raise ValueError(f"--camera has no {name!r}.{nearest(name, known)} It takes: {', '.join(known)}.")
        try:
            values[name] = known[name](value)
        except ValueError:
            kind = "a whole number" if known[name] is int else "a number"
            raise ValueError(f"--camera expects {name}=VALUE, {kind}, got {text!r}.") from None
    try:
        return replace(CAMERA_OF_PICTURES, **values)
    except ValueError as problem:
        raise ValueError(f"--camera: {problem}") from None
