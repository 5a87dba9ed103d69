"""What holds for every registered vision model: timm's contract, still images, and neurons that are exchanged."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from timm.data import resolve_data_config
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from torch import Tensor, nn

import snnkit
from snnkit.equations.resets import Soft
from snnkit.equations.surrogates import ATan, Sigmoid
from snnkit.models._registry import rows
from snnkit.nn import IF, LIF, PLIF
from snnkit.nn.losses import cross_entropy
from snnkit.nn.norm_neuron import NormNeuron
from snnkit.nn.readout import EveryStep, LastStep, MeanOverTime
from tests.models.shrink import (
    ONE_A_CLASS,
    VISION,
    VISION_STRUCTURES,
    build,
    class_of,
    create,
    defaults,
    full_size,
    sample,
    small,
    smallest,
)

every_name = pytest.mark.parametrize("name", VISION)
every_class = pytest.mark.parametrize("name", [name for name in ONE_A_CLASS if name in VISION])
every_structure = pytest.mark.parametrize("name", VISION_STRUCTURES)
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")


def images(model: nn.Module, batch: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return sample(model, 1, batch, dtype)[0]


# Still images


@every_structure
@pytest.mark.parametrize("steps", [1, 4])
def test_a_still_image_is_a_sequence_of_equal_frames(name, steps):
    model = build(name, steps=steps).double()
    x = images(model, dtype=torch.float64)
    sequence = x.expand(steps, *x.shape)
    torch.testing.assert_close(model.eval()(x), model(sequence), rtol=1e-10, atol=1e-10)
    twin = build(name, steps=steps).double()
    torch.testing.assert_close(model.train()(x), twin.train()(sequence), rtol=1e-10, atol=1e-10)
    for (key, ours), theirs in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10, msg=key)


@every_structure
@pytest.mark.parametrize("steps", [1, 4])
def test_an_image_does_not_see_its_batch_mates(name, steps):
    model = build(name, steps=steps).eval().double()
    x = images(model, 4, torch.float64)
    y = model(x)
    torch.testing.assert_close(model(x[2:3])[0], y[2], rtol=1e-10, atol=1e-10)
    x[1] = 2 - 3 * x[1]
    torch.testing.assert_close(model(x)[[0, 2, 3]], y[[0, 2, 3]], rtol=0, atol=0)


@every_structure
def test_a_still_image_in_carry_goes_on(name):
    model = build(name, steps=3).eval().double()
    x = images(model, dtype=torch.float64)
    with snnkit.carry(model):
        model(x)
        y = model(x)
    torch.testing.assert_close(y, model(x.expand(6, *x.shape)), rtol=1e-10, atol=1e-10)


@every_structure
def test_other_image_sizes_run_and_have_other_answers_without_a_readout(name):
    model = build(name, readout=None).eval()
    x = torch.randn(3, 2, model.in_chans, 64, 32)
    assert model(x).shape == (3, 2, 5)
    last = build(name, readout=LastStep).eval()
    torch.testing.assert_close(last(x), model(x)[-1])


# timm's contract


@every_structure
def test_features_and_head_are_the_two_halves_of_forward(name):
    model = build(name).eval()
    x = images(model)
    features = model.forward_features(x)
    assert features.shape[1:3] == (3, model.feature_info[-1]["num_chs"])
    torch.testing.assert_close(model.forward_head(features), model(x))
    before = model.forward_head(features, pre_logits=True)
    assert before.shape == (3, model.num_features) == (3, model.head_hidden_size)


@every_structure
def test_the_head_is_reset_and_taken_off_and_put_back(name):
    model = build(name).eval()
    x = images(model)
    logits, features = model(x), model.forward_head(model.forward_features(x), pre_logits=True)
    model.reset_classifier(0)
    assert model.num_classes == 0
    torch.testing.assert_close(model(x), features)
    for classes in (7, 3):
        model.reset_classifier(classes)
        assert model.num_classes == classes
        assert model(x).shape == (3, classes)
        heads = model.get_classifier()
        for head in heads if isinstance(heads, tuple) else (heads,):
            assert (head.in_features, head.out_features) == (model.num_features, classes)
    assert not torch.equal(logits[:, :3], model(x))
    with pytest.raises(ValueError, match="global_pool must be 'avg'"):
        model.reset_classifier(3, global_pool="max")


@every_structure
def test_without_classes_or_pooling_as_timm_users_ask_for_it(name):
    x = images(build(name))
    model = timm.create_model(name, num_classes=0, **{k: v for k, v in small(name).items() if k != "num_classes"})
    assert isinstance(model.get_classifier(), nn.Identity) or name.endswith("_dist")
    assert model.eval()(x).shape == (3, model.num_features)
    model.reset_classifier(0, global_pool="")
    assert model(x).shape[:2] == (3, model.num_features) and model(x).ndim == 4
    with pytest.raises(ValueError, match="num_classes=0"):
        model.reset_classifier(5, global_pool="")


@every_structure
def test_a_soft_reset_and_the_logits_of_each_step_can_be_had_through_timm(name):
    keywords = small(name) | dict(neuron=LIF, steps=3)
    torch.manual_seed(0)
    model = timm.create_model(name, **keywords, reset=Soft(detach=True), readout=EveryStep).eval()
    same = create(name, **keywords, v_reset=None, readout=None).eval()
    same.load_state_dict(model.state_dict())
    x = images(model)
    y = model(x)
    assert y.shape == (3, 3, 5)
    assert torch.equal(y, same(x))
    softened = [layer.neuron.reset_rule for layer in neurons(model)]
    assert softened and all(isinstance(rule, Soft) and rule.detach for rule in softened)


@every_structure
def test_feature_maps_have_the_channels_and_strides_that_feature_info_says(name):
    model = build(name).eval()
    x = torch.randn(2, model.in_chans, 64, 32)
    info = model.feature_info
    features, maps = model.forward_intermediates(x)
    torch.testing.assert_close(features, model.forward_features(x))
    torch.testing.assert_close(maps[-1], features.mean(0))
    for one, entry in zip(maps, info, strict=True):
        assert one.shape == (2, entry["num_chs"], 64 // entry["reduction"], 32 // entry["reduction"])
        assert model.get_submodule(entry["module"]) is not None


@every_structure
def test_features_only_gives_a_backbone(name):
    count = len(build(name).feature_info)
    keywords = small(name)
    for indices in (None, (count - 1,), (0, count - 1), 1):
        torch.manual_seed(0)
        wanted = {} if indices is None else {"out_indices": indices}
        backbone = timm.create_model(name, features_only=True, **wanted, **keywords).eval()
        x = torch.randn(2, backbone.model.in_chans, 32, 32)
        maps = backbone(x)
        assert [m.shape[1] for m in maps] == backbone.feature_info.channels()
        assert [32 // m.shape[-1] for m in maps] == backbone.feature_info.reduction()
        if indices is not None:
            assert len(maps) == (indices if isinstance(indices, int) else len(set(indices)))


@every_structure
def test_intermediates_by_number_by_index_and_with_an_early_stop(name):
    model = build(name).eval()
    x = images(model)
    count = len(model.feature_info)
    _, everything = model.forward_intermediates(x)
    for indices, expected in ((1, [count - 1]), (2, [count - 2, count - 1]), ([0], [0]), ([-1], [count - 1])):
        maps = model.forward_intermediates(x, indices, intermediates_only=True)
        assert all(torch.equal(a, everything[b]) for a, b in zip(maps, expected, strict=True))
    runs: list[int] = []
    model.stages[-1][0].register_forward_pre_hook(lambda *_: runs.append(1))
    (first,) = model.forward_intermediates(x, [0], stop_early=True, intermediates_only=True)
    assert torch.equal(first, everything[0]) and not runs
    for wrong in (dict(output_fmt="NLC"), dict(norm=True)):
        with pytest.raises(ValueError, match="Feature maps are NCHW and have no norm"):
            model.forward_intermediates(x, **wrong)


@every_structure
def test_layers_that_nobody_asks_for_are_pruned(name):
    model, whole = build(name).eval(), build(name).eval()
    x = images(model)
    assert model.prune_intermediate_layers([0]) == [0]
    assert len(model.stages) == 1
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in whole.parameters())
    (one,) = model.forward_intermediates(x, [0], intermediates_only=True)
    torch.testing.assert_close(one, whole.forward_intermediates(x, [0], intermediates_only=True)[0])


@every_structure
def test_every_parameter_of_a_pruned_backbone_learns(name):
    model = build(name, neuron=PLIF)
    model.prune_intermediate_layers([0])
    (one,) = model.forward_intermediates(images(model), [0], intermediates_only=True)
    one.square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@every_structure
def test_layer_decay_finds_a_group_for_every_parameter(name):
    model = build(name, neuron=PLIF)
    groups = param_groups_layer_decay(
        model, weight_decay=0.05, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
    )
    grouped = [p for group in groups for p in group["params"]]
    assert len(grouped) == len(set(map(id, grouped))) == len(list(model.parameters()))
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    stem, head = (scale[id(next(part.parameters()))] for part in (model.stem, model.head))
    layers = [max(scale[id(p)] for p in block.parameters()) for stage in model.stages for block in stage]
    assert stem < layers[0] and layers == sorted(set(layers)) and layers[-1] <= head == 1.0
    neurons = [p for layer in model.modules() if isinstance(layer, PLIF) for p in layer.parameters()]
    assert neurons and all(decay[id(p)] == 0 for p in neurons)
    assert model.no_weight_decay() <= {key for key, _ in model.named_parameters()}
    coarse = param_groups_layer_decay(model, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay())
    assert coarse


def test_layer_scale_has_no_weight_decay_in_timms_optimizer():
    model = create("qsd_transformer_8_256")
    optimizer = create_optimizer_v2(model, "adamw", weight_decay=0.05)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    scales = [p for layer in model.modules() if isinstance(layer, NormNeuron) for p in [layer.scale] if p is not None]
    assert len(scales) == 6
    assert decayed and not any(id(scale) in decayed for scale in scales)


@every_name
def test_timm_knows_the_images_of_a_name_without_building_it(name):
    cfg, built = timm.get_pretrained_cfg(name), full_size(name).default_cfg
    assert cfg.architecture == built["architecture"] == name
    for key in ("input_size", "num_classes", "mean", "std", "crop_pct", "interpolation"):
        assert getattr(cfg, key) == built[key]


@every_class
def test_a_description_of_the_images_given_through_timm_is_kept_and_a_wrong_one_refused(name):
    cfg = timm.models.PretrainedCfg(mean=(0.1, 0.2, 0.3), crop_pct=0.5)
    with torch.device("meta"):
        model = timm.create_model(name, pretrained_cfg=cfg, pretrained_cfg_overlay=dict(crop_pct=0.8), **small(name))
        plain = timm.create_model(name, pretrained_cfg_overlay=dict(std=(0.5, 0.5, 0.5)), **small(name))
    config = resolve_data_config(model=model)
    assert (config["mean"], config["crop_pct"]) == ((0.1, 0.2, 0.3), 0.8)
    assert model.default_cfg["first_conv"] == plain.default_cfg["first_conv"] is not None
    assert plain.pretrained_cfg["std"] == (0.5, 0.5, 0.5)
    assert plain.pretrained_cfg["mean"] == rows[name].cfg.get("mean", timm.data.IMAGENET_DEFAULT_MEAN)
    with pytest.raises(TypeError, match="crop_pc"):
        timm.create_model(name, pretrained_cfg_overlay=dict(crop_pc=0.8), **small(name))
    with pytest.raises(ValueError, match=f"{name} has no tag 'foo'.+Leave the tag out"):
        snnkit.create_model(name, pretrained_cfg="foo", **small(name))
    with pytest.raises((ValueError, RuntimeError), match="foo"):
        timm.create_model(f"{name}.foo", **small(name))


def test_spikformer_for_imagenet_reads_the_whole_picture():
    assert resolve_data_config(model=full_size("spikformer_8_512"))["crop_pct"] == 1.0
    assert resolve_data_config(model=full_size("sdt_8_512"))["crop_pct"] == 0.95


@every_name
def test_timm_reads_size_and_statistics_of_the_images(name):
    model = full_size(name)
    config = resolve_data_config(model=model)
    assert config["input_size"] == (model.in_chans, *model.img_size)
    assert len(config["mean"]) == len(config["std"]) == model.in_chans
    assert config["mean"] == rows[name].cfg.get("mean", timm.data.IMAGENET_DEFAULT_MEAN)
    assert model.default_cfg["architecture"] == name
    assert model.default_cfg["num_classes"] == model.num_classes
    assert isinstance(model.get_submodule(model.default_cfg["first_conv"]), nn.Conv2d)
    assert model.get_submodule(model.default_cfg["first_conv"]).in_channels == model.in_chans


@every_name
def test_a_name_without_weights_says_whether_there_are_official_ones(name):
    with pytest.raises(RuntimeError, match=f"{name} has no pretrained weights: .+load_checkpoint"):
        timm.create_model(name, pretrained=True)


@every_structure
def test_drop_path_works_in_training_and_is_the_identity_in_eval(name):
    plain, dropping = build(name), build(name, drop_path_rate=0.9)
    dropping.load_state_dict(plain.state_dict())
    x = images(plain, 5)
    assert torch.equal(dropping.eval()(x), plain.eval()(x))
    torch.manual_seed(0)
    assert not torch.equal(dropping.train()(x), plain.train()(x))
    rates = [p for layer in dropping.modules() if (p := getattr(layer, "drop_path", None)) is not None]
    assert rates and rates[-1].p == pytest.approx(0.9)
    assert not any(getattr(layer, "drop_path", None) for layer in plain.modules())


@every_structure
def test_dropout_stands_before_the_classifier(name):
    model = build(name, drop_rate=0.5)
    features = model.eval().forward_features(images(model))
    model.train()
    torch.manual_seed(0)
    a, b = model.forward_head(features), model.forward_head(features)
    assert not torch.equal(a, b)
    model.eval()
    assert torch.equal(model.forward_head(features), model.forward_head(features))


# Other neurons


def swapped(name: str, **keywords) -> nn.Module:
    """The network with LIF neurons, and these keywords changed: the same weights, and norms that have seen data."""
    lif = build(name, neuron=LIF)
    other = create(name, **{"neuron": LIF, **keywords})
    kept = other.load_state_dict(lif.state_dict(), strict=False)
    assert not kept.unexpected_keys
    return other.eval()


def answers(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Answer, and gradient of the first weight."""
    x = images(model)
    y = model(x)
    cross_entropy(y, torch.tensor([0, 1, 2])).backward()
    return y.detach(), next(p.grad for p in model.parameters() if p.grad is not None)


