"""Meta-SpikeFormer against its official code; the distillation head by the formulas alone; official files."""

import argparse
import copy
import json
import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import snnkit
from snnkit.models import MetaSpikeFormer
from snnkit.models._checkpoints import MismatchError
from snnkit.models._meta_backbone import ConvBlock
from snnkit.models._official import TABLES
from snnkit.models._official.meta_spikeformer import _conv_block
from snnkit.nn import PLIF
from snnkit.nn.attention import PaperLIF
from snnkit.nn.losses import distillation
from tests.models.official import distance, reproduces
from tests.shared import fixture, shared_path

SMALL = dict(dims=(4, 4, 6, 8), depths=(1, 1), heads=2, num_classes=5)
TABLE = TABLES["Meta-SpikeFormer"]


@pytest.mark.parametrize(("name", "steps"), [("metaspikeformer_train", 4), ("metaspikeformer_eval", 1)])
def test_official_outputs_gradients_statistics_and_rates(name, steps):
    reproduces(MetaSpikeFormer(steps=steps, **SMALL), fixture(name))


def test_a_conv_block_alone_is_the_official_one():
    numbers = fixture("metaspike_convblock")
    fire, block = PaperLIF(), ConvBlock(4, 4, PaperLIF).double()
    rows = list(_conv_block("", "", "neuron."))

    def ours(name: str) -> str:
        return next(b + name.removeprefix(a) for a, b in rows if name.startswith(a))

    def tensors(prefix: str) -> dict[str, Tensor]:
        return {ours(n.removeprefix(prefix)): torch.from_numpy(numbers[n]) for n in numbers.names(prefix)}

    block.load_state_dict(tensors("state/"))
    x = torch.from_numpy(numbers["input/x"]).double().requires_grad_()
    assert distance(block.eval()(x, fire(x))[0], numbers["output_eval/y"]) < 1e-9
    with snnkit.firing_rates(torch.nn.ModuleDict({"block": block, "neuron": fire})) as rates:
        y, _ = block.train()(x, fire(x))
    assert distance(y, numbers["output/y"]) < 1e-9
    (y * torch.from_numpy(numbers["input/loss_weight"])).sum().backward()
    assert distance(x.grad, numbers["grad_input/x"]) < 1e-9
    gradients = tensors("grad/")
    assert gradients.keys() == dict(block.named_parameters()).keys()
    for name, grad in gradients.items():
        assert distance(block.get_parameter(name).grad, grad.numpy()) < 1e-9, name
    for name, value in tensors("state_after/").items():
        assert distance(block.state_dict()[name], value.numpy()) < 1e-9, name
    for name in numbers.names("rate/"):
        key = ours(name.removeprefix("rate/") + ".").removesuffix(".")
        assert abs(rates[key if key == "neuron" else f"block.{key}"] - float(numbers[name])) < 1e-12


def lively(distilled: bool = True, steps: int = 3, **sizes) -> MetaSpikeFormer:
    """A small model in float64 whose layers fire."""
    torch.manual_seed(0)
    model = MetaSpikeFormer(distilled=distilled, steps=steps, **SMALL | sizes).double()
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.weight.uniform_(1.0, 2.0)
            norm.bias.uniform_(0.5, 2.5)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.2, 2.0)
        for name, value in model.named_parameters():
            if re.search(r"mixer\.[qkv]\.norm\.bias", name):
                value += 1.0  # or no product reaches the threshold
            elif name.startswith("head"):
                value.normal_()
    return model


