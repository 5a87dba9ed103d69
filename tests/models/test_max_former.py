"""Max-Former and MS-QKFormer against their official code: ImageNet, CIFAR and event folders."""

import json
import warnings

import pytest
import torch
from torch import nn

import snnkit
from snnkit.models import MaxFormer, MSQKFormer
from snnkit.models._checkpoints import MismatchError
from snnkit.models._official import TABLES
from snnkit.nn import FlatStem, MaxStem, PoolLastEmbedding
from tests.models.official import reproduces
from tests.models.plain_max_former import max_former_imagenet, ms_qkformer_events
from tests.shared import fixture, shared_path

SMALL = dict(dims=(4, 8, 16), depths=(1, 2, 1), heads=1, mlp_ratio=2, num_classes=5)
CIFAR = {**SMALL, "depths": (1, 1, 2), "stem": FlatStem, "conv_std": None}
EVENTS = dict(
    dims=(8, 16), depths=(1, 1), heads=2, mlp_ratio=1.0, num_classes=5, in_chans=2, stem=MaxStem, conv_std=None
)
QK_EVENTS = {**EVENTS, "embedding": PoolLastEmbedding}
MODELS = {
    "maxformer_imagenet_train": (lambda: MaxFormer(**SMALL), True),
    "maxformer_cifar": (lambda: MaxFormer(**{**CIFAR, "heads": 8, "kernels": (0, 3)}), True),
    "maxformer_event": (lambda: MaxFormer(**EVENTS, kernels=(3,)), False),
    "ms_qkformer_imagenet": (lambda: MSQKFormer(**{**SMALL, "heads": 2}), True),
    "ms_qkformer_cifar": (lambda: MSQKFormer(**{**CIFAR, "heads": 4, "embedding": PoolLastEmbedding}, steps=3), True),
}
# Theirs in the lists of keys and of parameter counts, ours in the registry.
VARIANTS = {
    f"{theirs}_{end}": f"{ours}_{end.replace('gesture', '')}"
    for theirs, ours in (("maxformer", "max_former"), ("ms_qkformer", "ms_qkformer"))
    for end in ("10_384", "10_512", "10_768", "cifar10", "cifar100", "cifar10dvs", "dvs128gesture")
}


def table(model):
    return next(table for table in TABLES.values() if table.model == type(model).__name__)


def official(model):
    """The model's tensors under the official names, in the official order."""
    state = model.state_dict()
    return {name: state[ours].clone() for name, ours in table(model).in_order(model).items()}


def lively(model, x):
    """In float64 and eval mode, with norms that have seen data: with fresh ones the deep layers are silent."""
    model = model.double().train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 1, 2)
            nn.init.normal_(norm.bias, 0.9, 0.4)
            norm.momentum = 1.0
    model(x)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_official_outputs_gradients_statistics_and_rates(name):
    numbers = fixture(name)
    build, time_first = MODELS[name]
    reproduces(build(), numbers, time_first)


