"""QSD-Transformer against its official code, by its formulas in eval mode, its files, and training with a teacher."""

import argparse
import json
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import snnkit
from snnkit.models import QSDTransformer
from snnkit.models._checkpoints import MismatchError
from snnkit.models._official import TABLES
from snnkit.nn import IELIF, LIF, PLIF, LSQConv2d, LSQLinear, queries_keys_values
from snnkit.nn.losses import cross_entropy, fine_grained_distillation
from tests.models.official import distance, names, reproduces
from tests.shared import fixture, shared_path

SMALL = dict(dims=(4, 4, 6, 8), depths=(1, 1), heads=2, num_classes=5)
TABLE = TABLES["QSD-Transformer"]


def lively(seed: int = 0, **keywords) -> QSDTransformer:
    """A small model in float64 whose layers fire, whose weight steps differ, and whose branches are felt."""
    torch.manual_seed(seed)
    model = QSDTransformer(**SMALL | dict(scale_residual=0.5) | keywords).double()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.0)
                layer.bias.uniform_(-0.2, 0.5)
                layer.momentum = 1.0
            elif isinstance(layer, LSQConv2d | LSQLinear):
                largest = 2 ** (layer.bits - 1) - 1
                layer.alpha.uniform_(0.5, 1.0).mul_(2 * layer.weight.abs().mean() / math.sqrt(largest))
                layer.init_state.fill_(1)
            elif getattr(layer, "scale", None) is not None and isinstance(layer.scale, nn.Parameter):
                layer.scale.uniform_(0.3, 1.0)
        model.train()(torch.randn(8, 3, 32, 32, dtype=torch.float64))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.1
    return model


def images(batch: int = 2, *size: int) -> Tensor:
    return torch.randn(batch, 3, *(size or (32, 48)), dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def in_their_names(model: QSDTransformer) -> dict[str, Tensor]:
    """The state dict under the official names and in their shapes, with their dead tensors."""
    theirs = TABLE.translate(model, {}, "")[1]
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        key = theirs[name]
        flat = name.endswith(".scale") or (".mlp." in key and key.endswith("conv.weight"))
        state[key] = value.squeeze(-1).squeeze(-1) if name.endswith(".scale") else value[..., 0] if flat else value
        if key.endswith("init_state"):
            act = key.replace("init_state", "act.")
            state |= {f"{act}alpha": torch.full((3,), math.nan), f"{act}zero_point": torch.zeros(3)}
            state |= {f"{act}init_state": torch.zeros(1), f"{act}signed": torch.zeros(1)}
    return {key: value.detach().clone() for key, value in state.items()}


def official(state: dict[str, Tensor], x: Tensor, heads: int, bits: int) -> Tensor:
    """The network in eval mode, neuron first, as plain functions of an official state dict."""
    largest = 2 ** (bits - 1) - 1

    def spikes(x: Tensor, divisor: int = 4) -> Tensor:
        return ((4 * x).clamp(0, 4) + 0.5).floor() / divisor

    def conv(name: str, y: Tensor, **how: int) -> Tensor:
        weight, alpha = state[f"{name}.weight"], state[f"{name}.alpha"]
        step = alpha.reshape(-1, *[1] * (weight.ndim - 1))
        weight = (weight / step).clamp(-largest - 1, largest).round() * step
        if weight.ndim < 4:  # a Linear, or a Conv1d over tokens
            weight = weight.reshape(*weight.shape[:2], 1, 1)
        return F.conv2d(y, weight, state.get(f"{name}.bias"), **how)

    def norm(name: str, y: Tensor) -> Tensor:
        mean, var, gamma, beta = (state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, mean, var, gamma, beta)

    def down(name: str, y: Tensor, **how: int) -> Tensor:
        return norm(f"{name}.encode_bn", conv(f"{name}.encode_conv", y, **how))

    def conv_block(name: str, x: Tensor) -> Tensor:
        y = spikes(norm(f"{name}.Conv.bn1", conv(f"{name}.Conv.pwconv1", spikes(x))))
        y = conv(f"{name}.Conv.dwconv", y, padding=3, groups=y.shape[1])
        x = x + norm(f"{name}.Conv.bn2", conv(f"{name}.Conv.pwconv2", y))
        y = spikes(norm(f"{name}.bn1", conv(f"{name}.conv1", spikes(x), padding=1)))
        return x + norm(f"{name}.bn2", conv(f"{name}.conv2", y, padding=1))

    def repconv(name: str, y: Tensor) -> Tensor:  # in eval mode its frame is what the norm makes of zeros
        y = norm(f"{name}.0.body.1.bn", conv(f"{name}.0.body.0", F.pad(y, (1, 1, 1, 1))))
        y = conv(f"{name}.0.body.2.1", conv(f"{name}.0.body.2.0", y, groups=y.shape[1]))
        return norm(f"{name}.1", norm(f"{name}.0.body.2.2", y))

    def block(name: str, x: Tensor) -> Tensor:
        s = spikes(x)
        q, k, v = (
            spikes(repconv(f"{name}.attn.{p}_conv", s)).flatten(2).unflatten(1, (heads, -1)).mT for p in "qkv"
        )
        a = spikes(0.25 * q @ (k.mT @ v), divisor=2)
        y = repconv(f"{name}.attn.proj_conv", a.mT.reshape(s.shape))
        x = x + y * state[f"{name}.layer_scale1"][:, None, None]
        y = x
        for layer in ("fc1", "fc2"):
            y = norm(f"{name}.mlp.{layer}_bn", conv(f"{name}.mlp.{layer}_conv", spikes(y)))
        return x + y * state[f"{name}.layer_scale2"][:, None, None]

    x = conv_block("ConvBlock1_1.0", down("downsample1_1", x, stride=2, padding=3))
    x = conv_block("ConvBlock1_2.0", down("downsample1_2", spikes(x), stride=2, padding=1))
    x = conv_block("ConvBlock2_1.0", down("downsample2", spikes(x), stride=2, padding=1))
    x = down("downsample3", spikes(conv_block("ConvBlock2_2.0", x)), stride=2, padding=1)
    x = down("downsample4", spikes(block("block3.0", x)), padding=1)
    s = spikes(block("block4.0", x).mean((-2, -1), keepdim=True))
    return conv("head", s)[:, :, 0, 0]


def test_official_outputs_gradients_statistics_rates_and_steps_of_the_weights():
    numbers = fixture("qsd_train")
    model = QSDTransformer(dims=(4, 4, 4, 6), depths=(1, 0), heads=2, num_classes=5)
    reproduces(model, numbers)
    alphas = [name.removeprefix("state_after/") for name in numbers.names("state_after/") if name.endswith("alpha")]
    own, ours = model.state_dict(), names(model, alphas)
    assert len(alphas) > 30
    for key in alphas:
        assert distance(own[ours[key]], numbers[f"state_after/{key}"]) < 1e-12, key


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_in_eval_mode_the_network_is_that_of_the_formulas(bits):
    model, x = lively(bits=bits).eval(), images()
    with snnkit.firing_rates(model) as rates:
        y = model(x)
    assert min(rates.values()) > 0.01
    expected = official(in_their_names(model), x, heads=2, bits=bits)
    assert expected.std() > 1e-3
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)


