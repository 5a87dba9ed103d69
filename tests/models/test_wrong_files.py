"""Files of other models, broken and hostile ones: each is refused in a line or two, and the model stays as it was."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import snnkit
from snnkit.models._checkpoints import MismatchError
from tests.models.official_files import BUILD, official, timm_saver, written

ONE_A_PAPER = ["spikformer_cifar", "sdt_v1_cifar", "metaspikeformer_train", "maxformer_cifar", "ms_qkformer_cifar"]
ONE_A_PAPER += ["max_resnet18_cifar", "qsd_train"]


def refused(model: nn.Module, source: Any, error: type[Exception] = ValueError) -> str:
    """The message, which a terminal can show; the model is as it was."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(error) as raised:
        snnkit.load_checkpoint(model, source)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    message = str(raised.value)
    assert len(message.replace(str(source), "")) < 1000 and message.count("\n") < 2, message
    return message


@pytest.mark.parametrize("name", ONE_A_PAPER)
def test_a_file_of_another_paper_is_recognised(tmp_path, name):
    path = written(tmp_path, name)
    for other in ONE_A_PAPER:
        if other != name:
            holds, here = type(BUILD[name]()).__name__, type(BUILD[other]()).__name__
            message = refused(BUILD[other](), path, MismatchError)
            assert f"holds a {holds} of its official code, this is a {here}; nothing was loaded." in message


@pytest.mark.parametrize(
    ("name", "sizes", "first"),
    [
        ("spikformer_cifar", dict(dim=32), "misshaped: stem.convs.0.conv.weight (there: patch_embed.proj_conv.weight) "
         "[2, 3, 3, 3], here [4, 3, 3, 3], "),
        ("sdt_v1_cifar", dict(depth=3), "missing: stages.2.0.mixer.q.norm.weight (there: block.2.attn.q_bn.weight)"),
        ("metaspikeformer_train", dict(dims=(8, 8, 6, 8)), "stem.conv.weight (there: downsample1_1.encode_conv.weight) "
         "[2, 3, 7, 7], here [4, 3, 7, 7]"),
        ("max_resnet18_cifar", dict(depths=(1, 2, 1)), "unexpected: layer1.1.conv1.weight"),
        ("qsd_train", dict(depths=(1, 1)), "missing: stages.3.3.mixer.q.norm.weight (there: block4.0.attn.q_conv.1."),
        ("max_resnet18_cifar", dict(in_chans=2), "misshaped: stem.layer.conv.weight (there: conv1.weight) "
         "[4, 3, 3, 3], here [4, 2, 3, 3]."),
    ],
)  # fmt: skip
def test_another_size_names_the_first_tensors_in_both_languages_and_the_count(tmp_path, name, sizes, first):
    message = refused(BUILD[name](**sizes), written(tmp_path, name), MismatchError)
    assert first in message
    assert "in_chans" in sizes or " more" in message


@pytest.mark.parametrize("name", ONE_A_PAPER)
def test_a_file_that_lacks_a_tensor_or_holds_nan_is_refused_by_name(tmp_path, name):
    state = official(name)
    norm = next(key for key in state if key.endswith("running_var"))
    lacking = {key: value for key, value in state.items() if key != norm}
    message = refused(BUILD[name](), written(tmp_path, name, lacking), MismatchError)
    assert "missing: stem." in message and f"(there: {norm})" in message
    weight = next(key for key in state if key.endswith("weight") and state[key].ndim > 1)
    state[weight].view(-1)[1] = float("nan")
    message = refused(BUILD[name](), written(tmp_path, name, state))
    assert f"(there: {weight}) holds NaN or infinity" in message


@pytest.mark.parametrize("name", [name for name in ONE_A_PAPER if "former_cifar" not in name or "spik" in name])
def test_another_number_of_classes_leaves_the_head_out_as_timm_does(tmp_path, name):
    model = BUILD[name](num_classes=7)
    head = model.head.weight.detach().clone()
    with pytest.warns(UserWarning, match=r"another number of classes than \w+\(7\): the head was left out"):
        loaded = snnkit.load_checkpoint(model, written(tmp_path, name))
    assert set(loaded.left_out) == {key for key in model.state_dict() if key.startswith("head.")}
    assert torch.equal(model.head.weight, head)
    whole = BUILD[name]()
    snnkit.load_checkpoint(whole, official(name))
    rest = {key: value for key, value in whole.state_dict().items() if not key.startswith("head.")}
    assert all(torch.equal(model.state_dict()[key], value) for key, value in rest.items())


def test_a_page_an_empty_file_and_a_pickle_are_told_apart(tmp_path):
    model, path = BUILD["sdt_v1_cifar"](), tmp_path / "checkpoint.pth.tar"
    for content, words in (
        (b"", "is empty (0 bytes). Fetch or write it again."),
        (b"<!DOCTYPE html><title>Quota exceeded</title>", "A web page or a Git LFS pointer in its place"),
        (pickle.dumps(dict(state_dict={"head.weight": [1.0]})), "is a pickle of Python objects"),
    ):
        path.write_bytes(content)
        assert words in refused(model, path)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", ["args", "optimizer", "state_dict"])
def test_code_in_a_file_never_runs(tmp_path, key, legacy):
    folder = tmp_path / "it ran"
    held = timm_saver(official("sdt_v1_cifar"))
    held[key] = Hostile(folder) if key != "state_dict" else held[key] | {"head.extra": Hostile(folder)}
    path = tmp_path / "a.pth.tar"
    torch.save(held, path, _use_new_zipfile_serialization=not legacy)
    assert "reading that could run code, so nothing was read" in refused(BUILD["sdt_v1_cifar"](), path)
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["zip", "before torch 1.6", "safetensors"])
def test_however_a_file_was_cut_or_damaged_the_error_is_ours(tmp_path, kind):
    name = "max_resnet18_cifar"
    model, path = BUILD[name](), tmp_path / "a"
    snnkit.load_checkpoint(model, official(name))
    if kind == "safetensors":
        snnkit.save_checkpoint(model, path)
    else:
        path = written(tmp_path, name, _use_new_zipfile_serialization=kind == "zip")
    data, draw = path.read_bytes(), random.Random(0)
    for _ in range(20):
        path.write_bytes(data[: draw.randrange(1, len(data))])
        refused(model, path)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    stopped = 0
    for _ in range(40 if kind != "before torch 1.6" else 0):  # those have no checksums
        damaged = bytearray(data)
        damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            snnkit.load_checkpoint(model, path)
        except ValueError:
            stopped += 1
        for key, value in model.state_dict().items():  # where it loads, the damage is in a date, not in a number
            assert torch.equal(value, before[key]), key
    assert stopped > 10 or kind == "before torch 1.6"
