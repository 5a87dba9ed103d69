"""Spoken digits as flat arrays of spikes on the device, and batches of frames made from them, augmented spike by spike.

A batch costs one gather and one scatter, whatever is drawn. Each sample's spikes (t, u), t in steps from its first
spike, u in 0..700 from base to apex, go to

    t' = t stretch + shift,    u' = 350 + (u - 350) warp + bend ((u - 350) / 350)^2 + transpose + jitter N(0, 1),

all but ``jitter`` one number a sample. Each spike then survives with the sample's ``keep``, less in a band or two (the
colour of a room or a microphone); masks silence steps and bands; the rest is counted in bins, and spikes that nobody
spoke are added. A sample may share its frame with a partner (both thinned to their shares), or have a part of its time
replaced by the partner's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkit.data import Batch, SpikeHDF5

UNITS = 700


@dataclass(frozen=True)
class Augment:
    """How much of each; 0 leaves it out. Shares and amounts are the ends of uniform ranges."""

    stretch: float = 0.0  # time runs up to so much faster or slower
    shift: int = 0  # steps later
    transpose: float = 0.0  # units up or down: a higher or lower voice
    warp: float = 0.0  # share by which the scale of units changes
    bend: float = 0.0  # units by which both ends move the same way, against the middle
    jitter: float = 0.0  # units, of each spike on its own
    thin: float = 0.0  # largest share of spikes that are lost
    colour: float = 0.0  # largest share that is lost where a cosine over the units is lowest
    noise: float = 0.0  # most foreign spikes a bin
    time_mask: int = 0  # steps
    band_mask: int = 0  # units
    mix: float = 0.0  # probability of sharing the frame with another class
    blend: float = 0.0  # probability of sharing the frame with another sample of the same class
    cut: float = 0.0  # probability of CutMix along time


class Spikes:
    """One part of the data set; frames of ``step_ms`` and ``merge`` units are made as they are asked for."""

    def __init__(self, folder: Path, part: str, device: torch.device, step_ms: float = 10.0, merge: int = 5) -> None:
        stored = SpikeHDF5(folder, part)
        events = [stored.stored(i) for i in range(len(stored.labels))]
        stored.close()
        self.labels = torch.from_numpy(np.asarray(stored.labels, np.int64))
        self.speakers = np.asarray(stored.speakers)
        self.classes, self.inputs, self.device = len(stored.classes), UNITS // merge, device
        self.merge = merge
        times = [(e["t"] - e["t"][0]) * (1000 / step_ms) for e in events]
        self.count = torch.tensor([len(t) for t in times])
        self.first = self.count.cumsum(0) - self.count
        self.last = torch.tensor([t[-1] for t in times], dtype=torch.float32)
        self.times = torch.from_numpy(np.concatenate(times).astype(np.float32)).to(device)
        self.units = torch.from_numpy(np.concatenate([e["x"] for e in events]).astype(np.float32) + 0.5).to(device)
        self.of_class = [np.flatnonzero(self.labels.numpy() == c) for c in range(self.classes)]

    def batch(self, chosen: Tensor) -> Batch:
        """The frames of these samples as they are, ``[T, B, inputs]``; classes as numbers."""
        steps = self.last[chosen].floor().long() + 1
        x = self._frames(chosen, torch.zeros(len(chosen), 7), torch.ones(len(chosen)), _rounded(steps), 0.0)
        return Batch(x, self.labels[chosen].to(self.device), steps.to(self.device))

    def augmented(self, chosen: Tensor, pool: np.ndarray, a: Augment, rng: np.random.Generator) -> Batch:
        """Frames with all that ``a`` asks for; classes as shares. Partners come from the samples of ``pool``."""
        count = len(chosen)
        kind = rng.random(count)
        share = np.where(kind < a.mix + a.blend, rng.uniform(0.5, 1.0, count), 1.0)
        anyone = rng.choice(pool, count)
        relatives = self._relatives(chosen, pool, rng) if a.blend else anyone
        partner = torch.from_numpy(np.where((kind >= a.mix) & (kind < a.mix + a.blend), relatives, anyone))
        own, other = _draws(count, a, rng), _draws(count, a, rng)
        kept = 1 - a.thin * rng.random(count)
        cut = rng.random(count) < a.cut
        two = bool((share < 1).any() or cut.any())
        steps = self._steps(chosen, own)
        if two:
            steps_2 = self._steps(partner, other)
            mixed = torch.from_numpy(share < 1)
            steps = torch.where(mixed, torch.maximum(steps, steps_2), steps)
        size = _rounded(torch.maximum(steps, steps_2) if two else steps)
        share_t, kept_t = torch.from_numpy(share).float(), torch.from_numpy(kept).float()
        x = self._frames(chosen, own, share_t * kept_t, size, a.jitter)
        target = torch.nn.functional.one_hot(self.labels[chosen], self.classes).float()
        if two:
            theirs_t = torch.where(mixed, 1 - share_t, torch.ones(count))
            y = self._frames(partner, other, theirs_t * kept_t, size, a.jitter)
            theirs = torch.nn.functional.one_hot(self.labels[partner], self.classes).float()
            both = (mixed & ~torch.from_numpy(cut)).float()
            length = torch.from_numpy(cut * rng.uniform(0.1, 0.6, count)).float() * steps
            start = torch.from_numpy(rng.random(count)).float() * (steps - length)
            t = torch.arange(size, device=self.device)[:, None]
            patch = (t >= start.to(self.device)) & (t < (start + length).to(self.device))
            x = torch.where(patch[..., None], y, x + y * both.to(self.device)[:, None])
            weight = torch.where(torch.from_numpy(cut), length / steps, (1 - share_t) * both)[:, None]
            target = (1 - weight) * target + weight * theirs
        return Batch(self._spoiled(x, steps, a, rng), target.to(self.device), steps.to(self.device))

    def _relatives(self, chosen: Tensor, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A sample of the pool of the same class for each."""
        classes = self.labels.numpy()
        same = [pool[classes[pool] == c] for c in range(self.classes)]
        return np.array([rng.choice(same[classes[int(i)]]) for i in chosen])

    def _steps(self, chosen: Tensor, draws: Tensor) -> Tensor:
        return (self.last[chosen] * (1 + draws[:, 0]) + draws[:, 1]).floor().long() + 1

    def _frames(self, chosen: Tensor, draws: Tensor, keep: Tensor, steps: int, jitter: float) -> Tensor:
        """Counts ``[steps, B, inputs]`` of the moved spikes."""
        count, batch = self.count[chosen], len(chosen)
        total = int(count.sum())
        # Where a sample's spikes lie, less where they lie among those of the batch.
        offset = self.first[chosen] - (count.cumsum(0) - count)
        table = torch.cat([draws, keep[:, None]], 1).to(self.device, non_blocking=True)
        sample = torch.arange(batch, device=self.device).repeat_interleave(count.to(self.device), output_size=total)
        index = torch.arange(total, device=self.device) + offset.to(self.device)[sample]
        stretch, shift, transpose, warp, bend, colour, phase, kept = table[sample].unbind(1)
        t = self.times[index] * (1 + stretch) + shift
        place = self.units[index] / (UNITS / 2) - 1
        waves = (1.5 - 0.5 * colour.sign()) * torch.pi  # positive and negative colours: a period of 700 and 350 units
        kept = kept * (1 - colour.abs() * (0.5 + 0.5 * torch.cos(waves * place + phase)))
        u = (1 + (1 + warp) * place) * (UNITS / 2) + bend * place.square() + transpose
        if jitter:
            u = u + jitter * torch.randn_like(u)
        inside = (u >= 0) & (u < UNITS) & (torch.rand_like(u) < kept)
        step, channel = t.long().clamp(0, steps - 1), (u.clamp(0, UNITS - 1) / self.merge).long()
        x = torch.zeros(steps * batch * self.inputs, device=self.device)
        x.index_add_(0, (step * batch + sample) * self.inputs + channel, inside.float())
        return x.view(steps, batch, self.inputs)

    def _spoiled(self, x: Tensor, steps: Tensor, a: Augment, rng: np.random.Generator) -> Tensor:
        """With foreign spikes, and without those of a mask."""
        count = x.shape[1]
        t = torch.arange(len(x), device=self.device)[:, None]
        heard = t < steps.to(self.device)
        if a.noise:
            rate = torch.from_numpy(a.noise * rng.random(count)).float().to(self.device)
            x = x + torch.poisson((rate * heard)[..., None].expand_as(x))
        if a.time_mask:
            length = torch.from_numpy(a.time_mask * rng.random(count)).float()
            start = torch.from_numpy(rng.random(count)).float() * (steps - length)
            x = x.masked_fill(((t >= start.to(self.device)) & (t < (start + length).to(self.device)))[..., None], 0.0)
        if a.band_mask:
            width = a.band_mask * rng.random(count) / self.merge
            start = rng.random(count) * (self.inputs - width)
            edges = torch.from_numpy(np.stack([start, start + width])).float().to(self.device)[..., None]
            place = torch.arange(self.inputs, device=self.device)
            x = x.masked_fill((place >= edges[0]) & (place < edges[1]), 0.0)
        return x


def _draws(count: int, a: Augment, rng: np.random.Generator) -> Tensor:
    """Stretch, shift, transpose, warp, bend, colour and its phase of each sample, ``[B, 7]``."""
    u = rng.uniform(-1, 1, (count, 7))
    scale = [a.stretch, a.shift / 2, a.transpose, a.warp, a.bend, a.colour, np.pi]
    u[:, 1] += 1  # shifts are later, never earlier
    return torch.from_numpy(u * scale).float()


def _rounded(steps: Tensor) -> int:
    """The longest, up to a multiple of 8: few sizes of batches."""
    return -(-int(steps.max()) // 8) * 8