def neurons(model: nn.Module) -> list[nn.Module]:
    return [m for path, m in model.named_modules() if path.rpartition(".")[2] in ("neuron", "head_neuron")]


@every_structure
@pytest.mark.parametrize("keywords", [dict(tau=5.0), dict(v_reset=None), dict(neuron=IF)], ids=str)
def test_tau_reset_and_class_of_the_neurons_change_the_answer(name, keywords):
    assert not torch.allclose(answers(swapped(name, **keywords))[0], answers(swapped(name))[0])


@every_structure
@pytest.mark.parametrize("keywords", [dict(surrogate=ATan(2.0)), dict(detach_reset=False)], ids=str)
def test_the_surrogate_and_a_reset_with_gradient_change_gradients_alone(name, keywords):
    (y, gradient), (plain, other) = answers(swapped(name, **keywords)), answers(swapped(name))
    assert torch.equal(y, plain)
    assert not torch.allclose(gradient, other, rtol=1e-3)


@every_structure
def test_plif_learns_a_time_constant_in_every_layer(name):
    model = build(name, neuron=PLIF)
    layers = neurons(model)
    assert layers and all(isinstance(layer, PLIF) for layer in layers)
    cross_entropy(model(images(model)), torch.tensor([0, 1, 2])).backward()
    for layer in layers:
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    at_two = swapped(name, neuron=PLIF, tau=2.0)
    torch.testing.assert_close(answers(at_two)[0], answers(swapped(name))[0])


