"""Folded = unfolded, for every vision model: borders, grouped and quantised convolutions, and what is refused."""

import pytest
import torch
from torch import nn

import snnkit
from snnkit.models import Spikformer, fold
from snnkit.nn import BatchNorm, RepConv
from snnkit.nn.folding import Folded
from snnkit.nn.norm_neuron import ConvNormNeuron
from tests.models.shrink import ONE_A_CLASS, VISION, build, sample, smallest


def small() -> Spikformer:
    torch.manual_seed(0)
    model = Spikformer(dim=16, depth=1, heads=2, num_classes=4, steps=2)
    model.train()(torch.randn(4, 3, 32, 48))
    return model.double().eval()


def test_folded_is_unfolded_and_has_no_norms_left():
    model, x = small(), torch.randn(2, 3, 32, 48, dtype=torch.float64)
    folded = fold(model)
    torch.testing.assert_close(folded(x), model(x), rtol=0, atol=1e-10)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()), "the model itself stays"


@pytest.mark.parametrize("name", [name for name in ONE_A_CLASS if name in VISION])
def test_of_every_model_folded_is_unfolded_and_folding_twice_changes_nothing(name):
    model = build(name, **smallest(name)).double().eval()
    x = sample(model, 3, 2, torch.float64)
    folded = fold(model)
    features = model.forward_features(x)
    torch.testing.assert_close(folded.forward_features(x), features, rtol=0, atol=1e-10)
    torch.testing.assert_close(folded(x[0]), model(x[0]), rtol=0, atol=1e-10)
    assert features.abs().sum() > 0
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm | RepConv) for layer in folded.modules())
    twice = fold(folded)
    assert folded.state_dict().keys() == twice.state_dict().keys()
    assert all(torch.equal(value, twice.state_dict()[key]) for key, value in folded.state_dict().items())


def test_a_rep_conv_alone_becomes_its_convolution():
    layer, x = RepConv(3, 5).double(), torch.randn(2, 3, 4, 6, dtype=torch.float64)
    layer.train()(x)
    folded = fold(layer.eval())
    assert type(folded) is nn.Conv2d
    torch.testing.assert_close(folded(x), layer(x), rtol=0, atol=1e-12)
    both = fold(nn.Sequential(layer, layer.mix))  # in two places, in part
    assert type(both[0]) is nn.Conv2d and type(both[1]) is nn.Conv2d


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.BatchNorm2d(3), r"the module \(BatchNorm2d\)"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), r"1 \(BatchNorm2d\)"),
        (nn.Sequential(*[BatchNorm(3) for _ in range(4)]), r"0 \(BatchNorm\), 1 .*, 2 \(BatchNorm\), \.\.\."),
        (ConvNormNeuron(nn.ConvTranspose2d(3, 4, 2), norm=nn.BatchNorm2d(4)), r"norm \(BatchNorm2d\)"),
    ],
    ids=["alone", "behind a convolution", "several", "a transposed convolution"],
)
def test_norms_that_would_stay_are_named(model, names):
    with pytest.raises(ValueError, match=rf"^fold knows the batch norms of .*, got others: {names}\. Write"):
        fold(model)


@pytest.mark.parametrize("bias", [False, True])
def test_stride_groups_and_border_are_kept(bias):
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2, bias=bias)
    layer = ConvNormNeuron(nn.Sequential(nn.Conv2d(4, 4, 1), conv)).double()
    layer.train()(torch.randn(3, 2, 4, 7, 9, dtype=torch.float64) + 1)
    x = torch.randn(3, 2, 4, 7, 9, dtype=torch.float64)
    torch.testing.assert_close(fold(layer)(x)[0], layer.eval()(x)[0], rtol=0, atol=1e-12)


def test_training_a_folded_network_is_refused_and_leaves_it_in_eval_mode():
    folded = fold(small())
    with pytest.raises(RuntimeError, match="is folded.*Train the one it was made from"):
        folded.train()
    assert not any(layer.training for layer in folded.modules())
    with pytest.raises(RuntimeError, match="is folded"):
        Folded().train()
    assert folded.eval() is folded


def test_a_folded_network_is_not_saved_as_a_checkpoint(tmp_path):
    with pytest.raises(TypeError, match=r"fold\(\)"):
        snnkit.save_checkpoint(fold(small()), tmp_path / "a.safetensors")


def test_an_exported_network_keeps_its_neurons_and_can_be_taken_apart():
    model, x = small().float(), torch.randn(2, 3, 32, 48)
    program = torch.export.export(fold(model), (x,))
    kept = [node for node in program.graph.nodes if "snnkit.scan" in str(node.target)]
    assert len(kept) == 5 + 5 + 2
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)
    plain = program.run_decompositions(torch.export.default_decompositions() | snnkit.ops.decompositions())
    assert not any("snnkit" in str(node.target) for node in plain.graph.nodes)
    torch.testing.assert_close(plain.module()(x), model(x), rtol=1e-4, atol=1e-5)
