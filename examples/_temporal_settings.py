"""Options of train_shd.py: the data, the network, how it is trained."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from _settings import option
from _temporal_options import recipe_for, unused_by_model
from _without_effect import first_without_effect

from snnkit.nn import LastStep, MaxOverTime, MeanOverTime, SumOfSoftmax, SumOverTime
from snnkit.ops.delay import Bilinear, Gauss, Triangle

READOUTS = {"sum": SumOfSoftmax, "mean": MeanOverTime, "max": MaxOverTime, "last": LastStep}
READOUTS["spike_count"] = SumOverTime  # of output neurons that fire
PROFILES = {"gauss": Gauss(), "triangle": Triangle(), "wide_triangle": Triangle(), "bilinear": Bilinear()}


@dataclass
class Settings:
    """Options and recipe keys. The recipes in configs/ set those that matter for their data."""

    dataset: str = option("digits", "what to train on", choices=("digits", "shd", "gsc", "psmnist"))
    root: str = option("", "folder of the data set's files; gsc: all its 35 words", free=True, of="shd, gsc, psmnist")
    steps: int = option(16, "time steps", of="digits")
    step_ms: float = option(10.0, "length of a time step (ms)", of="shd")
    merge: int = option(5, "neighbouring units that are summed to one input", of="shd")
    from_zero: bool = option(False, "time starts at zero, not at a sample's first spike", of="shd")
    least_steps: int = option(1, "a shorter sample gets silent steps, which count as its own", of="shd")
    published_bins: bool = option(False, "bin in float16 as SpikingJelly does, 0.8 % of spikes one bin off", of="shd")
    official_padding: bool = option(False, "padded steps count, as in the original: answers depend on batch mates")
    validation: float = option(0.1, "share of the training set held out to choose the epoch, if there is no valid file")
    time_shift: int = option(0, "augmentation: shift by up to so many steps", of="digits, shd")
    time_stretch: float = option(0.0, "augmentation: stretch by up to this share", of="digits, shd")
    channel_shift: int = option(0, "augmentation: shift by up to so many inputs", of="digits, shd")
    channel_jitter: float = option(0.0, "augmentation: move each spike by a normal number of inputs", of="digits, shd")
    time_mask: int = option(0, "augmentation: silence up to so many steps", of="digits, shd")
    neuron_mask: int = option(0, "augmentation: silence up to so many neighbouring inputs", of="digits, shd")
    triple: int = option(
        0,
        "augmentation: 3 samples for each: itself; its inputs each shifted by up to so many steps; a blend of two",
        of="digits, shd",
    )
    cutmix: float = option(0.0, "augmentation: probability of CutMix along time", of="digits, shd")

    # None: the model's own value
    model: str = option("", "a name of `python -m snnkit list` (default: by the data set)")
    delays: str = option("learnt", "delays of the synapses", choices=("learnt", "fixed", "none"))
    profile: str = option(
        "gauss",
        "how a learnt delay is spread over time in training: gauss and wide_triangle shrink from sigma on (to 0.23 and "
        "1), triangle and bilinear reach the neighbouring taps alone",
        choices=tuple(PROFILES),
    )
    learn_width: bool = option(False, "learn the width of each delay, from sigma on, in place of shrinking it")
    hidden: tuple[int, ...] | None = option(None, "neurons of each hidden layer")
    max_delay: int | None = option(None, "taps K of a delay kernel: delays of 0 .. K - 1 steps")
    kernel_count: int | None = option(None, "delayed copies of each synapse")
    tail: int | None = option(None, "steps that each layer adds for late spikes (default: the model's own)")
    sparsity: float | None = option(None, "share of the weights that are zero for good")
    tau: float | None = option(None, "membrane time constant (steps)")
    learn_tau: bool | None = option(None, "learn one tau a layer (PLIF)")
    v_threshold: float | None = option(None, "firing threshold")
    detach_reset: bool | None = option(None, "no gradient through the reset")
    filter_tau: float | None = option(None, "time constant of a synaptic filter (steps)")
    learn_filter: bool | None = option(None, "learn it, one a layer")
    bias: bool | None = option(None, "biases in the connections")
    dropout: float | None = option(None, "probability, one mask for all time steps")
    surrogate: float | None = option(None, "alpha of the arctangent surrogate gradient")
    loss: str | None = option(
        None,
        "answer over time: sum of the membranes' softmax; their mean, max, last; spikes of neurons with threshold 2 "
        "(default: the model's own)",
        choices=tuple(READOUTS),
    )

    epochs: int = option(50, "passes over the training set")
    batch: int = option(64, "samples a step, of all processes together")
    optimizer: str = option("adam", "any of timm's; adam decays weights by L2, as the paper does")
    schedule: str = option(
        "onecycle",
        "learning rate of the weights, by epoch; plateau: x 0.7 after two epochs without a better validation",
        choices=("onecycle", "cosine", "constant", "plateau"),
    )
    warmup: int = option(5, "cosine: epochs of linear warm-up")
    lr: float = option(5e-3, "peak learning rate of the weights")
    clip_grad: float = option(0.0, "largest norm of the gradient; 0: no limit")
    lr_delay: float = option(0.1, "largest learning rate of the delays")
    schedule_delay: str = option(
        "cosine", "of it: it falls to 0 as a cosine, or as --schedule's onecycle", choices=("cosine", "onecycle")
    )
    weight_decay: float = option(1e-5, "of the weights; norms, biases and delays have none")
    decay_bias: bool = option(False, "of the connections' biases, too")
    sigma: float | None = option(
        None, "width of delays at first (steps; default: half the taps; learnt triangle 1; recurrent ones 10)"
    )
    sigma_share: float = option(0.25, "share of the epochs in which the width shrinks to its end")

    seed: int = option(0, "of everything random")
    precision: str = option(
        "no", "no: float32; tf32: products in TF32 on a GPU; bf16: mixed precision", choices=("no", "tf32", "bf16")
    )
    cpu: bool = option(False, "do not use a GPU", free=True)
    workers: int = option(0, "processes that load data; 0: where nothing is random, the device keeps it", free=True)
    # Not --run: torchrun reads options behind the script's name too, and has a --run-path.
    folder: str = option("", "folder of the run (default: a new one in runs/)")
    checkpoint_seconds: float = option(60.0, "write a checkpoint after this time", free=True)
    checkpoint_steps: int = option(0, "and after so many steps; 0: by time alone", free=True)
    stop_after: int = option(0, "stop after this epoch, to be resumed; 0: train to the end", free=True)

    notes: ClassVar[tuple[str, ...]] = ()  # what a new run says at its start
    recipe_for = staticmethod(recipe_for)

    @property
    def has_width(self) -> bool:
        """Whether delays have a width: the gauss, the wide triangle, and the other one if its width is learnt."""
        learnt = self.profile == "triangle" and self.learn_width
        return self.delays == "learnt" and (self.profile in ("gauss", "wide_triangle") or learnt)

    def unused(self, given: Collection[str]) -> str | None:
        """What to say if one of these settings would change nothing."""
        which = f"--delays {self.delays}" if self.delays != "learnt" else f"--profile {self.profile}"
        learnt, none = self.delays == "learnt", self.delays == "none"
        without_effect = {
            "sigma": (not self.has_width, f"{which} has no width"),
            "sigma_share": (not self.has_width or self.learn_width, "no width shrinks"),
            "learn_width": (not learnt or self.profile == "bilinear", f"{which} has no width"),
            "profile": (not learnt, f"{which} has no profile"),
            "lr_delay": (not learnt, f"{which} learns no delays"),
            "schedule_delay": (not learnt, f"{which} learns no delays"),
            "from_zero": (self.published_bins, "--published-bins start at the first spike"),
            "max_delay": (none, f"{which} has no delays"),
            "kernel_count": (none, f"{which} has no delays"),
            "tail": (none, f"{which} has no delays"),
            "learn_filter": (self.filter_tau is None, "there is no filter without --filter-tau"),
            "decay_bias": (self.weight_decay == 0, "without --weight-decay nothing decays"),
            "warmup": (self.schedule != "cosine", f"--schedule {self.schedule} has no warm-up"),
        }
        return first_without_effect(self, given, without_effect) or unused_by_model(self, given)
