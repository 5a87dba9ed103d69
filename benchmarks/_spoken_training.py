"""One training of a small network on the spoken digits: recipe, loop, score. Nothing is chosen in here.

The last epoch counts, of the weights' running average. A fold leaves one training speaker out, and scores on that one.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from _spoken_events import Augment, Spikes
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import snnkit
from snnkit.models.delay_snn_plus import DelaySNNPlus
from snnkit.nn import SigmaSchedule
from snnkit.nn.losses import cross_entropy


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained; ``model`` are keywords of ``DelaySNNPlus``."""

    model: dict[str, Any] = field(default_factory=dict)
    augment: Augment = Augment()
    epochs: int = 100
    batch: int = 128
    lr: float = 5e-3  # peak of one cycle, AdamW
    lr_delay: float = 0.05
    decay: float = 0.01
    smoothing: float = 0.1  # of the labels
    average: float = 0.99  # decay of the weights' average, a step
    sigma_share: float = 0.4  # of the epochs, in which delays narrow
    step_ms: float = 10.0
    merge: int = 5  # units an input

    def changed(self, **changes: Any) -> Recipe:
        """With other values: of fields here, of ``Augment``, and what is neither, of the network."""
        own = {f.name for f in dataclasses.fields(self)} - {"model", "augment"}
        drawn = {f.name for f in dataclasses.fields(Augment)}
        augment = dataclasses.replace(self.augment, **{k: v for k, v in changes.items() if k in drawn})
        model = self.model | {k: v for k, v in changes.items() if k not in own | drawn}
        return dataclasses.replace(
            self, model=model, augment=augment, **{k: v for k, v in changes.items() if k in own}
        )


def fold(speakers: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Samples to train on, samples of the speaker who is left out, and who that is."""
    left_out = int(np.unique(speakers)[number])
    return np.flatnonzero(speakers != left_out), np.flatnonzero(speakers == left_out), left_out


def build(recipe: Recipe, spikes: Spikes) -> DelaySNNPlus:
    """The network, fresh."""
    return DelaySNNPlus(in_features=spikes.inputs, num_classes=spikes.classes, **recipe.model)


@dataclass
class Trained:
    """What a training leaves: the averaged network, the last one, and its course."""

    averaged: DelaySNNPlus
    last: DelaySNNPlus
    loss: float  # of the last epoch, augmented
    seconds: float


def train(recipe: Recipe, spikes: Spikes, chosen: np.ndarray, seed: int) -> Trained:
    """Train on these samples; the seed decides everything but the order in which a GPU adds."""
    began = time.perf_counter()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(recipe, spikes).to(spikes.device)
    groups = model.parameter_groups()
    optimizer = torch.optim.AdamW(
        [{"params": groups.weights, "weight_decay": recipe.decay}, {"params": groups.others},
         {"params": groups.positions}],
        lr=recipe.lr, weight_decay=0.0, fused=spikes.device.type == "cuda",
    )  # fmt: skip
    a_epoch = max(len(chosen) // recipe.batch, 1)
    peaks = [recipe.lr, recipe.lr, recipe.lr_delay]
    schedule = OneCycleLR(optimizer, peaks, total_steps=recipe.epochs * a_epoch)
    sigma = SigmaSchedule(model, int(recipe.sigma_share * recipe.epochs))
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
    total = torch.zeros((), device=spikes.device)
    for _ in range(recipe.epochs):
        order = rng.permutation(chosen)
        total.zero_()
        for part in np.array_split(order[: a_epoch * recipe.batch], a_epoch):
            x, target, lengths = spikes.augmented(torch.from_numpy(part), chosen, recipe.augment, rng)
            loss = cross_entropy(model(x, lengths), target, recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(groups.weights, 5.0)
            optimizer.step()
            schedule.step()
            model.clamp_()
            averaged.update_parameters(model)
            total += loss.detach()
        sigma.step()
    with torch.no_grad():  # widths are no weights: the average has those of before
        for mine, theirs in zip(averaged.module.delay_layers(), model.delay_layers(), strict=True):
            mine.SIG.copy_(theirs.SIG)
    return Trained(averaged.module, model, float(total) / a_epoch, time.perf_counter() - began)


@torch.inference_mode()
def answers(model: DelaySNNPlus, spikes: Spikes, chosen: np.ndarray) -> Tensor:
    """Logits of the evaluated network (whole delays), in batches of 200, each sample by its own length."""
    model = model.discretize()
    parts = [spikes.batch(torch.from_numpy(part)) for part in np.array_split(chosen, -(-len(chosen) // 200))]
    return torch.cat([model(x, lengths) for x, _, lengths in parts])


def correct(model: DelaySNNPlus, spikes: Spikes, chosen: np.ndarray) -> Tensor:
    """1 for each of these samples that is right, else 0."""
    return (answers(model, spikes, chosen).argmax(1).cpu() == spikes.labels[chosen]).double()


def accuracy(model: DelaySNNPlus, spikes: Spikes, chosen: np.ndarray) -> float:
    """Percent of these samples that are right."""
    return 100 * float(correct(model, spikes, chosen).mean())


def rates(model: DelaySNNPlus, spikes: Spikes, chosen: np.ndarray) -> dict[str, float]:
    """Mean spikes a neuron and step, of each layer."""
    x, _, lengths = spikes.batch(torch.from_numpy(chosen[:200]))
    twin = model.discretize()
    with snnkit.firing_rates(twin) as found, torch.inference_mode():
        twin(x, lengths)
    return {layer: round(rate, 4) for layer, rate in found.items()}


def trained_parameters(model: nn.Module) -> int:
    """As papers count: without the frozen widths of the delays."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
