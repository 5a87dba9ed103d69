"""Spike-driven Transformer against its official code: ImageNet, CIFAR and event form; PLIF by the formulas alone."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import snnkit
from snnkit.models import SpikeDrivenTransformer
from snnkit.models._official import TABLES
from snnkit.nn import PLIF
from tests.models.official import distance, reproduces
from tests.shared import fixture, shared_path

SMALL = dict(dim=16, depth=2, heads=2, mlp_ratio=2, num_classes=5)
CIFAR = dict(SMALL, pools=(False, False, True, True))
MODELS = {
    "sdt_v1_imagenet": (SMALL, True),
    "sdt_v1_cifar": (CIFAR, True),
    "sdt_v1_dvs": (dict(CIFAR, in_chans=2, erode=True, readout=None), False),
}


@pytest.mark.parametrize("name", MODELS)
def test_official_outputs_gradients_statistics_and_rates(name):
    numbers = fixture(name)
    sizes, time_first = MODELS[name]
    reproduces(SpikeDrivenTransformer(**sizes), numbers, time_first)


def official(state: dict[str, Tensor], x: Tensor, depth: int, pools: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The network in training mode, neuron first, as plain functions of an official state dict; logits and spikes.

    PLIF where the state has a ``w`` for a neuron: 1 / tau = sigmoid(w), otherwise tau = 2.
    """
    spikes = {}

    def neuron(name: str, x: Tensor, threshold: float = 1.0) -> Tensor:
        decay = state[f"{name}.w"].sigmoid() if f"{name}.w" in state else 0.5
        v, out = torch.zeros_like(x[0]), []
        for row in x:
            h = v + (row - v) * decay
            smooth = torch.sigmoid(4 * (h - threshold))
            s = (h >= threshold).to(x) + (smooth - smooth.detach())  # exactly 0 or 1: max pools have ties
            v = (1 - s.detach()) * h
            out.append(s)
        spikes[name] = torch.stack(out)
        return spikes[name]

    def layer(conv: str, norm: str, x: Tensor) -> Tensor:
        weight = state[f"{conv}.weight"]
        y = F.conv2d(x.flatten(0, 1), weight, state.get(f"{conv}.bias"), padding=weight.shape[-1] // 2)
        y = F.batch_norm(y, None, None, state[f"{norm}.weight"], state[f"{norm}.bias"], training=True)
        return y.unflatten(0, x.shape[:2])

    def pool(i: int, x: Tensor) -> Tensor:
        return F.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, x.shape[:2]) if pools[i] == "1" else x

    p = "patch_embed."
    for i, n in enumerate(("", "1", "2")):
        x = pool(i, neuron(f"{p}proj_lif{n}", layer(f"{p}proj_conv{n}", f"{p}proj_bn{n}", x)))
    f = pool(3, layer(f"{p}proj_conv3", f"{p}proj_bn3", x))
    x = f + layer(f"{p}rpe_conv", f"{p}rpe_bn", neuron(f"{p}proj_lif3", f))
    for i in range(depth):
        a, m = f"block.{i}.attn.", f"block.{i}.mlp."
        s = neuron(f"{a}shortcut_lif", x)
        q, k, v = (neuron(f"{a}{n}_lif", layer(f"{a}{n}_conv", f"{a}{n}_bn", s)) for n in "qkv")
        gate = neuron(f"{a}talking_heads_lif", (k * v).sum((-2, -1), keepdim=True), 0.5)
        x = x + layer(f"{a}proj_conv", f"{a}proj_bn", q * gate)
        u = layer(f"{m}fc1_conv", f"{m}fc1_bn", neuron(f"{m}fc1_lif", x))
        if u.shape == x.shape:
            x = u = x + u
        x = x + layer(f"{m}fc2_conv", f"{m}fc2_bn", neuron(f"{m}fc2_lif", u))
    s = neuron("head_lif", x.mean((-2, -1)))
    return (s @ state["head.weight"].T + state["head.bias"]).mean(0), spikes


