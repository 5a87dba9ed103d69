"""The published recipes for raw events of a camera, put together from ``drop_event`` and ``warp_event``.

Each takes events with the fields t, x, y, p and goes before the transform that makes frames. EventDrop: Gu, Sng, Hu,
Yu 2021 (IJCAI). EventRPG: Sun, Zhang, Ge, Wang, Chen, Yu, Gu 2024 (ICLR), without the relevance maps that make its
drops and its mix depend on the model that is trained. ``flip`` must be said, see ``augment_recipe``.
"""

from __future__ import annotations

from snnkit.data.address import Sensor
from snnkit.data.drop_event import DropArea, DropEvents, DropTime
from snnkit.data.one_of import OneOf
from snnkit.data.warp_event import EventFlip, EventRotate, EventScale, EventShear, EventTranslate


def event_drop(sensor: Sensor) -> OneOf:
    """EventDrop: one of nothing, ``DropTime``, ``DropArea``, ``DropEvents``, with the paper's magnitudes."""
    return OneOf(None, DropTime(0.1, 0.9), DropArea(sensor, 0.05, 0.25), DropEvents(0.1, 0.9))


def event_rpg(sensor: Sensor, flip: bool) -> OneOf:
    """EventRPG's list with its magnitudes: one of nothing, drops, and warps; a flip only where the class allows it.

    Box of 10 to 50 % of the sides, 10 to 50 % of the events, rotation to pi / 3, translation and shear to 0.3, scale
    0.5 to 1.5; ``flip`` adds the mirror image.
    """
    return OneOf(
        None,
        DropArea(sensor, 0.1, 0.5),
        DropEvents(0.1, 0.5),
        EventRotate(sensor),
        EventTranslate(sensor),
        EventTranslate(sensor, vertical=True),
        EventShear(sensor),
        EventShear(sensor, vertical=True),
        EventScale(sensor),
        *([EventFlip(sensor)] if flip else []),
    )
