"""Train a spiking vision model on the events of a camera: CIFAR10-DVS and others.

  python examples/train_cifar10dvs.py                                    digits that move before a simulated camera
  python examples/train_cifar10dvs.py --dataset cifar10dvs --root DIR    or dvs128, nmnist, ncaltech101: public files
  python examples/train_cifar10dvs.py --dataset folder --root DIR --sensor H W     event files, a folder a class
  python examples/train_cifar10dvs.py --dataset pictures --root DIR      pictures, moved before a simulated camera
  python examples/train_cifar10dvs.py --config examples/configs/events/NAME.yaml ...
  python examples/train_cifar10dvs.py --resume                           go on with the newest run in runs/, bit for bit
  torchrun --nproc_per_node 2 examples/train_cifar10dvs.py ...           several processes share each batch

Without --config the recipe is examples/configs/events/NAME.yaml, where NAME is the folder given as --root, else the
data set. A folder holds a folder a class (or train and test with these inside, --split given) of .aedat, .aedat4, .bin,
.npz with the arrays t, x, y, p, or .npy with the fields t, x, y, p or the columns x, y, p, t.

Which recordings are for training and which for test says --split, by name: accuracies under different splits cannot be
compared. The epoch is chosen on held-out training recordings; the test part is looked at once, at the end.

Where recordings are few, train on pictures (--dataset pictures) first, then on the recordings from the weights that the
first run left: --init RUN/best/model.safetensors.
"""

import _quiet_stop  # noqa: F401, I001  # first: it is for the imports below

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from _bounds import check_settings
from _batches import batch_loader, on_device, shared_sampler
from _checkpoint import seed_all
from _clips import (
    AUGMENTS, FRAMINGS, OUTSIDE, READERS, SETS, event_parts, in_flags, left_out, summaries, too_large, uneven,
)  # fmt: skip
from _cuda_graph import replayed
from _data_record import provenances, record_data
from _device_augment import Augmented, BatchAugment
from _parts import not_in_validation
from _run import Position, Run, refuse_folder
from _settings import option, plain_warnings, read_settings, refuse
from _vision import build_mix, build_model, build_optimizer, evaluate, logits, loss_of, mix_of_epoch, parts, seen
from _vision_report import say_firing, say_without_gradient, write_vision_report
from _vision_settings import VisionSettings
from accelerate import Accelerator
from timm.utils import ModelEmaV3

import snnkit
from snnkit import data as snn_data
from snnkit.data.moved_picture import BORDERS

RECORDED = ", ".join(READERS)
FILES = f"{RECORDED}, pictures"