LAYERS = {"patch_embed.": ["proj_lif", "proj_lif1", "proj_lif2", "proj_lif3"], "": ["head_lif"]} | {
    f"block.{i}.": [
        *(f"attn.{name}_lif" for name in ("shortcut", "q", "k", "v", "talking_heads")), "mlp.fc1_lif", "mlp.fc2_lif"
    ]
    for i in range(2)
}  # fmt: skip
NEURONS = [prefix + name for prefix, names in LAYERS.items() for name in names]
DEAD = ["patch_embed.rpe_lif.w", "block.0.attn.attn_lif.w", "block.1.attn.talking_heads.weight"]


def drawn(plif: bool, hidden: int) -> dict[str, Tensor]:
    """The CIFAR fixture's weights with MLPs of another width, and with a w for each neuron, too."""
    numbers = fixture("sdt_v1_cifar")
    state = {key.removeprefix("state/"): torch.from_numpy(numbers[key]) for key in numbers.names("state/")}
    state = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
    for i in range(2):
        for key in [key for key in state if key.startswith(f"block.{i}.mlp.fc1")]:
            state[key] = state[key][:hidden] if state[key].ndim else state[key]
        state[f"block.{i}.mlp.fc2_conv.weight"] = state[f"block.{i}.mlp.fc2_conv.weight"][:, :hidden]
    if plif:
        for i, name in enumerate(NEURONS):
            state[f"{name}.w"] = torch.tensor(0.11 * (i % 9) - 0.4, dtype=torch.float64)
        for name in DEAD[:2]:
            state[name] = torch.tensor(7.0, dtype=torch.float64)
    return state


@pytest.mark.parametrize("plif", [True, False], ids=["PLIF", "LIF"])
def test_learnt_time_constants_and_the_inner_shortcut_follow_the_formulas(plif):
    state = drawn(plif, hidden=16)
    sizes = dict(CIFAR, mlp_ratio=1, **(dict(neuron=PLIF) if plif else {}))
    model = SpikeDrivenTransformer(**sizes).double()
    loaded = snnkit.load_checkpoint(model, state)
    assert set(loaded.dead) == set(DEAD if plif else DEAD[2:]) | {"block.0.attn.talking_heads.weight"}
    x = torch.from_numpy(fixture("sdt_v1_cifar")["input/x"]).double()
    weight = torch.linspace(-1, 1, 10, dtype=torch.float64).reshape(2, 5)

    with snnkit.firing_rates(model) as rates:
        y = model.train()(x)
    (y * weight).sum().backward()
    theirs = {key: value.requires_grad_() for key, value in state.items() if value.is_floating_point()}
    expected, spikes = official(theirs, x.expand(4, *x.shape), depth=2, pools="0011")
    (expected * weight).sum().backward()

    assert distance(y, expected.detach().numpy()) < 1e-10
    names = TABLES["Spike-driven Transformer"].names(model, theirs)
    own = dict(model.named_parameters())
    for key, value in theirs.items():
        if value.grad is not None:
            assert distance(own.pop(names[key]).grad, value.grad.numpy()) < 1e-9, key
    assert not own, list(own)
    layers = TABLES["Spike-driven Transformer"].names(model, [f"{name}." for name in NEURONS])
    assert len(rates) == len(NEURONS)
    for name in NEURONS:
        assert rates[layers[f"{name}."].removesuffix(".")] == pytest.approx(spikes[name].mean().item(), abs=1e-12)


def test_the_formulas_above_give_the_fixture_too():
    numbers = fixture("sdt_v1_cifar")
    x = torch.from_numpy(numbers["input/x"]).double()
    y, _ = official(drawn(plif=False, hidden=32), x.expand(4, *x.shape), depth=2, pools="0011")
    assert distance(y, numbers["output/y"]) < 1e-10


