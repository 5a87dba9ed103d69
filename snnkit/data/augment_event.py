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
    """EventRPG: one of nothing, drops, and warps, with the magnitudes of the authors' own code (``utils/augment.py``).

    Box of 10 to 50 % of the sides, 10 to 50 % of the events, rotation to pi / 3, translation and shear to 0.3, scale
    0.5 to 1.5; ``flip`` adds the mirror image, which theirs always has. Theirs drops single events by the model's
    relevance maps; here they are drawn at random.

    The longer ``EventAugment`` that lies in Max-Former's repository, where no training uses it, is another list: drops
    by time, noise, a tilt of time, shifts of each event, flips in y and time, and wider ranges (rotation to pi / 2,
    translation to 0.6, shear to 1, scale 0.2 to 2). ``OneOf`` makes such a list of the operations that are here; noise,
    the tilt of time, shifts of each event and flips in y and time are not.
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
