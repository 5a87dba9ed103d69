"""What the scripts for pictures and for event cameras do alike: build a model, its optimiser and its loss; score it."""

import ast
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from _batches import evaluation_loader, shared_rates
from _report import Score
from accelerate import Accelerator
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

import snnkit
from snnkit import data as snn_data
from snnkit._suggest import nearest
from snnkit.equations import surrogates
from snnkit.models._registry import owners
from snnkit.models._vision import VisionModel
from snnkit.nn import max_embed
from snnkit.nn.losses import cross_entropy, tet


def build_model(settings: Any, in_chans: int, classes: int, device: torch.device, resumed: bool = False) -> nn.Module:
    """The network of ``--model`` and ``--set`` on a device, with the weights of ``--init`` unless the run is resumed.

    With the TET loss it answers at every step, ``[T, B, classes]``, else with the mean over time, ``[B, classes]``. A
    head for a teacher's labels answers apart only where there is a teacher. On a GPU its maps are channels-last:
    convolutions and norms take about half of the time.
    """
    if settings.model in owners and not _is_vision(settings.model):
        near = nearest(settings.model, filter(_is_vision, owners)) or f" Default: {type(settings).model}."
        raise ValueError(f"--model {settings.model} is no vision model.{near} All: python -m snnkit list")
    keywords = dict(keyword(text) for text in settings.set)
    if settings.loss == "tet":
        keywords["readout"] = None
    sizes = {"in_chans": in_chans, "num_classes": classes, "img_size": settings.size, "steps": settings.steps}
    twice = [name for name in sizes if name in keywords]
    if twice:
        raise ValueError(f"--set {twice[0]}=...: the data and --size, --steps say so already. Leave it out.")
    model = snnkit.create_model(settings.model, **sizes, **keywords)
    if settings.init and not resumed:  # its checkpoint has its weights
        snnkit.load_checkpoint(model, settings.init)
    if hasattr(model, "set_distilled_training"):
        model.set_distilled_training(bool(getattr(settings, "teacher", "")))
    return model.to(device, memory_format=torch.channels_last) if device.type == "cuda" else model


def _is_vision(name: str) -> bool:
    return issubclass(owners[name], VisionModel)


