"""Train a spiking network with learnable delays, after Hammouamri et al., ICLR 2024 (arXiv 2306.17670).

  python examples/train_shd.py                              handwritten digits, nothing to download, a minute or two
  python examples/train_shd.py --dataset shd --root DIR     SHD, SSC, or any set in the layout of their HDF5 files
  python examples/train_shd.py --dataset gsc --root DIR     Google Speech Commands, a folder for each of its 35 words
  python examples/train_shd.py --dataset psmnist --root DIR permuted sequential MNIST, from its idx files
  python examples/train_shd.py --model radlif_shd           any temporal model of `python -m snnkit list`
  python examples/train_shd.py --resume                     go on with the newest run in runs/, bit for bit
  torchrun --nproc_per_node 2 examples/train_shd.py ...     several processes share each batch

Without --config the recipe is examples/configs/NAME.yaml, where NAME is the folder given as --root, else the data set.
The epoch is chosen on held-out training samples; the test set is looked at once, at the end.
"""

import _quiet_stop  # noqa: F401, I001  # first: it is for the imports below

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from _batches import batch_loader, evaluation_loader, on_device, shared_rates, shared_sampler, training_part
from _bounds import check_settings
from _checkpoint import seed_all
from _data_record import provenances, record_data
from _parts import never_trained, refuse_empty, unite_classes
from _report import Score, say_firing, write_report
from _run import Position, Run, refuse_folder
from _settings import plain_warnings, read_settings, refuse
from _temporal_options import MODELS, NETWORK, kind_of, to_wake
from _temporal_settings import PROFILES, READOUTS, Settings
from accelerate import Accelerator
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

import snnkit
from snnkit import data as snn_data
from snnkit._suggest import nearest
from snnkit.equations.surrogates import ATan
from snnkit.models import DelaySNN, DelRecNet, FixedDelays, LearntDelays
from snnkit.nn import unit_rates
from snnkit.nn.losses import cross_entropy
from snnkit.nn.sigma_schedule import SigmaSchedule

class Data(NamedTuple):
    """The parts of a data set; only the training part is augmented."""

    train: snn_data.Dataset
    valid: snn_data.Dataset
    test: snn_data.Dataset


def load_data(settings: Settings) -> Data:
    """Training, validation and test part as frames ``[T, inputs]``."""
    s = settings
    if s.dataset == "digits":
        train, valid, test = (snn_data.Digits(split, s.steps, s.validation) for split in ("train", "valid", "test"))
        return Data(training_part(train, range(len(train)), s), valid, test)
    if not s.root:
        wanted = {"shd": "shd_train.h5 and shd_test.h5", "gsc": "a folder a word", "psmnist": "MNIST's idx files"}
        raise ValueError(f"--dataset {s.dataset} needs --root, the folder with {wanted[s.dataset]}.")
    if s.dataset == "gsc":
        parts = (snn_data.SpeechCommands(s.root, split, snn_data.LogMel()) for split in ("train", "valid", "test"))
        return Data(*map(snn_data.DiskCache, parts))
    if s.dataset == "psmnist":
        return Data(*(snn_data.SequentialMNIST(s.root, part, 0, s.validation) for part in ("train", "valid", "test")))
    if os.path.isfile(s.root):
        raise ValueError(f"--root must be the folder with shd_train.h5 and shd_test.h5, got the file {s.root}.")
    if 700 % s.merge:
        near = min((n for n in range(1, 701) if 700 % n == 0), key=lambda n: abs(n - s.merge))
        raise ValueError(f"--merge must divide the 700 units, got {s.merge}: some would be lost. Give {near}, say.")
    if round(1000 * s.step_ms) < 1:
        raise ValueError(f"--step-ms must be at least 0.001 (a microsecond), got {s.step_ms}.")
    bins = snn_data.Bin(700, round(1000 * s.step_ms), s.merge, from_first_spike=not s.from_zero)
    if s.published_bins:
        bins = snn_data.Bin.as_published(700, round(1000 * s.step_ms), s.merge)
    bins = replace(bins, least_steps=s.least_steps)
    train, test = (snn_data.DiskCache(snn_data.SpikeHDF5(s.root, split, bins)) for split in ("train", "test"))
    try:
        chosen, valid = range(len(train)), snn_data.DiskCache(snn_data.SpikeHDF5(s.root, "valid", bins))
    except FileNotFoundError:  # SHD has none, and the test set is no substitute
        chosen, held_out = snn_data.split_validation(len(train), round(s.validation * len(train)), seed=1234)
        valid = snn_data.Part(train, held_out)
    data = Data(training_part(train, chosen, s), valid, test)
    unite_classes(data)
    return data