def in_their_names(model: MetaSpikeFormer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the official names, detached."""
    theirs = TABLE.translate(model, {}, "")[1]
    return {theirs[name]: value.detach().clone() for name, value in tensors.items()}


def official(state: dict[str, Tensor], x: Tensor, steps: int, heads: int, training: bool) -> tuple[Tensor, Tensor]:
    """The network, neuron first, as plain functions of an official state dict, whose statistics it updates.

    The image is repeated before the first convolution. Returns the logits of both heads, means over time.
    """

    def neuron(x: Tensor, threshold: float = 1.0) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for row in x:
            h = v + (row - v) / 2
            smooth = torch.sigmoid(4 * (h - threshold))
            s = (h >= threshold).to(x) + (smooth - smooth.detach())
            v = (1 - s.detach()) * h
            out.append(s)
        return torch.stack(out)

    def norm(name: str, y: Tensor) -> Tensor:
        running = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(y, *running, state[f"{name}.weight"], state[f"{name}.bias"], training, 0.1)

    def conv(name: str, y: Tensor, **how: int) -> Tensor:
        weight = state[f"{name}.weight"]
        weight = weight[..., None] if weight.ndim == 3 else weight  # their Conv1d over tokens
        return F.conv2d(y, weight, state.get(f"{name}.bias"), **how)

    def each(function, x: Tensor) -> Tensor:
        return function(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def down(name: str, x: Tensor, **how: int) -> Tensor:
        return each(lambda y: norm(f"{name}.encode_bn", conv(f"{name}.encode_conv", y, **how)), x)

    def conv_block(name: str, x: Tensor) -> Tensor:
        sep = f"{name}.Conv"
        y = each(lambda y: norm(f"{sep}.bn1", conv(f"{sep}.pwconv1", y)), neuron(x))
        wide = y.shape[2]
        y = each(lambda y: conv(f"{sep}.dwconv", y, padding=3, groups=wide), neuron(y))
        x = x + each(lambda y: norm(f"{sep}.bn2", conv(f"{sep}.pwconv2", y)), y)
        y = each(lambda y: norm(f"{name}.bn1", conv(f"{name}.conv1", y, padding=1)), neuron(x))
        return x + each(lambda y: norm(f"{name}.bn2", conv(f"{name}.conv2", y, padding=1)), neuron(y))

    def repconv(name: str, y: Tensor) -> Tensor:
        y = norm(f"{name}.0.body.1.bn", conv(f"{name}.0.body.0", y))
        gamma, beta, mean, var = (
            state[f"{name}.0.body.1.bn.{part}"].detach() for part in ("weight", "bias", "running_mean", "running_var")
        )
        frame = (beta - mean * gamma / (var + 1e-5).sqrt())[:, None, None].expand(y[0].shape)
        inside = F.pad(torch.ones_like(y), (1, 1, 1, 1)) == 1
        y = torch.where(inside, F.pad(y, (1, 1, 1, 1)), F.pad(frame, (1, 1, 1, 1), mode="replicate"))
        y = conv(f"{name}.0.body.2.1", conv(f"{name}.0.body.2.0", y, groups=y.shape[1]))
        return norm(f"{name}.1", norm(f"{name}.0.body.2.2", y))

    def block(name: str, x: Tensor) -> Tensor:
        s = neuron(x)
        parts = [neuron(each(lambda y, p=p: repconv(f"{name}.attn.{p}_conv", y), s)) for p in "qkv"]
        q, k, v = (p.flatten(3).unflatten(2, (heads, -1)).transpose(-1, -2) for p in parts)  # [T, B, heads, N, d]
        a = 0.125 * q @ (k.transpose(-1, -2) @ v)
        a = neuron(a.transpose(-1, -2).reshape(s.shape), 0.5)
        x = x + each(lambda y: repconv(f"{name}.attn.proj_conv", y), a)
        y = x
        for layer in ("fc1", "fc2"):
            at = f"{name}.mlp.{layer}"
            y = each(lambda y, at=at: norm(f"{at}_bn", conv(f"{at}_conv", y)), neuron(y))
        return x + y

    x = down("downsample1_1", x.expand(steps, *x.shape), stride=2, padding=3)
    x = conv_block("ConvBlock1_1.0", x)
    x = conv_block("ConvBlock1_2.0", down("downsample1_2", neuron(x), stride=2, padding=1))
    x = conv_block("ConvBlock2_1.0", down("downsample2", neuron(x), stride=2, padding=1))
    x = down("downsample3", neuron(conv_block("ConvBlock2_2.0", x)), stride=2, padding=1)
    x = down("downsample4", neuron(block("block3.0", x)), padding=1)
    s = neuron(block("block4.0", x).mean((-2, -1)))
    one, two = ((s @ state[f"{h}.weight"].T + state[f"{h}.bias"]).mean(0) for h in ("head", "head_kd"))
    return one, two


@pytest.mark.parametrize("steps", [1, 3])
def test_the_distilled_network_is_that_of_the_formulas(steps):
    model, x = lively(steps=steps), torch.randn(2, 3, 48, 64, dtype=torch.float64)
    state = in_their_names(model, model.state_dict())
    torch.testing.assert_close(model.eval()(x), sum(official(state, x, steps, 2, training=False)) / 2)
    parameters = in_their_names(model, dict(model.named_parameters()))
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    expected = official(state := state | leaves, x, steps, 2, training=True)
    with snnkit.firing_rates(model) as rates:
        pair = model.train()(x)
    assert all(rate > 0 for rate in rates.values())
    weights = torch.randn(2, 2, 5, dtype=torch.float64)
    for answer, other, weight in zip(pair, expected, weights, strict=True):
        torch.testing.assert_close(answer, other)
        (answer * weight).sum().backward(retain_graph=True)
        (other * weight).sum().backward(retain_graph=True)
    for name, grad in in_their_names(model, {n: p.grad for n, p in model.named_parameters()}).items():
        torch.testing.assert_close(grad, leaves[name].grad, rtol=1e-9, atol=1e-11, msg=name)
    for name, value in in_their_names(model, model.state_dict()).items():
        if "running" in name:
            torch.testing.assert_close(value, state[name], rtol=1e-12, atol=1e-14, msg=name)


@pytest.mark.parametrize(("file", "name"), [("8_384", "8_384"), ("8_512_kd", "8_512_dist")])
def test_every_official_tensor_has_one_place_of_its_shape(file, name):
    lines = shared_path(f"specs/keys/metaspikformer_{file}.txt").read_text().split("\n")
    shapes = dict(line.split() for line in lines if line)
    with torch.device("meta"):
        model = snnkit.create_model(f"meta_spikeformer_{name}")
    places = TABLE.names(model, shapes)
    own = model.state_dict()
    assert sorted(places.values()) == sorted(own)
    for key, place in places.items():
        theirs = [] if shapes[key] == "scalar" else [int(n) for n in shapes[key].split("x")]
        assert list(own[place].shape) == theirs + [1] * (own[place].ndim - len(theirs)), key


def test_parameter_counts_are_the_official_ones():
    counts = json.loads(shared_path("specs/param_counts_transformers_a.json").read_text())
    counts = {name.replace("8_256_15m", "15m"): entry["params"] for name, entry in counts.items()}
    counts["metaspikformer_15m_kd"] = counts["metaspikformer_15m"] + 361_000
    for name in snnkit.list_models("meta_spikeformer_*"):
        with torch.device("meta"):
            model = snnkit.create_model(name)
        theirs = name.replace("meta_spikeformer", "metaspikformer").replace("_dist", "_kd")
        assert sum(p.numel() for p in model.parameters()) == counts.pop(theirs), name
    assert not [name for name in counts if "metaspik" in name]


def test_checkpointing_keeps_gradients_statistics_and_the_frame_of_repconv():
    x, runs = torch.randn(2, 3, 32, 32, dtype=torch.float64), []
    for enable in (False, True):
        model = lively().train()
        model.set_grad_checkpointing(enable)
        sum(answer.square().sum() for answer in model(x)).backward()
        buffers = [b for b in model.buffers() if b.is_floating_point()]
        runs.append([*(p.grad for p in model.parameters()), *buffers])
    for plain, again in zip(*runs, strict=True):
        assert torch.equal(plain, again)


def test_a_distilled_model_answers_with_a_pair_in_training_and_the_mean_otherwise():
    model, x = lively(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    one, two = copy.deepcopy(model).train()(x)
    assert not torch.equal(one, two)
    twin = copy.deepcopy(model).train()
    twin.set_distilled_training(False)
    torch.testing.assert_close(twin(x), (one + two) / 2)
    twin.set_distilled_training()
    loss = distillation(*twin(x), torch.tensor([0, 1]), torch.randn(2, 5, dtype=torch.float64))
    assert loss.requires_grad
    assert model.eval()(x).shape == (2, 5)
    assert model.forward_head(model.forward_features(x), pre_logits=True).shape == (2, 8)
    with snnkit.carry(model):
        for frame in x.expand(4, *x.shape).split(2):
            y = model(frame)
    torch.testing.assert_close(y, model(x.expand(4, *x.shape)))


def test_both_classifiers_are_known_to_timm_and_reset_together():
    model = lively()
    assert model.get_classifier() == (model.head, model.head_dist)
    assert model.default_cfg["classifier"] == ("head", "head_dist")
    model.reset_classifier(7)
    assert [head.out_features for head in model.get_classifier()] == [7, 7]
    assert [y.shape for y in model.train()(torch.zeros(2, 3, 32, 32, dtype=torch.float64))] == [(2, 7)] * 2
    model.reset_classifier(0)
    assert model.eval()(torch.zeros(2, 3, 32, 32, dtype=torch.float64)).shape == (2, 8)
    plain = lively(distilled=False)
    assert plain.get_classifier() is plain.head
    assert plain.default_cfg["classifier"] == "head"
    assert plain.train()(torch.zeros(2, 3, 32, 32, dtype=torch.float64)).shape == (2, 5)


def test_feature_maps_are_those_of_the_detection_backbones():
    model, x = lively(False).eval(), torch.randn(2, 3, 64, 96, dtype=torch.float64)
    features, maps = model.forward_intermediates(x)
    info = [(i["num_chs"], i["reduction"]) for i in model.feature_info]
    assert info == [(2, 2), (4, 4), (4, 8), (8, 16)]
    assert [m.shape for m in maps] == [(2, c, 64 // r, 96 // r) for c, r in info]
    torch.testing.assert_close(maps[-1], features.mean(0))


def save(model: MetaSpikeFormer, path, without: str = "nothing") -> dict[str, Tensor]:
    """A file as their training script writes it."""
    state = in_their_names(model, model.state_dict())
    state = {name: value for name, value in state.items() if not name.startswith(without)}
    torch.save(dict(model=state, optimizer={}, epoch=3, scaler={}, args=argparse.Namespace(batch_size=8)), path)
    return state


@pytest.mark.parametrize("distilled", [False, True])
def test_a_file_of_their_script_loads(tmp_path, distilled):
    model, x = lively(distilled), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    save(model, tmp_path / "a.pth")
    other = MetaSpikeFormer(distilled=distilled, steps=3, **SMALL).double()
    loaded = snnkit.load_checkpoint(other, tmp_path / "a.pth")
    assert (loaded.source, loaded.left_out) == ("Meta-SpikeFormer", ())
    assert torch.equal(other.eval()(x), model.eval()(x))


def same_but(other: MetaSpikeFormer, model: MetaSpikeFormer, prefixes: tuple[str, ...]) -> bool:
    """Whether two models share all tensors but those, which differ."""
    theirs = model.state_dict()
    return all(
        torch.equal(value, theirs[name]) != name.startswith(prefixes)
        for name, value in other.state_dict().items() if name in theirs and value.shape == theirs[name].shape
    )  # fmt: skip


def test_heads_that_only_one_of_file_and_model_has_are_left_out_with_a_message(tmp_path):
    teacher, plain = lively(True), lively(False)
    second = ("head_dist.weight", "head_dist.bias")
    save(teacher, tmp_path / "kd.pth")
    save(plain, tmp_path / "plain.pth")
    save(plain, tmp_path / "backbone.pth", without="head.")
    torch.manual_seed(1)
    other = MetaSpikeFormer(**SMALL).double()
    with pytest.warns(UserWarning, match=r"has a head that this .* lacks; it was left out .*there: head_kd.weight"):
        assert snnkit.load_checkpoint(other, tmp_path / "kd.pth").left_out == second
    assert same_but(other, teacher, ("head_dist.",))
    other = MetaSpikeFormer(distilled=True, **SMALL).double()
    with pytest.warns(UserWarning, match=r"lacks a head of this .*, which stays random .*there: head_kd.weight"):
        assert snnkit.load_checkpoint(other, tmp_path / "plain.pth").left_out == second
    assert same_but(other, plain, ("head_dist.",))
    other = MetaSpikeFormer(**SMALL).double()
    with pytest.warns(UserWarning, match=r"lacks a head of this .* \(head.weight, head.bias\)"):
        assert snnkit.load_checkpoint(other, tmp_path / "backbone.pth").left_out == ("head.weight", "head.bias")
    assert same_but(other, plain, ("head.",))
    other = MetaSpikeFormer(**SMALL | dict(num_classes=0)).double()
    with pytest.warns(UserWarning, match="has a head that this"):
        snnkit.load_checkpoint(other, tmp_path / "plain.pth")
    assert same_but(other, plain, ())


def test_other_classes_leave_both_heads_out_and_excuse_nothing_else():
    teacher = lively(True)
    state = in_their_names(teacher, teacher.state_dict())
    other = MetaSpikeFormer(distilled=True, **SMALL | dict(num_classes=3)).double()
    with pytest.warns(UserWarning, match=r"another number of classes than MetaSpikeFormer\(3\).*there: head_kd.weight"):
        loaded = snnkit.load_checkpoint(other, state)
    assert loaded.left_out == ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")
    assert same_but(other, teacher, ())
    del state["block4.0.attn.q_conv.0.body.2.0.weight"]
    with pytest.raises(MismatchError, match=r"missing: .*there: block4.0.attn.q_conv.0.body.2.0.weight"):
        snnkit.load_checkpoint(other, state)


def test_strides_of_one_keep_the_size_of_small_maps():
    model = MetaSpikeFormer(dims=(4, 4, 6, 8), depths=(1, 1), heads=2, num_classes=3, strides=(1, 1, 2, 2, 1))
    assert [info["reduction"] for info in model.feature_info] == [1, 1, 2, 4]
    with torch.no_grad():
        maps = model.eval().forward_features(torch.zeros(2, 3, 16, 16))
    assert maps.shape[-2:] == (4, 4)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"Expected 4 dims, 2 depths and 5 strides, got dims=\(4, 4, 6\)"):
        MetaSpikeFormer(dims=(4, 4, 6), depths=(1, 1))
    with pytest.raises(TypeError, match="MetaSpikeFormer has no 'distiled'. Near: distilled"):
        MetaSpikeFormer(distiled=True)


@pytest.mark.parametrize("depths", [(1, 1), (1, 0), (0, 0)])
def test_no_neuron_stands_where_nobody_reads_it(depths):
    model = lively(depths=depths, neuron=PLIF).train()
    sum(y.square().sum() for y in model(torch.randn(2, 3, 48, 64, dtype=torch.float64))).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