def test_every_official_tensor_has_one_place_of_its_shape():
    lines = shared_path("specs/keys/qsd_spikformer_8_15M_CAFormer.txt").read_text().split("\n")
    shapes = dict(line.split() for line in lines if line)
    with torch.device("meta"):
        model = snnkit.create_model("qsd_transformer_8_15m")
    state = {key: torch.empty([int(n) for n in shape.split("x") if n != "scalar"]) for key, shape in shapes.items()}
    ours, _, dead = TABLE.translate(model, state, "")
    own = model.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in own.items()}
    assert sorted(dead) == sorted(key for key in shapes if ".act." in key)


def test_parameter_counts_are_the_official_ones():
    counts = json.loads(shared_path("specs/param_counts_transformers_b.json").read_text())
    for name in snnkit.list_models("qsd_transformer_*"):
        with torch.device("meta"):
            model = snnkit.create_model(name)
        size = name.removeprefix("qsd_transformer_").replace("15m", "15M")
        theirs = counts.pop(f"qsd_spikformer_{size}_CAFormer")
        assert sum(p.numel() for p in model.parameters()) == theirs["params"] - theirs["dead_act_params"], name
    assert not [name for name in counts if name.startswith("qsd")]


@pytest.mark.parametrize("act", [True, False])
def test_a_file_of_their_script_loads_with_and_without_its_dead_tensors(tmp_path, act):
    model, x = lively().eval(), images()
    state = {key: value for key, value in in_their_names(model).items() if act or ".act." not in key}
    torch.save(dict(model=state, optimizer={}, epoch=3, scaler={}, args=argparse.Namespace(lr=1.0)), tmp_path / "a.pth")
    other = QSDTransformer(**SMALL).double()
    loaded = snnkit.load_checkpoint(other, tmp_path / "a.pth")
    assert (loaded.source, loaded.left_out) == ("QSD-Transformer", ())
    assert list(loaded.dead) == [key for key in state if ".act." in key]
    assert torch.equal(other.eval()(x), model(x))