@dataclass
class Settings(VisionSettings):
    """Options and recipe keys. The recipes in configs/events set those that matter for their data."""

    recipes: ClassVar[str] = "events"

    dataset: str = option("moving_digits", "what to train on", choices=tuple(SETS))
    root: str = option("", "folder of the recordings, pictures or archives", free=True, of=FILES)
    size: int = option(
        32, "height and width that events are brought to (pixels); where they don't divide the sensor's, a pixel here "
        "takes one more or fewer of the sensor's than its neighbour"
    )  # fmt: skip
    steps: int = option(8, "frames T of a clip")
    model: str = option("max_former_cifar10dvs", "a name of `python -m snnkit list`")

    sensor: tuple[int, ...] = option((128, 128), "height and width of the camera (pixels)", of="folder, pictures")
    split: str = option(
        "", "sj-9-1, tebn, ids:0-99/100-119 (train/test), random-SEED, given (default: the set's usual one)", of=FILES
    )
    skip_bad: bool = option(False, "leave out recordings that cannot be read, and count them", of=FILES)
    outside: str = option("refuse", "what becomes of events outside the sensor", choices=tuple(OUTSIDE), of=RECORDED)
    unit_us: float | None = option(
        None, "microseconds per unit of the times in numpy files, 1000: ms (default: whole numbers us, floating s)",
        of="folder",
    )  # fmt: skip
    camera: tuple[str, ...] = option(
        (), "the pixel model, KEY=VALUE ...: contrast=0.46 spread=0.046 refractory_us=0 noise_hz=0.05 dark=0.5 (these "
        "are the defaults; contrast and spread in units of ln light)", of="pictures",
    )  # fmt: skip
    log_std: float = option(
        0.25, "scale the log light of each picture to this standard deviation; 0: leave it", of="pictures"
    )
    border: str = option(
        "mean", "what surrounds a picture: its mean; its edge goes on, so that its frame makes no events",
        choices=BORDERS, of="pictures",
    )  # fmt: skip
    framing: str = option("number", "a frame is so many events, so long, or a time surface", choices=FRAMINGS)
    window_ms: float = option(75.0, "framing window, surface: length of a frame (ms); window: later events are lost")
    surface_ms: float = option(50.0, "framing surface: time constant of the decay (ms)")
    log_counts: bool = option(False, "give the model log(1 + count)")

    augment: str = option("spikformer", "recipe of random changes to a clip, or to its events", choices=AUGMENTS)
    flip: bool | None = option(
        None, "mirror left and right (default: cifar10dvs, ncaltech101 and pictures, where classes stay)"
    )
    shift: int = option(5, "augmentation: shift by up to so many pixels")
    events_in_memory: bool = option(True, "augmentation of events: keep them all in memory", free=True)

    def without_effect(self) -> dict[str, tuple[bool, str]]:
        """As of all vision settings."""
        framing, augment = f"--framing {self.framing}", f"--augment {self.augment}"
        return {
            "window_ms": (self.framing not in ("window", "surface"), f"{framing} has no length"),
            "surface_ms": (self.framing != "surface", f"{framing} has no decay"),
            "log_counts": (self.framing not in ("number", "time", "window"), f"{framing} has no counts"),
            "shift": (self.augment not in ("spikformer", "spike_driven"), f"{augment} has no shift"),
            "flip": (self.augment in ("none", "event_drop"), f"{augment} has no flip"),
        }

    def unused(self, given: Collection[str]) -> str | None:
        """What to say if one of these settings would change nothing."""
        if self.on_device and self.augment != "none":
            return f"--on-device replaces all other augmentation, got --augment {self.augment}. Add --augment none."
        return super().unused(given)


class Data(NamedTuple):
    """The parts of a data set; only the training part is augmented."""

    train: snn_data.Dataset
    valid: snn_data.Dataset
    test: snn_data.Dataset


