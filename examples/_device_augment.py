"""Augmentation of whole batches on the device, for sets that lie there: no worker touches a sample.

Every number is drawn from (seed, epoch, sample): row i of one table of uniform numbers for each epoch. All steps of a
clip get the same change, but for ``loop``. With u, v in -1..1 of the sample, the grid of pixels (x, y) about the middle
is read at

    A (x, y) - (u, v) shift,    A = rotation by u rotate, times shear by u shear along x, divided by 1 + u zoom

bilinearly in pictures, at the nearest pixel in clips of counts; what lies outside is 0, the mean of normalised pixels.
Elastic distortion (after Simard, Steinkraus, Platt 2003) moves each place by a field besides, drawn at 4 x 4 points
and bilinear between them.

Before some cameras pictures move along a closed path, round by round (CIFAR10-DVS: four legs of a square, Li et al.
2017). A frame is then like that of the same place in another round and, with its polarities exchanged, like that of the
opposite place, where the picture moves back: the same edges with other noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from _keyed import keyed
from torch import Tensor
from torch.nn import functional as F

from snnkit.data import Batch, OnDevice

DRAWS = 13  # uniform numbers a sample
POINTS = 4  # of the field of elastic distortion, along each axis
MOST = {"flip": 1.0, "erase": 1.0, "contrast": 1.0, "zoom": 0.9, "rotate": 180.0}  # more has no meaning


@dataclass(frozen=True)
class BatchAugment:
    """Change a batch ``[T, B, C, H, W]`` by uniform numbers ``[B, DRAWS]``; an amount of 0 leaves a kind out.

    Args:
        flip: probability of mirroring left and right.
        shift: pixels along each axis, whole ones if nothing is turned.
        rotate: degrees.
        shear: shift along x by this share of y.
        zoom: share by which the size changes.
        elastic: pixels by which a field moves places, at most, along each axis.
        erase: probability of a rectangle of zeros, 2 to 25 % of the frame.
        contrast: share by which differences from the picture's mean change.
        brightness: what is added, in standard deviations.
        loop: frames of a round of a closed path; each frame becomes one of those that are like it, by chance.
    """

    flip: float = 0.0
    shift: float = 0.0
    rotate: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    elastic: float = 0.0
    erase: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    loop: float = 0.0

    @classmethod
    def parsed(cls, texts: Sequence[str]) -> "BatchAugment":
        """From ``["flip=0.5", "shift=4"]``."""
        amounts = keyed("--on-device", texts, dict.fromkeys((f.name for f in fields(cls)), float))
        for name, amount in amounts.items():
            if not 0 <= amount < math.inf:
                raise ValueError(f"--on-device {name} must be >= 0 and finite, got {amount:g}.")
            if amount > MOST.get(name, math.inf):
                raise ValueError(f"--on-device {name} must be at most {MOST[name]:g}, got {amount:g}.")
        if amounts.get("loop", 0.0) % 2:
            raise ValueError(f"--on-device loop must be even, with an opposite to each frame, got {amounts['loop']:g}.")
        return cls(**amounts)

    def refuse(self, steps: int, channels: int) -> None:
        """Raise ValueError if clips of so many frames and polarities have no rounds."""
        if self.loop and (steps % self.loop or channels != 2):
            raise ValueError(
                f"--on-device loop={self.loop:g} needs a number of frames that it divides, of two polarities, "
                f"got {steps} of {channels}. Change --steps or leave it out."
            )

    def columns(self, steps: int) -> int:
        """Uniform numbers that a sample of so many steps takes."""
        return DRAWS + (2 * POINTS**2 if self.elastic else 0) + (steps if self.loop else 0)

    def __call__(self, x: Tensor, u: Tensor, mode: str) -> Tensor:
        """The changed batch; ``u`` has as many ``columns`` as a clip of this length takes."""
        if self.loop:
            x = self._rounds(x, u[:, -len(x) :])
        steps, count, channels, height, width = x.shape
        signed = 2 * u - 1
        grid = F.affine_grid(self._affine(u, signed, height, width), [count, 1, height, width], align_corners=False)
        if self.elastic:
            grid = grid + self._field(signed[:, DRAWS : DRAWS + 2 * POINTS**2], height, width)
        x = x.transpose(0, 1).reshape(count, steps * channels, height, width)
        x = F.grid_sample(x, grid, mode, "zeros", align_corners=False)
        if self.erase:
            x = x * self._kept(u, height, width)
        if self.contrast:
            mean = x.mean((1, 2, 3), keepdim=True)
            x = mean + (x - mean) * (1 + self.contrast * signed[:, 10, None, None, None])
        if self.brightness:
            x = x + self.brightness * signed[:, 11, None, None, None]
        return x.view(count, steps, channels, height, width).transpose(0, 1)

    def _rounds(self, x: Tensor, u: Tensor) -> Tensor:
        """Each frame from another round, or from the opposite place of one with its polarities exchanged."""
        loop, rounds = int(self.loop), len(x) // int(self.loop)
        drawn = (u.T * 2 * rounds).long()  # [T, B]
        opposite, frame = drawn % 2 == 1, torch.arange(len(x), device=x.device)[:, None]
        place = torch.where(opposite, frame + loop // 2, frame) % loop
        x = x[drawn // 2 * loop + place, torch.arange(x.shape[1], device=x.device)]
        return torch.where(opposite[:, :, None, None, None], x.flip(2), x)

    def _field(self, signed: Tensor, height: int, width: int) -> Tensor:
        """How far each place is moved, ``[B, H, W, 2]``, in -1..1 of the frame."""
        points = signed.view(-1, 2, POINTS, POINTS)
        x, y = F.interpolate(points, (height, width), mode="bilinear", align_corners=True).unbind(1)
        return torch.stack([2 * self.elastic / width * x, 2 * self.elastic / height * y], 3)

    def _affine(self, u: Tensor, signed: Tensor, height: int, width: int) -> Tensor:
        """Matrices ``[B, 2, 3]`` from places in the new frame to places in the old one, both in -1..1."""
        angle = math.radians(self.rotate) * signed[:, 0]
        size = 1 + self.zoom * signed[:, 1]
        shear = self.shear * signed[:, 2]
        mirror = torch.where(u[:, 3] < self.flip, -1.0, 1.0)
        x, y = self.shift * signed[:, 4], self.shift * signed[:, 5]
        if not (self.rotate or self.zoom or self.shear or self.elastic):
            x, y = x.round(), y.round()  # no pixel is blurred
        cos, sin = angle.cos() / size, angle.sin() / size
        rows = [mirror * cos, mirror * (shear * cos - sin), 2 * x / width, sin, cos + shear * sin, 2 * y / height]
        return torch.stack(rows, 1).view(-1, 2, 3)

    def _kept(self, u: Tensor, height: int, width: int) -> Tensor:
        """1 where a pixel stays, 0 in the rectangle, ``[B, 1, H, W]``."""
        area = (0.02 + 0.23 * u[:, 7]) * (u[:, 6] < self.erase)
        ratio = 2 ** (2 * u[:, 8] - 1)  # height / width in 1/2 .. 2
        tall, wide = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)

        def inside(pixels: int, side: Tensor, place: Tensor) -> Tensor:
            middle = (torch.arange(pixels, device=u.device) + 0.5) / pixels
            start = (place * (1 - side))[:, None]
            return (middle >= start) & (middle < start + side[:, None])

        rows, columns = inside(height, tall, u[:, 9]), inside(width, wide, u[:, 12])
        return 1 - (rows[:, :, None] & columns[:, None, :]).to(u.dtype)[:, None]


class Augmented(OnDevice):
    """A data set on the device whose batches are changed anew in each epoch.

    Args:
        dataset: samples ``[T, C, H, W]``, the same in each epoch.
        device: where they lie.
        augment: the change.
        seed: of the draws.
        mode: ``bilinear`` or ``nearest``.
    """

    draws = True

    def __init__(self, dataset: Any, device: torch.device, augment: BatchAugment, seed: int, mode: str) -> None:
        super().__init__(dataset, device)
        self.augment, self.seed, self.mode = augment, seed, mode
        steps, channels = dataset[0][0].shape[:2]
        augment.refuse(steps, channels)
        self.columns = augment.columns(steps)
        self.table = (-1, torch.empty(0))

    def batch(self, indices: Sequence[int]) -> Batch:
        """The changed batch of these samples."""
        epoch = getattr(indices[0], "epoch", self.epoch)
        if self.table[0] != epoch:
            sequence = np.random.SeedSequence(self.seed, spawn_key=(3, epoch))  # 0 to 2 are the data floor's
            table = np.random.default_rng(sequence).random((len(self), self.columns), np.float32)
            self.table = (epoch, torch.from_numpy(table).to(self.device))
        batch = super().batch(indices)
        u = self.table[1][torch.tensor([int(i) for i in indices], device=self.device)]
        return batch._replace(x=self.augment(batch.x, u, self.mode))