def keyword(text: str) -> tuple[str, Any]:
    """Name and value of ``KEY=VALUE``: a number, a tuple, None, or a name of ours, ``PLIF`` or ``ATan(2.0)``."""
    key, sign, value = text.partition("=")
    if not (sign and key.isidentifier()):
        raise ValueError(f"--set expects KEY=VALUE, got {text!r}.")
    try:
        tree = ast.parse(value.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return key, _named(tree.id)
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.keywords:
            return key, _named(tree.func.id)(*map(ast.literal_eval, tree.args))
        return key, ast.literal_eval(tree)
    except SyntaxError:
        raise ValueError(f"--set {key}: expected a number, a tuple or a name, got {value!r}.") from None
    except ValueError as problem:
        raise ValueError(f"--set {key}: {problem}") from None


def _named(name: str) -> Any:
    """A neuron, a surrogate or a stem by its name."""
    known = {key: thing for module in (max_embed, surrogates, snnkit.nn) for key, thing in vars(module).items()}
    if name not in known:
        raise ValueError(f"there is no {name!r} in snnkit.nn.{nearest(name, known)}")
    return known[name]


def build_optimizer(model: nn.Module, settings: Any, updates: int) -> tuple[torch.optim.Optimizer, Any]:
    """Optimiser and schedule; ``updates`` are the steps of an epoch."""
    s = settings
    if s.optimizer not in list_optimizers():
        raise ValueError(f"Unknown optimizer {s.optimizer!r}.{nearest(s.optimizer, list_optimizers())}")
    if s.optimizer == "adahessian":
        raise ValueError("--optimizer adahessian needs second derivatives, which neurons do not have. Take another.")
    if s.warmup + s.cooldown >= s.epochs:
        raise ValueError(
            f"--warmup and --cooldown must leave some of the {s.epochs} epochs, got {s.warmup} and {s.cooldown}."
        )
    if s.accumulate > s.batch:
        raise ValueError(f"--accumulate must be at most --batch, {s.batch}, got {s.accumulate}.")
    decay = s.layer_decay if s.layer_decay < 1 else None
    optimizer = create_optimizer_v2(model, s.optimizer, s.lr, s.weight_decay, layer_decay=decay)
    # Of timm's schedules: older ones know no "constant" and no None, and the power of "poly" is called decay_rate.
    more = {"step": {"decay_epochs": max(s.epochs // 3, 1)}, "poly": {"decay_rate": 1.0}}
    more["constant"] = {"decay_epochs": 1, "decay_rate": 1.0}
    name = "step" if s.schedule == "constant" else s.schedule
    schedule, _ = create_scheduler_v2(
        optimizer, name, s.epochs - s.cooldown, cooldown_epochs=s.cooldown, min_lr=s.min_lr, warmup_lr=s.warmup_lr,
        warmup_epochs=s.warmup, step_on_epochs=not s.by_step, updates_per_epoch=updates, **more.get(s.schedule, {}),
    )  # fmt: skip
    return optimizer, schedule


def build_mix(settings: Any, classes: int) -> snn_data.MixClips:
    """Mixup, CutMix and label smoothing of a batch, one draw for all steps of a clip."""
    s = settings
    return snn_data.MixClips(classes, s.mixup, s.cutmix, s.mix_probability, s.mix_switch, s.smoothing)


def mix_of_epoch(mix: snn_data.MixClips, settings: Any, epoch: int) -> snn_data.MixClips:
    """The mix, without mixing once ``--mix-until`` epochs are over; targets stay smoothed."""
    return replace(mix, probability=0.0) if 0 < settings.mix_until <= epoch else mix


def parts(batch: snn_data.Batch, count: int) -> list[snn_data.Batch]:
    """The batch in up to ``count`` parts of nearly equal size."""
    pieces = zip(*(thing.chunk(count, axis) for thing, axis in zip(batch, (1, 0, 0), strict=True)), strict=True)
    return [snn_data.Batch(*piece) for piece in pieces]


def loss_of(answer: Tensor, target: Tensor, settings: Any) -> Tensor:
    """The loss of an answer ``[B, classes]``, or ``[T, B, classes]`` for TET, against probabilities of classes."""
    if settings.loss == "tet":
        return tet(answer, target, settings.tet_share)
    return cross_entropy(answer, target)


def logits(answer: Tensor | Sequence[Tensor]) -> Tensor:
    """Logits ``[B, classes]`` of a model's answer: the mean over its heads and over time."""
    heads = torch.stack(list(answer)) if isinstance(answer, tuple | list) else answer[None]
    return heads.mean(0) if heads.ndim == 3 else heads.float().mean((0, 1))


def seen(x: Tensor, settings: Any) -> Tensor:
    """What a model sees of pixels or counts ``[T, B, C, H, W]``; one step is a still picture, ``[B, C, H, W]``."""
    x = x.log1p() if getattr(settings, "log_counts", False) else x.float()
    return x[0] if len(x) == 1 else x


@torch.inference_mode()
def evaluate(
    model: nn.Module, dataset: snn_data.Dataset, settings: Any, accelerator: Accelerator, observe: bool = False
) -> Score:
    """Score of a network, its neurons' rates if they are to be observed. Several processes take turns with batches."""
    training = model.training
    model.eval()
    answers = torch.full((len(dataset),), -1, device=accelerator.device)
    loss = torch.zeros(len(dataset), device=accelerator.device)
    with snnkit.nn.unit_rates(model if observe else nn.Identity()) as rates, accelerator.autocast():
        for here, batch in evaluation_loader(dataset, settings.batch, settings.workers, accelerator):
            x, labels, _ = (part.to(accelerator.device, non_blocking=True) for part in batch)
            answer = logits(model(seen(x, settings)))
            answers[here] = answer.argmax(1)
            loss[here] = nn.functional.cross_entropy(answer.float(), labels, reduction="none")
    model.train(training)
    answers = (accelerator.reduce(answers + 1) - 1).cpu().numpy()
    loss = accelerator.reduce(loss).double().mean().item()
    firing = shared_rates(rates, len(dataset), settings.batch, accelerator)
    return Score(answers == dataset.labels, loss, firing, answers)