def build_model(settings: Settings, data: Data) -> Any:
    """The network for this data; what is not given has the model's own value."""
    s, name = settings, settings.model or MODELS[settings.dataset]
    arguments: dict[str, Any] = {key: getattr(s, key) for key in NETWORK if getattr(s, key) is not None}
    arguments |= dict(in_features=data.test[0][0].shape[1], num_classes=len(data.test.classes))
    if s.surrogate is not None:
        arguments["surrogate"] = ATan(s.surrogate)
    if s.loss is not None:
        arguments["readout"] = READOUTS[s.loss]
    if kind_of(name) is DelaySNN:
        if s.loss == "spike_count":
            arguments["output_threshold"] = 2.0  # the published code's
        width = s.sigma if s.learn_width else None
        if s.has_width and s.profile != "gauss":
            width = s.sigma or 1.0  # a width of 0 has no gradient; where it is not learnt, SigmaSchedule sets it
        learnt = LearntDelays(PROFILES[s.profile], width, s.learn_width)
        arguments["delays"] = {"learnt": learnt, "fixed": FixedDelays(), "none": None}[s.delays]
    if kind_of(name) is DelRecNet:
        if s.max_delay is not None:  # the taps of its kernels; its own max_delay bounds the recurrent delays
            arguments["feedforward"] = arguments.pop("max_delay")
        if s.sigma is not None:
            arguments["sigma"] = s.sigma
    return snnkit.create_model(name, **arguments)


def build_optimizers(model: Any, settings: Settings) -> tuple[list[torch.optim.Optimizer], list[Any]]:
    """Optimisers of weights and delays; what follows the epochs: their learning rates, the width of the delays."""
    s, groups = settings, model.parameter_groups()
    if s.optimizer not in list_optimizers():
        raise ValueError(f"Unknown optimizer {s.optimizer!r}.{nearest(s.optimizer, list_optimizers())}")
    biases = [p for name, p in model.named_parameters() if name.endswith("synapse.bias")] if s.decay_bias else []
    others = [p for p in groups.others if not any(p is bias for bias in biases)]
    decayed = {"params": [*groups.weights, *biases], "weight_decay": s.weight_decay}
    weights = create_optimizer_v2([decayed, {"params": others}], s.optimizer, lr=s.lr, weight_decay=0.0)
    optimizers, schedules = [weights], list[Any]()
    if s.schedule == "onecycle":  # torch's defaults: up for 30 % of the epochs, and Adam's beta1 down meanwhile
        schedules.append(OneCycleLR(weights, s.lr, total_steps=s.epochs))
    elif s.schedule == "plateau":  # sparch's
        schedules.append(ReduceLROnPlateau(weights, mode="max", factor=0.7, patience=1, min_lr=1e-6))
    elif s.schedule == "constant":
        pass
    elif s.warmup >= s.epochs:
        raise ValueError(f"warmup must be shorter than the {s.epochs} epochs, got {s.warmup}.")
    else:
        warmup = {"warmup_t": s.warmup, "warmup_lr_init": s.lr / 100, "warmup_prefix": True}
        schedules.append(CosineLRScheduler(weights, t_initial=s.epochs - s.warmup, **warmup))
    if groups.positions:
        optimizers.append(torch.optim.Adam(groups.positions, s.lr_delay))
        if s.schedule_delay == "onecycle":
            schedules.append(OneCycleLR(optimizers[1], s.lr_delay, total_steps=s.epochs))
        else:
            schedules.append(CosineAnnealingLR(optimizers[1], T_max=s.epochs))
    schedules += model.schedules(s.epochs)
    if not s.learn_width and any(getattr(layer, "SIG", None) is not None for layer in model.delay_layers()):
        schedules.append(SigmaSchedule(model, int(s.sigma_share * s.epochs), s.sigma))
    return optimizers, schedules


