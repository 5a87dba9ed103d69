"""The plan of the small sets: which models at which sizes, how long, and what else was better on validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
LINEAR = {"nmnist_1100": 91.0, "cifar10dvs_simulated": 30.0, "cifar10_jpeg": 37.4}  # logistic regression, README there
EPOCHS = {"nmnist_1100": 220, "cifar10dvs_simulated": 20, "cifar10_jpeg": 150}


@dataclass(frozen=True)
class Model:
    """A family: keywords that suit 32 x 32 pixels, those of a tiny form, and AdamW's learning rate."""

    name: str
    keywords: str
    tiny: str
    lr: float


META = "dims=(64,128,192,256) depths=(2,1) heads=8 strides=(1,1,2,2,1)"
SMALL_META = "dims=(4,4,6,8) depths=(1,1) heads=2"
MODELS = {
    "Spikformer": Model("spikformer_4_384_cifar10", "dim=256 depth=2 heads=8", "dim=16 depth=1 heads=2", 1e-3),
    "Spike-driven Transformer": Model("sdt_2_256_cifar10", "dim=256 depth=2", "dim=16 depth=1 heads=2", 1e-3),
    "Meta-SpikeFormer": Model("meta_spikeformer_15m", META, SMALL_META, 2e-3),
    "Max-Former": Model(
        "max_former_cifar10", "dims=(64,128,256) depths=(1,1,2)", "dims=(4,6,8) depths=(1,1,1) heads=2", 2e-3
    ),
    "Max-ResNet-18": Model("max_resnet18_cifar10", "", "dims=(4,6,8) depths=(1,1)", 2e-3),
    "QSD-Transformer": Model("qsd_transformer_8_256", META, SMALL_META, 3e-3),
}

# Fewer epochs where these would take more than a minute.
FEWER = {
    ("cifar10_jpeg", "Meta-SpikeFormer"): 38,
    ("cifar10_jpeg", "Max-Former"): 110,
    ("cifar10_jpeg", "Max-ResNet-18"): 77,
    ("cifar10_jpeg", "QSD-Transformer"): 66,
    ("nmnist_1100", "Meta-SpikeFormer"): 85,
    ("nmnist_1100", "Max-Former"): 150,
    ("nmnist_1100", "Max-ResNet-18"): 130,
    ("nmnist_1100", "QSD-Transformer"): 100,
}

# The simulated recordings are few: each model trains first, for so many epochs, on pictures of cifar10_jpeg's training
# part, moved before the camera model. Recordings 0 to 99 of a class are its pictures 0 to 99: those stay out.
PRETRAINED = "cifar10dvs_simulated"
PICTURES = {
    "Spikformer": 46, "Spike-driven Transformer": 50, "Meta-SpikeFormer": 22, "Max-Former": 25, "Max-ResNet-18": 42,
    "QSD-Transformer": 25,
}  # fmt: skip
AS_EVENTS = "--dataset pictures --split ids:100-489/490-499 --validation 0.05"
FEW_AS_EVENTS = "--dataset pictures --split ids:100-104/490-491 --validation 0.2"
ON_RECORDINGS = "--optimizer adamw --lr 1e-4"  # after the pictures

# Where another optimiser or learning rate than AdamW with the family's was better on validation, or a lower no worse.
OPTIMIZERS = {
    ("cifar10_jpeg", "Meta-SpikeFormer"): ("lamb", 8e-3),
    ("cifar10_jpeg", "Max-ResNet-18"): ("muon", 6e-3),
    ("cifar10dvs_simulated", "Spikformer"): ("lamb", 1e-2),
    ("cifar10dvs_simulated", "Spike-driven Transformer"): ("lamb", 1e-2),
    ("cifar10dvs_simulated", "Meta-SpikeFormer"): ("adamw", 1e-3),
    ("cifar10dvs_simulated", "Max-ResNet-18"): ("lamb", 1e-2),
    ("nmnist_1100", "Spike-driven Transformer"): ("lamb", 5e-3),
    ("nmnist_1100", "QSD-Transformer"): ("adamw", 1.5e-3),
}

# Fewer steps than the recipe's for the two that cost most. QSD's neurons keep no state: a still picture takes one.
STEPS = {
    "cifar10_jpeg": {"QSD-Transformer": 1},
    "cifar10dvs_simulated": {"Meta-SpikeFormer": 4, "QSD-Transformer": 2},
    "nmnist_1100": {"QSD-Transformer": 3},
}

# What else was better on validation than the recipe; with pictures before the recordings, nothing mixed.
LOOP = "--on-device flip=0.5 shift=5 rotate=15 shear=0.15 zoom=0.15 erase=0.25 loop=4"
CHANGES = {
    ("cifar10dvs_simulated", "Spikformer"): "--mix-probability 0 --loss tet",
    ("cifar10dvs_simulated", "Spike-driven Transformer"): "--mix-probability 0 --loss tet",
    ("cifar10dvs_simulated", "Meta-SpikeFormer"): "--mix-probability 0",
    ("cifar10dvs_simulated", "Max-Former"): f"--mix-probability 0 {LOOP}",
    ("cifar10dvs_simulated", "Max-ResNet-18"): f"--mix-probability 0 --set dims=(32,64,128,256) {LOOP}",
    ("cifar10dvs_simulated", "QSD-Transformer"): "--mix-probability 0",
}

SETS = {
    "cifar10_jpeg": ("train_images.py", "images"),
    "cifar10dvs_simulated": ("train_cifar10dvs.py", "events"),
    "nmnist_1100": ("train_cifar10dvs.py", "events"),
}  # script, folder of the recipe


def arguments(family: str, data: str, tiny: bool, pictures: bool = False) -> list[str]:
    """Options of a training, but for epochs, seed and folders; of the one on ``pictures``, or the one on the set."""
    model = MODELS[family]
    options = ["--config", str(EXAMPLES / "configs" / SETS[data][1] / f"{data}.yaml")]
    options += ["--model", model.name]
    optimizer, lr = OPTIMIZERS.get((data, family), ("adamw", model.lr))
    options += ["--optimizer", optimizer, "--lr", str(lr)]
    if tiny:
        options += ["--size", "16"]
    if family in STEPS.get(data, {}):
        options += ["--steps", str(STEPS[data][family])]
    keywords = (model.tiny if tiny else model.keywords).split()
    options += ["--set", *keywords] if keywords else []
    if not tiny:
        options += CHANGES.get((data, family), "").split()
    if pictures:
        return options + (FEW_AS_EVENTS if tiny else AS_EVENTS).split()
    return options + (ON_RECORDINGS.split() if data == PRETRAINED else [])
