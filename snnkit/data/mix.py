"""CutMix along time, on a whole batch: a patch of each sample's time is taken from another sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from snnkit._suggest import NamedArguments
from snnkit.data.collate import Batch
from snnkit.data.frame import checked_probability, happens


@dataclass(frozen=True)
class CutMix(NamedArguments):
    """Replace n steps of sample i by the same steps of its partner j; ``y_i = (1 - n / T_i) y_i + (n / T_i) y_j``.

    Partners are a random permutation of the batch, all samples are read before any is written, the patch lies
    inside both samples' lengths, and labels are weighed by the steps that were really exchanged. (SNN-delays' code
    takes the next sample, in place, so that an already mixed one may be the source, and leaves the last unmixed.)

    Args:
        classes: number of classes; labels come out as ``[B, classes]`` float32, which ``cross_entropy`` takes.
        probability: of mixing each sample.

    Call it with the batch's own generator: ``mix(batch, batch_generator(seed, epoch, k))``.

    Raises:
        ValueError: in the call, labels that were mixed before, or beyond the classes.
    """

    classes: int
    probability: float = 0.5
    draws = True

    def __post_init__(self) -> None:
        checked_probability(self.probability, "CutMix")

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """The mixed batch; the one given is left as it is."""
        x, labels, lengths = batch
        if labels.ndim != 1:
            raise ValueError(f"CutMix takes labels [B], got shape {tuple(labels.shape)}; was this batch mixed before?")
        if len(labels) and int(labels.max()) >= self.classes:
            raise ValueError(f"CutMix was made for {self.classes} classes, got the label {int(labels.max())}.")
        mixed = x.clone()
        targets = torch.nn.functional.one_hot(labels, self.classes).float()
        soft = targets.clone()
        steps = lengths.tolist()
        partners = rng.permutation(len(steps))
        for i, j in enumerate(partners.tolist()):
            # Each sample draws the same numbers, mixed or not: one sample's length leaves the others' draws alone.
            mixes, share, place = happens(self.probability, rng), rng.random(), rng.random()
            common = min(steps[i], steps[j])
            patch = min(round(share * steps[i]), common)
            if not mixes or not patch:
                continue
            start = int(place * (common - patch + 1))
            mixed[start : start + patch, i] = x[start : start + patch, j]
            weight = patch / steps[i]
            soft[i] = (1 - weight) * targets[i] + weight * targets[j]
        return Batch(mixed, soft, lengths)
