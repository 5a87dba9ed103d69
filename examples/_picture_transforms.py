"""What timm makes of a picture by a script's settings: as evaluation shows it, and at random in training."""

import math
from typing import Any

from _pictures import Drawn, Fixed
from timm.data import create_transform
from timm.data.auto_augment import RandAugment
from torchvision.transforms import InterpolationMode, RandomCrop, Resize

from snnkit._suggest import nearest


def check_pixels(settings: Any) -> None:
    """Raise ValueError for numbers of pixels and crops that no picture has."""
    for name, count in (("mean", 3), ("std", 3), ("crop_scale", 2), ("crop_ratio", 2)):
        values, flag = getattr(settings, name), f"--{name.replace('_', '-')}"
        if len(values) != count:
            raise ValueError(f"{flag} takes {count} numbers, got {len(values)}.")
        shares = name in ("mean", "crop_scale")
        for value in values:
            if shares and not 0 <= value <= 1:
                remedy = " Of gray levels: divide by 255." if name == "mean" and value > 1 else ""
                raise ValueError(f"{flag} takes numbers in 0..1, got {value:g}.{remedy}")
            if name != "mean" and not 0 < value < math.inf:
                raise ValueError(f"{flag} takes numbers > 0, got {value:g}.")
        if count == 2 and values[0] > values[1]:
            raise ValueError(f"{flag} takes the least, then the largest, got {values[0]:g} and {values[1]:g}.")


def as_evaluated(settings: Any) -> Fixed:
    """timm's transform for evaluation: resized, its centre, normalised."""
    s = settings
    return Fixed(create_transform(s.size, interpolation="bicubic", mean=s.mean, std=s.std, crop_pct=s.crop))


def augmentation(settings: Any) -> Drawn:
    """timm's transform for training."""
    s = settings
    try:
        transform = create_transform(
            s.size, is_training=True, scale=s.crop_scale, ratio=s.crop_ratio, hflip=s.flip,
            auto_augment=s.augment or None, color_jitter=s.jitter or None, re_prob=s.erase, re_mode=s.erase_mode,
            interpolation="bicubic", mean=s.mean, std=s.std,
        )  # fmt: skip
    except (AssertionError, AttributeError, KeyError) as problem:  # of timm, for a policy that it does not know
        raise ValueError(f"--augment {s.augment}: timm does not know this policy. {problem}".rstrip()) from None
    if s.crop_pad:
        whole = Resize(int(s.size / s.crop), InterpolationMode.BICUBIC)  # as large as evaluation shows it
        transform.transforms[:1] = [whole, RandomCrop(s.size, padding=s.crop_pad)]
    for policy in transform.transforms:
        if s.operations and isinstance(policy, RandAugment):
            names = [op.name for op in policy.ops]
            for name in set(s.operations) - set(names):
                raise ValueError(f"--operations: {s.augment} has no {name!r}.{nearest(name, names)}")
            policy.ops = [op for op in policy.ops if op.name in s.operations]
    return Drawn(transform)