def test_steps_that_were_never_set_may_hold_anything_and_others_may_not():
    model = lively()
    state = in_their_names(model)
    state["head.alpha"].fill_(math.nan)
    with pytest.raises(ValueError, match=r"head.alpha holds NaN"):
        snnkit.load_checkpoint(QSDTransformer(**SMALL).double(), state)
    state["head.init_state"].zero_()
    other = QSDTransformer(**SMALL).double()
    snnkit.load_checkpoint(other, state)
    assert torch.isfinite(other.eval()(images())).all()
    other.train()(images())
    start = 2 * other.head.weight.abs().mean() / math.sqrt(7)
    torch.testing.assert_close(other.head.alpha, start.expand(5))
    del state["block4.0.layer_scale2"]
    with pytest.raises(MismatchError, match=r"missing: .*there: block4.0.layer_scale2"):
        snnkit.load_checkpoint(other, state)


def test_every_weight_is_quantised_and_a_new_head_too():
    model = lively(bits=3)
    plain = [m for m in model.modules() if type(m) in (nn.Conv2d, nn.Linear)]
    assert not plain
    model.reset_classifier(7)
    assert isinstance(model.head, LSQLinear) and model.head.bits == 3
    assert {m.bits for m in model.modules() if hasattr(m, "bits")} == {3}
    assert model.eval()(images()).shape == (2, 7)
    with pytest.raises(ValueError, match="bits must be >= 2, got 1"):
        QSDTransformer(**SMALL, bits=1)


def test_steps_of_a_still_image_repeat_the_same_work():
    one, three, x = lively().eval(), lively(steps=3).eval(), images()
    three.load_state_dict(one.state_dict())
    assert one.steps == 1
    torch.testing.assert_close(three(x), one(x))
    stream = three.forward_features(x)
    assert len(stream) == 3 and torch.equal(stream[0], stream[2])


def test_other_neurons_and_levels_by_keyword():
    x = images()
    kinds = [lively(neuron=kind, tau=3.0, steps=2) for kind in (LIF, PLIF)]
    for model, kind in zip(kinds, (LIF, PLIF), strict=True):
        neurons = [m for m in model.modules() if isinstance(m, kind)]
        assert len(neurons) == 35 and not any(isinstance(m, IELIF) for m in model.modules())
        assert model.train()(x).shape == (2, 5)
    eight = lively(D=8)
    assert {(m.D, m.divisor) for m in eight.modules() if isinstance(m, IELIF)} == {(8, 8.0), (8, 4.0)}


def relu(v_threshold: float) -> nn.Module:
    """The neuron of a teacher without spikes."""
    return nn.ReLU()


def test_a_student_of_two_bits_learns_from_a_teacher_without_spikes():
    x, target = images(3), torch.tensor([0, 1, 2])
    teacher, student = lively(neuron=relu, dims=(4, 4, 12, 16), bits=8).eval(), lively(1, bits=2).train()
    with torch.no_grad(), queries_keys_values(teacher) as of_teacher:
        teacher(x)
    assert [tuple(f.shape) for f in of_teacher.values()] == [(1, 3, 2, 6, 6)] * 3 + [(1, 3, 2, 6, 8)] * 3

    def loss() -> tuple[Tensor, Tensor]:
        with queries_keys_values(student) as found:
            m = student(x)
        assert list(found) == list(of_teacher)
        return m, fine_grained_distillation(list(found.values()), list(of_teacher.values()))

    loss()[1].backward()  # it alone reaches all that comes before the last attention
    for name in ("stem.conv.weight", "stages.3.1.mixer.q.conv.mix.weight", "stages.3.3.mixer.v.conv.pointwise.alpha"):
        assert student.get_parameter(name).grad.abs().sum() > 0, name
    assert student.head.weight.grad is None
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        m, distance_to_teacher = loss()
        (cross_entropy(m, target) + distance_to_teacher).backward()
        optimizer.step()
        losses.append(distance_to_teacher.item())
    assert losses[-1] < 0.9 * losses[0]  # 0.78: weights of two bits move in steps, so some of the way is up
    assert not student.stages[3][1].mixer.q._forward_hooks, "the block leaves nothing behind"