def test_the_time_constant_of_a_block_moves_to_the_layer_before_it():
    model = SpikeDrivenTransformer(**CIFAR, neuron=PLIF).double()
    state = drawn(plif=True, hidden=32)
    snnkit.load_checkpoint(model, state)
    places = {
        "block.0.attn.shortcut_lif.w": model.stem.position,
        "block.1.attn.shortcut_lif.w": model.stages[0][0].mlp.fc2,
        "block.1.mlp.fc1_lif.w": model.stages[1][0].mixer.proj,
        "block.1.mlp.fc2_lif.w": model.stages[1][0].mlp.fc1,
    }
    for key, layer in places.items():
        assert layer.neuron.w == state[key], key
    assert model.head_neuron.w == state["head_lif.w"]


def test_a_missing_time_constant_is_named_as_in_the_file():
    state = drawn(plif=True, hidden=32)
    del state["block.1.attn.shortcut_lif.w"]
    with pytest.raises(ValueError, match=r"stages\.0\.0\.mlp\.fc2\.neuron\.w \(there: block\.1\.attn\.shortcut_lif\.w"):
        snnkit.load_checkpoint(SpikeDrivenTransformer(**CIFAR, neuron=PLIF).double(), state)


COUNTS = {"imagenet": "", "cifar10": "_cifar10", "cifar100": "_cifar100", "cifar10dvs": "_cifar10dvs"} | {
    "dvs128gesture": "_dvs128"
}


def test_every_published_variant_has_the_official_sizes():
    counts = json.loads(shared_path("specs/param_counts_transformers_a.json").read_text())
    rows = {key.removeprefix("sdt_v1_"): row for key, row in counts.items() if key.startswith("sdt_v1_")}
    ours = {f"sdt_{key.rpartition('_')[0]}{COUNTS[key.rpartition('_')[2]]}": row for key, row in rows.items()}
    assert set(ours) == set(snnkit.list_models("sdt_*"))
    for name, row in ours.items():
        with torch.device("meta"):
            model = snnkit.create_model(name)
        assert sum(p.numel() for p in model.parameters()) == row["params"] - row["dead_params"], name
        theirs = row["args"]
        assert [model.img_size[0], model.steps, model.arguments["erode"], model.arguments["heads"]] == [
            theirs["img_size_h"], theirs["T"], theirs["dvs_mode"], theirs["num_heads"]
        ], name  # fmt: skip
        assert "".join("01"[pool] for pool in model.arguments["pools"]) == theirs["pooling_stat"], name


def test_official_key_lists_fit():
    for name, keys in (
        ("sdt_8_384", "sdt_v1_8_384_imagenet"),
        ("sdt_2_512_cifar10", "sdt_v1_2_512_cifar10"),
        ("sdt_2_256_cifar10dvs", "sdt_v1_2_256_cifar10dvs"),
    ):
        lines = shared_path(f"specs/keys/{keys}.txt").read_text().split("\n")
        shapes = dict(line.split() for line in lines if line)
        model = snnkit.create_model(name)
        state = {
            key: torch.tensor(0) if shape == "scalar" else torch.zeros(*map(int, shape.split("x")))
            for key, shape in shapes.items()
        }
        loaded = snnkit.load_checkpoint(model, state)
        assert loaded.source == "Spike-driven Transformer"
        assert all(key.endswith("talking_heads.weight") for key in loaded.dead)
        assert len(loaded.dead) == len(model.stages)


def test_the_mean_of_the_steps_logits_is_the_answer():
    torch.manual_seed(0)
    model = SpikeDrivenTransformer(**CIFAR).train()
    x = torch.rand(3, 3, 16, 8) * 4
    y = model(x)
    model.readout = None
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.reset_running_stats()
    each = model(x)
    assert each.shape == (4, 3, 5)
    torch.testing.assert_close(each.mean(0), y)


def test_initial_weights_are_those_of_the_paper():
    torch.manual_seed(0)
    model = SpikeDrivenTransformer(dim=64, depth=1)
    layer = model.stages[0][0].mlp.fc1.conv
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not layer.bias.any()
    assert np.isclose(model.head.weight.abs().max().item(), 1 / 8, rtol=0.01)  # torch: uniform, 1 / sqrt(64)