@every_structure
def test_a_function_makes_the_neurons(name):
    plain = answers(swapped(name))[0]
    for factory in (
        partial(LIF, tau=2.0, surrogate=Sigmoid(4.0), detach_reset=True),
        lambda v_threshold: LIF(tau=2.0, v_threshold=v_threshold, surrogate=Sigmoid(4.0), detach_reset=True),
    ):
        assert torch.equal(answers(swapped(name, neuron=factory))[0], plain)
    silent = swapped(name, neuron=lambda v_threshold: LIF(tau=2.0, v_threshold=100 * v_threshold))
    with snnkit.firing_rates(silent) as rates:
        silent(images(silent))
    assert set(rates.values()) == {0.0}


@every_structure
def test_neurons_of_spikingjelly_serve_as_well(name):
    pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based import functional, neuron, surrogate

    def theirs(v_threshold: float) -> nn.Module:
        return neuron.LIFNode(
            2.0, v_threshold=v_threshold, surrogate_function=surrogate.Sigmoid(4.0), detach_reset=True, step_mode="m"
        )

    model, ours = swapped(name, neuron=theirs).double(), swapped(name).double()
    x = images(ours, dtype=torch.float64)
    functional.reset_net(model)
    torch.testing.assert_close(model(x), ours(x), rtol=1e-9, atol=1e-9)
    single = swapped(name, neuron=neuron.LIFNode)  # SpikingJelly's default, one step a call
    assert {layer.step_mode for layer in single.modules() if isinstance(layer, neuron.LIFNode)} == {"m"}


