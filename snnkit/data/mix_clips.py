"""Mixup and CutMix over whole clips: each sample of a batch is mixed with its mirror place in the batch.

A tool made for pictures takes axis 0 for the batch and would mix time steps; here axis 1 is the batch::

    Mixup (Zhang et al. 2018, ICLR):    x_i = q x_i + (1 - q) x_j,  all steps alike,  q ~ Beta(a, a)
    CutMix (Yun et al. 2019, ICCV):     a box of x_i is taken from x_j, the same in all steps; 1 - q is its area
    both:                               y_i = q y_i + (1 - q) y_j,  j = B - 1 - i

One draw for the whole batch, as timm's Mixup in its mode "batch" does, with which the recipes were published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from snnkit._suggest import NamedArguments
from snnkit.data.collate import Batch
from snnkit.data.frame import checked_probability, happens


@dataclass(frozen=True)
class MixClips(NamedArguments):
    """Mix a batch ``[T, B, C, H, W]``; labels ``[B]`` become ``[B, classes]`` float32, smoothed.

    Args:
        classes: number of classes K.
        mixup: a of Mixup's Beta(a, a); 0: none. Spikformer and Max-Former on events: 0.5.
        cutmix: a of CutMix's; 0: none. Max-Former on events: 0.1.
        probability: of mixing the batch at all.
        switch: probability of CutMix where both are on.
        smoothing: s; a target is 1 - s + s / K for the class, s / K for the others, whether mixed or not.

    With an odd B the sample in the middle stays as it is. A mixed sample is as long as the longer one of the two.
    For the last epochs without mixing, use ``dataclasses.replace(mix, probability=0.0)``: smoothed targets remain.
    Call it with the batch's own generator: ``mix(batch, batch_generator(seed, epoch, k))``.

    Raises:
        ValueError: a negative a, a probability outside of [0, 1]; in the call, no clips, labels that were mixed before,
            or beyond the classes.
    """

    classes: int
    mixup: float = 0.5
    cutmix: float = 0.0
    probability: float = 0.5
    switch: float = 0.5
    smoothing: float = 0.1
    draws = True

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"MixClips: {name} must be >= 0, got {getattr(self, name)}.")
        for value in (self.probability, self.switch, self.smoothing):
            checked_probability(value, "MixClips")

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """The mixed batch; the one given is left as it is."""
        x, labels, lengths = batch
        if x.ndim != 5:
            raise ValueError(f"MixClips takes clips [T, B, C, H, W], got shape {tuple(x.shape)}.")
        if labels.ndim != 1:
            raise ValueError(f"MixClips takes labels [B], got shape {tuple(labels.shape)}; was it mixed before?")
        if len(labels) and int(labels.max()) >= self.classes:
            raise ValueError(f"MixClips was made for {self.classes} classes, got the label {int(labels.max())}.")
        hot = torch.nn.functional.one_hot(labels, self.classes).float()
        targets = (1 - self.smoothing) * hot + self.smoothing / self.classes
        # The same numbers are drawn whatever happens, so that a changed probability leaves later draws alone.
        mixes, cuts = happens(self.probability, rng), happens(self.switch, rng)
        place = rng.random(2)
        cuts = self.cutmix > 0 and (cuts or not self.mixup)
        alpha = self.cutmix if cuts else self.mixup
        if not mixes or not alpha:
            return Batch(x, targets, lengths)
        keep = float(rng.beta(alpha, alpha))
        if cuts:
            rows, columns = _box(x.shape[-2], x.shape[-1], keep, place)
            mixed = x.clone()
            mixed[..., rows, columns] = x.flip(1)[..., rows, columns]
            area = (rows.stop - rows.start) * (columns.stop - columns.start)
            keep = 1 - area / (x.shape[-2] * x.shape[-1])
        else:
            values = x if x.is_floating_point() else x.float()
            mixed = keep * values + (1 - keep) * values.flip(1)
        return Batch(mixed, keep * targets + (1 - keep) * targets.flip(0), torch.maximum(lengths, lengths.flip(0)))


def _box(height: int, width: int, keep: float, place: np.ndarray) -> tuple[slice, slice]:
    """A box of sides sqrt(1 - keep) of the frame's about a uniform pixel, cut off at the border."""
    edges = []
    for size, where in zip((height, width), place.tolist(), strict=True):
        side = int(size * math.sqrt(1 - keep))
        begin = int(where * size) - side // 2
        edges.append(slice(max(begin, 0), min(begin + side, size)))
    return edges[0], edges[1]