@pytest.mark.parametrize(
    ("model", "plain", "steps"),
    [
        (lambda: MaxFormer(**SMALL), max_former_imagenet, 3),
        (lambda: MSQKFormer(**QK_EVENTS), ms_qkformer_events, 5),
    ],
    ids=["max_former_imagenet", "ms_qkformer_events"],
)
def test_sequences_answer_as_the_formulas_written_neuron_first(model, plain, steps):
    torch.manual_seed(4)
    model = model()
    x = torch.rand(steps, 2, model.in_chans, 48, 32, dtype=torch.float64) * 4
    model = lively(model, x)
    with snnkit.firing_rates(model) as rates:
        y = model(x)
    assert min(rates.values()) > 0.005 and max(rates.values()) < 0.99, rates
    torch.testing.assert_close(y, plain(official(model), x, model.arguments["heads"]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("theirs", VARIANTS)
def test_every_variant_has_the_official_tensors_in_the_official_order(theirs):
    with torch.device("meta"):
        model = snnkit.create_model(VARIANTS[theirs])
    counts = json.loads(shared_path("specs/param_counts_transformers_b.json").read_text())
    assert sum(p.numel() for p in model.parameters()) == counts[theirs]["params"]
    assert model.steps == (16 if counts[theirs]["T"] == 16 else 4)
    if (lines := shared_path("specs/keys") / f"{theirs}.txt").exists():
        own = model.state_dict()
        listed = dict(line.split() for line in lines.read_text().splitlines())
        names = table(model).in_order(model)
        assert list(names) == list(listed)
        assert sorted(names.values()) == sorted(own)
        for name, shape in listed.items():
            shape = [] if shape == "scalar" else [int(n) for n in shape.split("x")]
            assert own[names[name]].squeeze().shape == torch.empty(shape, device="meta").squeeze().shape, name


def test_the_strides_of_the_stages_are_those_of_the_maps():
    for build, strides in ((MODELS["maxformer_cifar"][0], [1, 2, 4]), (MODELS["maxformer_event"][0], [8, 16]),
                           (MODELS["ms_qkformer_imagenet"][0], [4, 8, 16])):  # fmt: skip
        model = build()
        maps = model.forward_intermediates(torch.rand(1, model.in_chans, 32, 64), intermediates_only=True)
        assert [info["reduction"] for info in model.feature_info] == strides
        assert [tuple(m.shape) for m in maps] == [
            (1, info["num_chs"], 32 // stride, 64 // stride)
            for info, stride in zip(model.feature_info, strides, strict=True)
        ]


def test_weights_are_drawn_as_in_the_papers_folders():
    torch.manual_seed(0)
    sizes = dict(dims=(16, 32, 64), depths=(1, 1, 1), heads=1, num_classes=50)
    imagenet, cifar = MaxFormer(**sizes), MaxFormer(**sizes, stem=FlatStem, conv_std=None)
    uniform = 1 / (64 * 3) ** 0.5  # of torch, a 1 x 1 layer of 64 channels: bound 1 / 8

    def std(layer):
        return layer.weight.std().item()

    mlp = [model.stages[2][1].mlp.fc1.conv for model in (imagenet, cifar)]
    query = [model.stages[2][1].mixer.q.conv for model in (imagenet, cifar)]
    assert std(mlp[0]) == pytest.approx(0.02, rel=0.05) and std(mlp[1]) == pytest.approx(uniform, rel=0.05)
    assert std(query[0]) == pytest.approx(uniform, rel=0.05) and std(query[1]) == pytest.approx(uniform, rel=0.05)
    assert std(imagenet.stem.layers[2].conv) == pytest.approx(0.02, rel=0.05)
    assert not mlp[0].bias.any() and mlp[1].bias.any() and imagenet.stages[2][1].mixer.proj.conv.bias.any()
    assert std(imagenet.head) == pytest.approx(uniform, rel=0.1) and std(cifar.head) == pytest.approx(0.02, rel=0.1)
    imagenet.reset_classifier(40)
    assert imagenet.head.bias.any() and not cifar.head.bias.any()


def renamed(state):
    """As an older file might name them: the same order, other words; the head keeps its name."""
    return {k if k.startswith("head.") else k.replace("embed", "part").replace("stage", "block"): v
            for k, v in state.items()}  # fmt: skip


@pytest.mark.parametrize("name", ["maxformer_cifar", "ms_qkformer_imagenet"])
def test_a_file_with_other_names_loads_by_position_and_says_so(name):
    torch.manual_seed(0)
    source, model = (MODELS[name][0]() for _ in range(2))
    with pytest.warns(UserWarning, match=r"by position.*patch_part1\.\S+ -> stem\.layers\.0\.conv\.weight"):
        loaded = snnkit.load_checkpoint(model, renamed(official(source)))
    assert loaded.source in ("Max-Former, by position", "MS-QKFormer, by position")
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_names_that_look_official_and_are_not_go_by_position_too():
    source, model = (MODELS["maxformer_cifar"][0]() for _ in range(2))
    state = {key.replace("mlp.fc1_", "mlp.first_"): value for key, value in official(source).items()}
    with pytest.warns(UserWarning, match="by position"):
        snnkit.load_checkpoint(model, state)
    assert torch.equal(model.stages[0][0].mlp.fc1.conv.weight, source.stages[0][0].mlp.fc1.conv.weight)


def test_official_names_do_not_go_by_position_in_whatever_order():
    source, model = (MODELS["maxformer_cifar"][0]() for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = snnkit.load_checkpoint(model, dict(reversed(official(source).items())))
        assert loaded.source == "Max-Former"
        assert snnkit.load_checkpoint(model, source.state_dict()).source == "snnkit"
    assert torch.equal(model.stages[0][0].mlp.fc1.conv.weight, source.stages[0][0].mlp.fc1.conv.weight)


def test_by_position_nothing_is_skipped():
    model = MODELS["maxformer_cifar"][0]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = renamed(official(MODELS["maxformer_cifar"][0]()))
    keys = list(state)
    wrong = keys.index("patch_part2.max_part1.part_conv.weight")
    cut = {key: (value[:3] if key == keys[wrong] else value) for key, value in state.items()}
    swapped = [*keys[:wrong], keys[wrong + 1], keys[wrong], *keys[wrong + 2 :]]
    both = r"stages\.1\.0\.layers\.0\.conv\.weight \(there: patch_part2\.max_part1\."
    with pytest.raises(MismatchError, match=both + r"part_conv\.weight\) \[3, 4, 3, 3\], here \[8, 4, 3, 3\]"):
        snnkit.load_checkpoint(model, cut)
    with pytest.raises(MismatchError, match=both + r"part_bn\.weight\) \[8\], here \[8, 4, 3, 3\]"):
        snnkit.load_checkpoint(model, {key: state[key] for key in swapped})
    with pytest.raises(MismatchError, match="missing"):
        snnkit.load_checkpoint(model, {key: state[key] for key in keys[:-3]})
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_known_name_at_another_place_forbids_to_go_by_position():
    model = MODELS["maxformer_cifar"][0]()
    state = official(MODELS["maxformer_cifar"][0]())
    keys = list(state)
    i, j = (keys.index(f"stage3.{k}.attn.q_conv.weight") for k in (0, 1))
    keys[i], keys[j] = keys[j], "stage3.1.attn.query"
    with pytest.raises(MismatchError, match=r"unexpected: stage3\.1\.attn\.query"):
        snnkit.load_checkpoint(model, {key: value for key, value in zip(keys, state.values(), strict=True)})


def test_by_position_another_number_of_classes_leaves_the_head_out():
    model = MODELS["maxformer_event"][0]()
    source = MaxFormer(**{**EVENTS, "num_classes": 7}, kernels=(3,))
    with pytest.warns(UserWarning, match="by position"), pytest.warns(UserWarning, match="another number of classes"):
        loaded = snnkit.load_checkpoint(model, renamed(official(source)))
    assert loaded.left_out == ("head.weight", "head.bias")
    assert torch.equal(model.stages[1][1].mixer.v.conv.weight, source.stages[1][1].mixer.v.conv.weight)


@pytest.mark.parametrize("depths", [(1, 1), (1, 0, 1), ()])
def test_a_stage_without_blocks_is_refused(depths):
    with pytest.raises(TypeError, match=r"dims must be a sequence of sizes, got 3\. Write dims=\(3,\)"):
        snnkit.create_model("max_former_cifar10", dims=3)
    with pytest.raises(ValueError, match=r"one number > 0 a stage, got dims=\(4, 8, 16\), depths="):
        MaxFormer(dims=(4, 8, 16), depths=depths)