def own_neuron(v_threshold: float) -> LIF:
    """A function that makes neurons."""
    return LIF(v_threshold=v_threshold)


@every_class
@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        (dict(neuron=LIF, tau=-2.0), ValueError, r"tau must be > 0, got -2\.0"),
        (dict(neuron=IF, tau=2.0), TypeError, "IF has no 'tau'"),
        (dict(neuron="PLIF"), TypeError, "neuron must be a class such as PLIF, .*got 'PLIF'. Write snnkit.nn.PLIF"),
        (dict(neuron=torch.nn.ReLU), TypeError, "neuron is called with v_threshold=.*, as PLIF is: ReLU.* unexpected"),
        (dict(neuron=LIF()), TypeError, "neuron must be a class such as PLIF, or a function .*got LIF"),
        (dict(neuron=own_neuron, tau=3.0), TypeError, "tau is set by your own"),
        (dict(neuron=LIF, surrogate="atan"), TypeError, "surrogate"),
        (dict(neuron=LIF, v_rest=0.0), TypeError, "has no 'v_rest'. Near: v_reset"),
        (dict(neuron=own_neuron, reset=Soft()), TypeError, "reset is set by your own"),
        (dict(neuron=LIF, reset=Soft(), v_reset=None), TypeError, r"Give either reset=Soft\(.*, or v_reset"),
        (dict(neuron=LIF, reset="soft"), TypeError, r"reset must be an object such as Soft\(\), got 'soft'"),
        (dict(readout=MeanOverTime()), TypeError, "readout must be a class such as MeanOverTime"),
        (dict(readout="mean"), TypeError, "readout must be a class such as MeanOverTime"),
        (dict(steps=0), ValueError, "steps must be a whole number >= 1, got 0"),
        (dict(steps=True), ValueError, "steps must be a whole number >= 1, got True"),
        (dict(img_size=True), ValueError, "img_size must be .*got True"),
        (dict(steps=None), ValueError, "steps must be a whole number >= 1, got None"),
        (dict(num_classes=-1), ValueError, "num_classes must be a whole number >= 0, got -1"),
        (dict(in_chans=0), ValueError, "in_chans must be a whole number >= 1, got 0"),
        (dict(img_size="big"), ValueError, "img_size must be .*got 'big'"),
        (dict(img_size=(32, 32, 3)), ValueError, "img_size must be"),
        (dict(drop_rate=2.0), ValueError, r"drop_rate must be in \[0, 1\), got 2.0"),
        (dict(drop_path_rate=None), ValueError, r"drop_path_rate must be in \[0, 1\), got None"),
        (dict(global_pool="max"), ValueError, "global_pool must be 'avg'"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_impossible_keywords_are_refused_with_the_remedy(name, keywords, error, message):
    with pytest.raises(error, match=message):
        create(name, **keywords)


@every_class
@pytest.mark.parametrize(
    ("keyword", "wrong", "message"),
    [
        ("depth", 0, "depth must be a whole number >= 1, got 0"),
        ("heads", 0, "heads must be a whole number >= 1, got 0"),
        ("heads", -2, "heads must be a whole number >= 1, got -2"),
        ("dim", 4, "dim must be a whole number >= 8, got 4"),
        ("pools", (True, True), r"pools must be True or False for each of the four convolutions, got \(True, True\)"),
        ("dims", 0, r"dims must be whole numbers >= \d, got \(0, "),
        ("depths", -1, r"depths must be (whole numbers|.*> 0).* got .*\(-1, "),
        ("dims", None, "dims (and depths )?must|Expected 4 dims"),
        ("conv_ratio", 0, "conv_ratio must be a whole number >= 1, got 0"),
    ],
    ids=str,
)
def test_impossible_sizes_are_refused_at_construction(name, keyword, wrong, message):
    if keyword not in (given := defaults(class_of(name))):
        pytest.skip(f"has no {keyword}")
    if isinstance(given[keyword], tuple) and not isinstance(wrong, tuple):  # one wrong number, or one too few
        kept = small(name)[keyword][1:]
        wrong = kept if wrong is None else (wrong, *kept)
    with pytest.raises(ValueError, match=message):
        create(name, **{keyword: wrong})


@pytest.mark.parametrize("name", ["max_former_cifar10dvs", "ms_qkformer_cifar10dvs"])
def test_too_few_channels_for_a_stem_that_starts_with_an_eighth_are_refused(name):
    with pytest.raises(ValueError, match=r"would have 0 channels: give it at least 8 \(dims\)"):
        create(name, dims=(4, 16))


@every_class
def test_images_in_double_precision_are_refused_with_the_remedy(name):
    model = create(name)
    x = images(model, dtype=torch.float64)
    with pytest.raises(TypeError, match=rf"{name} has parameters of torch.float32, got images of torch.float64: x.to"):
        model(x)
    with pytest.raises(TypeError, match="torch.float64, got images of torch.float32"):
        model.double()(x.float())


@every_class
def test_impossible_inputs_are_refused_with_what_was_expected(name):
    model = create(name)
    c = model.in_chans
    for x in (torch.zeros(2, c + 1, 32, 32), torch.zeros(c, 32, 32), torch.zeros(2, 32, 32, c), torch.zeros(2, c)):
        with pytest.raises(ValueError, match=rf"{name} expects images \[B, {c}, H, W\] or \[T, B, {c}, H, W\], got"):
            model(x)
    with pytest.raises(TypeError, match="expects a floating x, got torch.uint8"):
        model(torch.zeros(2, c, 32, 32, dtype=torch.uint8))
    with pytest.raises(TypeError, match="expects a tensor, got list"):
        model([1])


def test_steps_that_were_changed_are_saved_and_checked(tmp_path):
    model = build("sdt_10_512", **smallest("sdt_10_512")).eval()
    model.steps = 2
    snnkit.save_checkpoint(model, tmp_path / "a.safetensors")
    assert snnkit.load_model(tmp_path / "a.safetensors").steps == 2
    with pytest.raises(ValueError, match="steps must be a whole number >= 1, got 0"):
        model.steps = 0
    with pytest.raises(ValueError, match="num_classes must be a whole number >= 0, got -1"):
        model.reset_classifier(-1)
    assert model.steps == 2 and model.num_classes >= 0
