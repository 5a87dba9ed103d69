"""Train a spiking vision model on pictures.

  python examples/train_images.py                                     handwritten digits, nothing to download, 3 minutes
  python examples/train_images.py --dataset cifar10 --root DIR        CIFAR-10 or cifar100, binary or python files
  python examples/train_images.py --dataset folder --root DIR         DIR/train/CLASS/..., DIR/val or DIR/test
  python examples/train_images.py --config examples/configs/images/NAME.yaml ...
  python examples/train_images.py --resume                            go on with the newest run in runs/, bit for bit
  torchrun --nproc_per_node 2 examples/train_images.py ...            several processes share each batch

Without --config the recipe is examples/configs/images/NAME.yaml, where NAME is the folder given as --root, else the
data set. The epoch is chosen on held-out training pictures, or on DIR/val beside a DIR/test; the test pictures are
looked at once, at the end.
"""

import _quiet_stop  # noqa: F401, I001  # first: it is for the imports below

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from _bounds import check_settings
from _batches import batch_loader, on_device, shared_sampler
from _checkpoint import seed_all
from _cuda_graph import replayed
from _data_record import provenances, record_data
from _device_augment import Augmented, BatchAugment
from _parts import not_in_validation, refuse_empty, refuse_other_classes
from _picture_transforms import as_evaluated, augmentation, check_pixels
from _pictures import cifar_pictures, digit_pictures, folder_pictures
from _run import Position, Run, refuse_folder
from _settings import option, plain_warnings, read_settings, refuse
from _teacher import Teacher
from _vision import build_mix, build_model, build_optimizer, evaluate, logits, loss_of, mix_of_epoch, parts, seen
from _vision_report import say_firing, say_without_gradient, write_vision_report
from _vision_settings import VisionSettings
from accelerate import Accelerator
from timm.utils import ModelEmaV3

import snnkit
from snnkit import data as snn_data
from snnkit.nn.losses import distillation

SETS = ("digits", "cifar10", "cifar100", "folder")


@dataclass
class Settings(VisionSettings):
    """Options and recipe keys. The recipes in configs/images set those that matter for their data."""

    recipes: ClassVar[str] = "images"

    dataset: str = option("digits", "what to train on", choices=SETS)
    root: str = option("", "folder of the data", free=True, of="cifar10, cifar100, folder")
    model: str = option("max_former_cifar10", "a name of `python -m snnkit list`")

    mean: tuple[float, ...] = option((0.485, 0.456, 0.406), "of the pixels, red, green and blue in 0..1")
    std: tuple[float, ...] = option((0.229, 0.224, 0.225), "their standard deviation")
    crop: float = option(1.0, "evaluation: centre crop, share of the resized picture's side")
    crop_scale: tuple[float, ...] = option((1.0, 1.0), "augmentation: random crop, least and largest share of the area")
    crop_ratio: tuple[float, ...] = option((1.0, 1.0), "augmentation: its least and largest width / height")
    crop_pad: int = option(0, "augmentation: in its place, pad by so many pixels and crop at random")
    flip: float = option(0.5, "augmentation: probability of mirroring left and right")
    augment: str = option("", "augmentation: a policy of timm's, such as rand-m9-n1-mstd0.4-inc1")
    operations: tuple[str, ...] = option(
        (), "augmentation: of a rand- policy, these operations alone: Rotate ShearX ..."
    )
    jitter: float = option(0.0, "augmentation: of brightness, contrast and saturation, without a policy")
    erase: float = option(0.0, "augmentation: probability of erasing a rectangle")
    erase_mode: str = option("const", "with zeros, one colour, or random pixels", choices=("const", "rand", "pixel"))

    teacher: str = option("", "distillation: a network of timm's that is asked about each picture")
    teacher_weights: str = option("", "distillation: file of its weights (default: timm downloads them)", free=True)
    teacher_share: float = option(0.5, "distillation: alpha, the share of the teacher in the loss")
    teacher_tau: float | None = option(None, "distillation: temperature (default: learn the teacher's first choice)")

    def without_effect(self) -> dict[str, tuple[bool, str]]:
        """As of all vision settings."""
        of_teacher = ("teacher_weights", "teacher_share", "teacher_tau")
        table = {name: (not self.teacher, "there is no distillation without --teacher") for name in of_teacher}
        if self.on_device:
            others = ("crop_scale", "crop_ratio", "crop_pad", "flip", "augment", "operations", "jitter")
            why = "--on-device replaces all other augmentation"
            return table | {name: (True, why) for name in (*others, "erase", "erase_mode")}
        return table | {
            "crop_scale": (self.crop_pad > 0, "--crop-pad takes the place of other crops"),
            "crop_ratio": (self.crop_pad > 0, "--crop-pad takes the place of other crops"),
            "operations": (not self.augment.startswith("rand"), "--operations are those of a rand- policy"),
            "jitter": (bool(self.augment), f"the policy {self.augment} takes the place of --jitter"),
            "erase_mode": (not self.erase, "nothing is erased without --erase"),
        }

    def unused(self, given: Collection[str]) -> str | None:
        """What to say if one of these settings would change nothing."""
        if self.teacher and self.loss == "tet":
            return "--teacher is for --loss mean, got tet. Choose one of the two."
        return super().unused(given)


