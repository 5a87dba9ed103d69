"""The simulated event camera that sees the pictures of ``--dataset pictures``, from ``--camera KEY=VALUE ...``."""

from collections.abc import Sequence
from dataclasses import fields, replace

from _keyed import keyed

from snnkit.data import DVSCamera
from snnkit.data.moving_pictures import CAMERA_OF_PICTURES


def camera(texts: Sequence[str]) -> DVSCamera:
    """The usual camera of pictures with these changes.

    >>> camera(["contrast=0.3", "refractory_us=500"])
    DVSCamera(contrast=0.3, spread=0.046, refractory_us=500, noise_hz=0.05, dark=0.5)
    """
    kinds = {f.name: type(getattr(CAMERA_OF_PICTURES, f.name)) for f in fields(DVSCamera)}
    values = keyed("--camera", texts, kinds)
    try:
        return replace(CAMERA_OF_PICTURES, **values)
    except ValueError as problem:
        raise ValueError(f"--camera: {problem}") from None