def main(argv: Sequence[str] | None = None) -> None:
    """Train, choose the epoch, test, report."""
    plain_warnings()
    settings, resumed = read_settings(Settings, argv, __doc__ or "")
    accelerator = Accelerator(cpu=settings.cpu, mixed_precision="bf16" if settings.precision == "bf16" else "no")
    device, torch.backends.cudnn.deterministic = accelerator.device, True
    tf32 = settings.precision == "tf32"  # torch's default is TF32 in convolutions alone
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        check_settings(settings)
        refuse_folder(settings.folder, resumed)
        seed_all(settings.seed)
        data = Data(*event_parts(settings))
        counted = [*settings.notes, *summaries(data.train, data.test), *left_out(settings, data.train)]
        counted += [*too_large(settings, data.train), *uneven(settings, data.train)]
        counted += not_in_validation(data.train, data.valid)
        provenance = provenances(data)
        if settings.on_device:
            change = BatchAugment.parsed(settings.on_device)
            data = data._replace(train=Augmented(data.train, device, change, settings.seed, "nearest"))
        if settings.on_device or not settings.workers:
            data = Data(*(on_device(part, device) for part in data))
        classes = len(data.train.classes)
        model = build_model(settings, data.test[0][0].shape[1], classes, device, resumed is not None)
        sampler = shared_sampler(len(data.train), settings.batch, settings.seed, accelerator)
        optimizer, schedule = build_optimizer(model, settings, sampler.batches)
        loader = batch_loader(data.train, sampler, settings.workers, accelerator, narrow=True)
        mix = build_mix(settings, classes)
    except (ImportError, OSError, TypeError, ValueError) as problem:
        refuse(in_flags(problem))
    seed_all(settings.seed + accelerator.process_index)  # the same weights in all processes, but each its own dropout
    averaged = ModelEmaV3(model, settings.ema, use_warmup=True) if settings.ema else None
    chosen = averaged.module if averaged else model
    network, optimizer = accelerator.prepare(model, optimizer)  # autocast is in the network's call
    forward = replayed(network, settings, accelerator)
    run = Run(settings, f"{settings.dataset}-seed{settings.seed}", resumed, accelerator)
    states = [optimizer, schedule] + ([averaged] if averaged else [])
    record_data(run, provenance)
    at = run.restore(model, *states)
    sizes = [len(part) for part in data]
    run.say(f"{sizes[0]} clips to train, {sizes[1]} to choose the epoch, {sizes[2]} to test; run {run.folder}")
    for line in counted:
        run.say(line)

    for epoch in range(at.epoch, settings.epochs):
        began = time.perf_counter() - at.seconds
        sums = torch.tensor([at.loss, at.right, at.seen], device=device)
        sampler.set_epoch(epoch, start=at.step)
        mix_now = mix_of_epoch(mix, settings, epoch)
        network.train()
        for step, batch in enumerate(run.progress(loader, epoch, at.step), start=at.step + 1):
            batch = snn_data.Batch(*(part.to(device, non_blocking=True) for part in batch))
            labels = batch.labels.chunk(settings.accumulate)  # [B] of each part
            mixed = mix_now(batch, snn_data.batch_generator(settings.seed, epoch, step))
            for number, part in enumerate(parts(mixed, settings.accumulate)):
                x = seen(part.x, settings)  # [T, B, C, H, W]
                answer = forward(x)  # [B, classes]; [T, B, classes] for TET
                loss = loss_of(answer, part.labels, settings)
                accelerator.backward(loss * (len(part.labels) / len(batch.labels)))
                right = (logits(answer).argmax(1) == labels[number]).sum()
                sums += torch.stack([loss.detach() * len(part.labels), right, torch.full_like(right, len(part.labels))])
            if epoch == 0 and step == 1:
                say_without_gradient(run, model)
            if settings.clip_grad:
                accelerator.clip_grad_norm_(network.parameters(), settings.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
            update = epoch * sampler.batches + step
            schedule.step_update(update)
            if averaged:
                averaged.update(model, update)
            if run.due(step):
                here = Position(epoch, step, *sums.tolist(), seconds=time.perf_counter() - began)
                run.save(here, model, *states)

        values = {"lr": optimizer.param_groups[-1]["lr"]}
        schedule.step(epoch + 1)
        total, right, clips = accelerator.reduce(sums).tolist()
        run.check(model, total)
        score = evaluate(chosen, data.valid, settings, accelerator, observe=epoch == 0)
        if run.is_best(score.accuracy, score.loss):
            run.save_best(chosen, {"epoch": epoch + 1, "accuracy": score.accuracy, "loss": score.loss})
        values |= {"train_loss": total / clips, "train_accuracy": right / clips}
        values |= {"validation_loss": score.loss, "validation_accuracy": score.accuracy}
        run.end_epoch(epoch, values | {"seconds": time.perf_counter() - began})
        if epoch == 0:
            say_firing(run, score.firing, sampler.batches)
        at = Position(epoch + 1)
        if run.stops(epoch):
            run.save(at, model, *states)

    run.save(at, model, *states)
    snnkit.load_checkpoint(model, run.best_model())
    score = evaluate(model, data.test, settings, accelerator, observe=True)
    write_vision_report(run, settings, model, data, score, provenance=provenance)
    run.close()


if __name__ == "__main__":
    main()
