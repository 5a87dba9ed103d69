"""Files as the papers' training scripts write them, with the weights of the fixtures under the official names."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnkit.models import MaxResNet, MetaSpikeFormer, QSDTransformer, SpikeDrivenTransformer, Spikformer
from tests.models.official import distance
from tests.models.test_max_former import MODELS as MAX_FORMER
from tests.models.test_max_resnet import SMALL as MAX_RESNET
from tests.models.test_meta_spikeformer import SMALL as META
from tests.models.test_spike_driven_transformer import MODELS as SDT
from tests.models.test_spikformer import MODELS as SPIKFORMER
from tests.shared import fixture

State = dict[str, Tensor]


def training(state: State) -> tuple[dict[str, Any], dict[str, Any], argparse.Namespace]:
    """What every script keeps beside its weights: state of the optimiser after a step, of the loss scaler, options."""
    parameters = [nn.Parameter(value.clone()) for value in state.values() if value.is_floating_point()]
    optimizer = torch.optim.AdamW(parameters[:3], lr=5e-4)
    for parameter in parameters[:3]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scaler = dict(scale=65536.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000, _growth_tracker=7)
    options = argparse.Namespace(lr=5e-4, opt_betas=None, mean=[0.5, 0.5], amp=True, nested={"T": 4})
    return optimizer.state_dict(), scaler, options


def timm_saver(state: State) -> dict[str, Any]:
    """Spikformer, SDT V1, Max-Former: ``timm.utils.CheckpointSaver``."""
    optimizer, scaler, options = training(state)
    return dict(
        epoch=309, arch="spikformer", state_dict=OrderedDict(state), optimizer=optimizer, version=2, args=options,
        amp_scaler=scaler, metric=74.81,
    )  # fmt: skip


def event_script(state: State) -> dict[str, Any]:
    """Event folders of Spikformer and Max-Former."""
    optimizer, _, options = training(state)
    scheduler = {"base_values": [1e-3], "t_initial": 96, "noise_range_t": None, "warmup_steps": [9.9e-5]}
    return dict(
        model=OrderedDict(state), optimizer=optimizer, lr_scheduler=scheduler, epoch=105, args=options,
        max_test_acc1=80.9, test_acc5_at_max_test_acc1=98.7,
    )  # fmt: skip


def meta_script(state: State) -> dict[str, Any]:
    """Meta-SpikeFormer and QSD-Transformer."""
    optimizer, scaler, options = training(state)
    return dict(model=OrderedDict(state), optimizer=optimizer, epoch=199, scaler=scaler, args=options)


QSD = dict(dims=(4, 4, 4, 6), depths=(1, 0), heads=2, num_classes=5)
BUILD = (
    {name: lambda sizes=sizes, **more: Spikformer(**sizes | more) for name, (sizes, _) in SPIKFORMER.items()}
    | {name: lambda sizes=sizes, **more: SpikeDrivenTransformer(**sizes | more) for name, (sizes, _) in SDT.items()}
    | {f"metaspikeformer_{mode}": lambda steps=steps, **more: MetaSpikeFormer(**META | dict(steps=steps) | more)
       for mode, steps in (("train", 4), ("eval", 1))}
    | {name: lambda build=build, **more: build() for name, (build, _) in MAX_FORMER.items()}
    | {"max_resnet18_cifar": lambda **more: MaxResNet(**MAX_RESNET | more)}
    | {"qsd_train": lambda **more: QSDTransformer(**QSD | more)}
)  # fmt: skip
SEQUENCES_BATCH_FIRST = ("spikformer_cifar10dvs", "sdt_v1_dvs", "maxformer_event")


def layout(name: str) -> Any:
    """The script that wrote the files of this model."""
    if name.startswith(("metaspike", "qsd")):
        return meta_script
    return event_script if name.endswith(("10dvs", "event")) else timm_saver


def official(name: str) -> State:
    """A fixture's state dict; QSD with the dead tensors that its code writes, uninitialised memory included."""
    numbers = fixture(name)
    state = {key.removeprefix("state/"): torch.from_numpy(numbers[key]) for key in numbers.names("state/")}
    for key in [key for key in state if key.endswith("init_state")]:
        act = key.replace("init_state", "act.")
        state |= {f"{act}alpha": torch.full((3,), float("nan")), f"{act}zero_point": torch.zeros(3)}
        state |= {f"{act}init_state": torch.zeros(1), f"{act}signed": torch.zeros(1)}
    return state


def written(folder: Path, name: str, state: State | None = None, **how: Any) -> Path:
    torch.save(layout(name)(official(name) if state is None else state), folder / "checkpoint.pth.tar", **how)
    return folder / "checkpoint.pth.tar"


def answers(model: nn.Module, name: str) -> float:
    """Distance between the model's answer and the fixture's."""
    numbers = fixture(name)
    x = torch.from_numpy(numbers["input/x"]).double()
    x = x.transpose(0, 1) if name in SEQUENCES_BATCH_FIRST else x
    train = "output_eval/y" not in numbers and numbers.info["mode"] == "train"  # QSD's steps start in training
    with torch.no_grad():
        y = model.train(train)(x)
    return distance(y, numbers["output_eval/y" if "output_eval/y" in numbers else "output/y"])
