"""The published recipes for clips of an event camera, put together from ``augment_clip``.

Each is for one sample ``[T, 2, H, W]``; mixing over the batch comes after it, see ``MixClips``. ``flip`` must be said:
pictures keep their class in the mirror (CIFAR10-DVS, N-Caltech101), gestures, digits and letters do not. The papers'
code flips DVS128 Gesture, too.
"""

from __future__ import annotations

from snnkit.data.augment_clip import ClipCutout, ClipFlip, ClipRoll, ClipRotate, ClipShear, ClipTranslate
from snnkit.data.compose import Compose
from snnkit.data.one_of import OneOf


def snn_augment_wide(pixels: float = 5) -> OneOf:
    """SNNAugmentWide of Spikformer's code: one of nothing, shear x, translate x, translate y, rotate, cutout.

    Shear to 0.3 rad, translation to 5 pixels (of 128; give less for smaller frames), rotation to 30 degrees, a square
    of 0.1 to 11 % of the frame.
    """
    return OneOf(
        None, ClipShear(0.3), ClipTranslate(pixels), ClipTranslate(pixels, vertical=True), ClipRotate(30), ClipCutout()
    )


def spikformer_recipe(flip: bool, pixels: float = 5) -> Compose:
    """Spikformer's and Max-Former's: a flip with probability 0.5 (where ``flip``), then ``snn_augment_wide``."""
    return Compose(*([ClipFlip()] if flip else []), snn_augment_wide(pixels))


def spike_driven_recipe(flip: bool, pixels: int = 5) -> Compose:
    """Spike-driven Transformer's: a flip with probability 0.5 (where ``flip``), then a roll along both axes."""
    return Compose(*([ClipFlip()] if flip else []), ClipRoll(pixels))