@torch.inference_mode()
def evaluate(model: nn.Module, dataset: snn_data.Dataset, settings: Settings, accelerator: Accelerator) -> Score:
    """Score of a network, in batches in the data set's order. Several processes take turns with whole batches."""
    right, loss = (torch.zeros(len(dataset), device=accelerator.device) for _ in range(2))
    with unit_rates(model) as rates:
        for here, batch in evaluation_loader(dataset, settings.batch, settings.workers, accelerator):
            x, labels, lengths = (part.to(accelerator.device, non_blocking=True) for part in batch)
            answer = model(x.float(), None if settings.official_padding else lengths)
            right[here] = (answer.argmax(1) == labels).float()
            loss[here] = nn.functional.cross_entropy(answer, labels, reduction="none")
    right, loss = accelerator.reduce(right), accelerator.reduce(loss)
    firing = shared_rates(rates, len(dataset), settings.batch, accelerator)
    return Score(right.bool().cpu().numpy(), loss.double().mean().item(), firing)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, choose the epoch, test, report."""
    settings, resumed = read_settings(Settings, argv, __doc__ or "")
    accelerator = Accelerator(cpu=settings.cpu, mixed_precision="bf16" if settings.precision == "bf16" else "no")
    device, torch.backends.cudnn.deterministic = accelerator.device, True
    tf32 = settings.precision == "tf32"  # torch's default is TF32 in convolutions alone
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    plain_warnings()
    try:
        check_settings(settings)
        refuse_folder(settings.folder, resumed)
        seed_all(settings.seed)
        data = load_data(settings)
        refuse_empty(data, settings)
        provenance = provenances(data)
        if not settings.workers:  # CutMix goes from sample to sample: on the CPU
            data = Data(*(on_device(part, torch.device("cpu") if settings.cutmix else device) for part in data))
        model = build_model(settings, data)
        optimizers, schedules = build_optimizers(model, settings)
        sampler = shared_sampler(len(data.train), settings.batch, settings.seed, accelerator)
        loader = batch_loader(data.train, sampler, settings.workers, accelerator)
        mix = snn_data.CutMix(len(data.train.classes), settings.cutmix)
    except (OSError, TypeError, ValueError) as problem:
        refuse(problem)
    seed_all(settings.seed + accelerator.process_index)  # the same weights in all processes, but each its own dropout
    network, *optimizers = accelerator.prepare(model, *optimizers)
    run = Run(settings, f"{settings.dataset}-seed{settings.seed}", resumed, accelerator)
    record_data(run, provenance)
    at = run.restore(model, *optimizers, *schedules)
    sizes = [len(part) for part in data]
    run.say(f"{sizes[0]} samples to train, {sizes[1]} to choose the epoch, {sizes[2]} to test; run {run.folder}")
    for line in [*settings.notes, *never_trained(data.train)] if not resumed else []:
        run.say(line)

    for epoch in range(at.epoch, settings.epochs):
        began = time.perf_counter() - at.seconds
        sums = torch.tensor([at.loss, at.right, at.seen], device=device)
        sampler.set_epoch(epoch, start=at.step)
        network.train()
        for step, batch in enumerate(run.progress(loader, epoch, at.step), start=at.step + 1):
            labels = batch.labels.to(device, non_blocking=True)  # [B]
            if settings.cutmix:
                batch = mix(batch, snn_data.batch_generator(settings.seed, epoch, step))
            x, target, lengths = (part.to(device, non_blocking=True) for part in batch)  # [T, B, inputs], [B], [B]
            answer = network(x, None if settings.official_padding else lengths)  # [B, classes]
            loss = cross_entropy(answer, target)
            accelerator.backward(loss)
            if settings.clip_grad:
                accelerator.clip_grad_norm_(network.parameters(), settings.clip_grad)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            model.clamp_()  # the optimiser may have pushed delays out of their range
            right = (answer.argmax(1) == labels).sum()
            sums += torch.stack([loss.detach() * len(labels), right, torch.full_like(right, len(labels))])
            if run.due(step):
                here = Position(epoch, step, *sums.tolist(), seconds=time.perf_counter() - began)
                run.save(here, model, *optimizers, *schedules)

        values = {f"lr_{i}": optimizer.param_groups[0]["lr"] for i, optimizer in enumerate(optimizers)}
        total, right, seen = accelerator.reduce(sums).tolist()
        run.check(model, total)
        score = evaluate(model.discretize(), data.valid, settings, accelerator)
        for schedule in schedules:  # timm's are told the epoch, the plateau the accuracy, the others count
            told = {CosineLRScheduler: [epoch + 1], ReduceLROnPlateau: [score.accuracy]}
            schedule.step(*told.get(type(schedule), []))
        if run.is_best(score.accuracy, score.loss):
            run.save_best(model, {"epoch": epoch + 1, "accuracy": score.accuracy, "loss": score.loss})
        values |= {f"firing_{name}": float(rate.mean()) for name, rate in score.firing.items()}
        values |= {"train_loss": total / seen, "train_accuracy": right / seen}
        values |= {"validation_loss": score.loss, "validation_accuracy": score.accuracy}
        run.end_epoch(epoch, values | {"seconds": time.perf_counter() - began})
        if epoch == 0:
            say_firing(run, score.firing, to_wake(settings))
        at = Position(epoch + 1)
        if run.stops(epoch):
            run.save(at, model, *optimizers, *schedules)

    run.save(at, model, *optimizers, *schedules)
    snnkit.load_checkpoint(model, run.best_model())
    twins = {"test": model.discretize()}
    if settings.delays != "none" and any(True for _ in model.delay_layers()):
        twins["test_without_delays"] = model.without_delays()
    scores = {name: evaluate(twin, data.test, settings, accelerator) for name, twin in twins.items()}
    write_report(run, settings, model, data, scores)
    run.close()


if __name__ == "__main__":
    main()
