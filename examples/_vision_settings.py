"""Options that the scripts for pictures and for event cameras share; each script adds its data and its augmentation."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from _settings import option
from _without_effect import as_given, first_without_effect

LOSSES = ("mean", "tet")
SCHEDULES = ("cosine", "poly", "step", "constant")


@dataclass
class VisionSettings:
    """Options and recipe keys of a vision model's training."""

    dataset: str = option("", "what to train on")
    root: str = option("", "folder of the data", free=True)
    size: int = option(32, "height and width that the model sees (pixels)")
    steps: int = option(4, "time steps T")
    validation: float = option(0.1, "share of each class of the training part held out to choose the epoch")

    model: str = option("", "a name of `python -m snnkit list`")
    set: tuple[str, ...] = option(
        (), "keywords of the model, KEY=VALUE ...: dim=64 depth=2 'dims=(32, 64)' neuron=PLIF drop_path_rate=0.1"
    )
    init: str = option("", "start from the weights in this file, ours or the paper's", free=True)
    loss: str = option(
        "mean", "mean: cross entropy of the mean over time; tet: of every step, and a pull to 1", choices=LOSSES
    )
    tet_share: float = option(1e-3, "tet: lambda, the share of the pull")
    smoothing: float = option(0.1, "label smoothing")

    on_device: tuple[str, ...] = option(
        (), "augmentation of whole batches on the device, which then holds the set, KIND=AMOUNT ...: "
        "flip=0.5 shift=4 rotate=15 shear=0.2 zoom=0.2 elastic=2 erase=0.25 contrast=0.3 brightness=0.3; of events "
        "before which pictures went round: loop=4, frames of a round"
    )  # fmt: skip
    mixup: float = option(0.0, "augmentation: a of Mixup's Beta(a, a); 0: none")
    cutmix: float = option(0.0, "augmentation: a of CutMix's; 0: none")
    mix_probability: float = option(1.0, "of mixing a batch")
    mix_switch: float = option(0.5, "probability of CutMix where both are on")
    mix_until: int = option(0, "mix in the first so many epochs alone; 0: in all")

    epochs: int = option(50, "passes over the training set")
    batch: int = option(64, "samples a step, of all processes and all parts together")
    accumulate: int = option(1, "compute each batch in so many parts and add their gradients up: less memory")
    optimizer: str = option("adamw", "any of timm's; norms, biases and neurons are not decayed")
    lr: float = option(1e-3, "peak learning rate for this batch")
    layer_decay: float = option(1.0, "factor of the learning rate from each block to the one before it")
    weight_decay: float = option(0.05, "of the weights")
    clip_grad: float = option(0.0, "largest norm of the gradient; 0: no limit")
    schedule: str = option("cosine", "of the learning rate, timm's; poly: a straight line", choices=SCHEDULES)
    by_step: bool = option(False, "change it after each step, not after each epoch")
    min_lr: float = option(1e-5, "learning rate at the end")
    warmup: int = option(5, "epochs of linear warm-up")
    warmup_lr: float = option(1e-5, "learning rate at its start")
    cooldown: int = option(0, "of the epochs, the last so many have the lowest learning rate")
    ema: float = option(0.0, "decay of averaged weights, which are then the ones that are chosen and tested; 0: none")

    seed: int = option(0, "of everything random")
    precision: str = option(
        "no", "no: float32; tf32: products in TF32 on a GPU; bf16: mixed precision", choices=("no", "tf32", "bf16")
    )
    cpu: bool = option(False, "do not use a GPU", free=True)
    cuda_graph: bool = option(True, "on one GPU, replay training steps as a CUDA graph", free=True)
    workers: int = option(0, "processes that load data; 0: where nothing is random, the device keeps it", free=True)
    folder: str = option("", "folder of the run (default: a new one in runs/)")
    checkpoint_seconds: float = option(60.0, "write a checkpoint after this time", free=True)
    checkpoint_steps: int = option(0, "and after so many steps; 0: by time alone", free=True)
    stop_after: int = option(0, "stop after this epoch, to be resumed; 0: train to the end", free=True)

    notes: ClassVar[tuple[str, ...]] = ()  # what a new run says at its start

    def fit(self, given: Collection[str], recipe: Mapping[str, Any]) -> None:
        """Make what was not given fit what was, and note it, after the weights to begin with.

        Where warm-up and cool-down fill all ``--epochs``, they become their share of them; a lowest or a first learning
        rate above ``--lr`` becomes its share of that.
        """
        self.notes += (f"begins with the weights of {self.init}",) if self.init else ()
        whole = recipe.get("epochs", type(self).epochs)
        for name in ("warmup", "cooldown") if self.warmup + self.cooldown >= self.epochs else ():
            had = getattr(self, name)
            if had and name not in given and self.epochs < whole:
                setattr(self, name, had * self.epochs // whole)
                now = f"{getattr(self, name)} in these {self.epochs} epochs"
                self.notes += (f"note: --{name} is {now}, not {had} as in {whole}.",)
        peak = recipe.get("lr", type(self).lr)
        for name in self._lower_rates():
            had = getattr(self, name)
            if "lr" in given and name not in given and 0 < self.lr < had <= peak:
                setattr(self, name, had * self.lr / peak)
                now = f"{getattr(self, name):.3g} for --lr {self.lr:g}"
                self.notes += (f"note: --{name.replace('_', '-')} is {now}, not {had:g} as for {peak:g}.",)

    def unused(self, given: Collection[str]) -> str | None:
        """What to say if one of these settings would change nothing."""
        mixes = self.mixup > 0 or self.cutmix > 0
        rates, nothing_mixed = self._lower_rates(), "nothing is mixed without --mixup or --cutmix"
        without_effect = {
            "tet_share": (self.loss != "tet", f"--loss {self.loss} pulls to nothing"),
            "mix_probability": (not mixes, nothing_mixed),
            "mix_switch": (not (self.mixup and self.cutmix), "there is no choice without --mixup and --cutmix"),
            "mix_until": (not mixes, nothing_mixed),
            "by_step": (self.schedule == "constant", "--schedule constant changes nothing"),
            "min_lr": ("min_lr" not in rates, f"--schedule {self.schedule} has no lowest rate"),
            "warmup_lr": ("warmup_lr" not in rates, "there is no warm-up without --warmup"),
        } | self.without_effect()
        for name in rates:
            value = getattr(self, name)
            if value > self.lr > 0 and {name, "lr"} & set(given):
                return f"{as_given(name, value)} is above the peak learning rate, --lr {self.lr:g}. Make it smaller."
        on = {name: told for name, told in without_effect.items() if getattr(self, name)}  # a 0 switches these off
        return first_without_effect(self, given, on)

    def without_effect(self) -> dict[str, tuple[bool, str]]:
        """Of a script's own options: whether it has no effect, and why."""
        return {}

    def _lower_rates(self) -> list[str]:
        """The learning rates beside the peak that this schedule has."""
        used = {"min_lr": self.schedule in ("cosine", "poly"), "warmup_lr": self.warmup > 0}
        return [name for name, there in used.items() if there]