class Data(NamedTuple):
    """The parts of a data set; only the training part is augmented."""

    train: snn_data.Dataset
    valid: snn_data.Dataset
    test: snn_data.Dataset


def load_data(settings: Settings) -> Data:
    """Training, validation and test part as clips of one step, ``[1, 3, H, W]``."""
    s, root = settings, Path(settings.root)
    check_pixels(s)
    plain = as_evaluated(s)
    changed = plain if s.on_device else augmentation(s)
    if s.dataset == "digits":
        train, valid, test = (
            digit_pictures(part, s.validation, None if part == "train" else plain)
            for part in ("train", "valid", "test")
        )
        return Data(snn_data.Part(train, range(len(train)), changed, s.seed), valid, test)
    if not s.root:
        raise ValueError(f"--dataset {s.dataset} needs --root, the folder of the data.")
    if s.dataset == "folder":
        found = {part: folder_pictures(root, part, None) for part in ("train", "valid", "test")}
        if found["train"] is None or (found["valid"] is None and found["test"] is None):
            raise FileNotFoundError(f"{root.absolute()} needs train/ and test/ or val/, with a folder a class in each.")
        if found["test"] is None:  # as ImageNet is handed out: its val/ is what is tested
            found["test"], found["valid"] = found["valid"], None
    else:
        found = {part: cifar_pictures(s.dataset, root, part, None) for part in ("train", "test")}
    train = found["train"]
    chosen, valid = range(len(train)), found.get("valid")
    if valid is None:
        chosen, held_out = snn_data.split_stratified(train.labels, round(s.validation * len(train)), seed=1234)
        valid = snn_data.Part(train, held_out, plain)
    else:
        valid.transform = plain
    found["test"].transform = plain
    for part in (valid, found["test"]):
        refuse_other_classes(train.classes, part.classes, root)
    data = Data(snn_data.Part(train, chosen, changed, s.seed), valid, found["test"])
    refuse_empty(data, s)
    return data


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
        data = load_data(settings)
        notes = [*settings.notes, *not_in_validation(data.train, data.valid)]
        provenance = provenances(data)
        if settings.on_device:
            change = BatchAugment.parsed(settings.on_device)
            data = data._replace(train=Augmented(data.train, device, change, settings.seed, "bilinear"))
        if settings.on_device or not settings.workers:
            data = Data(*(on_device(part, device) for part in data))
        classes = len(data.train.classes)
        model = build_model(settings, 3, classes, device, resumed is not None)
        teacher, s = None, settings
        if s.teacher:
            teacher = Teacher(s.teacher, s.teacher_weights, classes, s.mean, s.std).to(device)
        sampler = shared_sampler(len(data.train), settings.batch, settings.seed, accelerator)
        optimizer, schedule = build_optimizer(model, settings, sampler.batches)
        loader = batch_loader(data.train, sampler, settings.workers, accelerator)
        mix = build_mix(settings, classes)
    except (OSError, RuntimeError, TypeError, ValueError) as problem:
        refuse(problem)
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
    run.say(f"{sizes[0]} pictures to train, {sizes[1]} to choose the epoch, {sizes[2]} to test; run {run.folder}")
    for line in notes:
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
                x, target = seen(part.x, settings), part.labels  # [B, 3, H, W], [B, classes]
                answer = forward(x)  # [B, classes]; [T, B, classes] for TET; a pair of them with a head to distil
                if teacher is None:
                    loss = loss_of(answer, target, settings)
                else:
                    heads = answer if isinstance(answer, tuple) else (answer, answer)
                    loss = distillation(*heads, target, teacher(x), s.teacher_share, s.teacher_tau)
                accelerator.backward(loss * (len(target) / len(batch.labels)))
                right = (logits(answer).argmax(1) == labels[number]).sum()
                sums += torch.stack([loss.detach() * len(target), right, torch.full_like(right, len(target))])
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
        total, right, pictures = accelerator.reduce(sums).tolist()
        run.check(model, total)
        score = evaluate(chosen, data.valid, settings, accelerator, observe=epoch == 0)
        if run.is_best(score.accuracy, score.loss):
            run.save_best(chosen, {"epoch": epoch + 1, "accuracy": score.accuracy, "loss": score.loss})
        values |= {"train_loss": total / pictures, "train_accuracy": right / pictures}
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
