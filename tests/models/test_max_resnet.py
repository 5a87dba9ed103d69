"""Max-ResNet against its official code."""

import json

import pytest
import torch

import snnkit
from snnkit.models import MaxResNet
from snnkit.models._official import TABLES
from tests.models.official import reproduces
from tests.shared import fixture, shared_path

SMALL = dict(dims=(4, 6, 8, 12), depths=(2, 2, 1), num_classes=5)


def test_official_outputs_gradients_statistics_and_rates():
    reproduces(MaxResNet(**SMALL), fixture("max_resnet18_cifar"))


@pytest.mark.parametrize("classes", [10, 100])
def test_the_variants_have_the_official_tensors(classes):
    with torch.device("meta"):
        model = snnkit.create_model(f"max_resnet18_cifar{classes}")
    counts = json.loads(shared_path("specs/param_counts_transformers_b.json").read_text())
    assert sum(p.numel() for p in model.parameters()) == counts[f"max_resnet18_cifar{classes}"]["params"]
    listed = dict(line.split() for line in shared_path("specs/keys/max_resnet18_cifar100.txt").read_text().splitlines())
    names = TABLES["Max-ResNet"].names(model, listed)
    own = model.state_dict()
    assert sorted(names.values()) == sorted(own)
    for theirs, shape in listed.items():
        if not theirs.startswith("fc1."):
            assert "x".join(map(str, own[names[theirs]].shape)) == shape.replace("scalar", ""), theirs


def test_a_still_image_is_a_sequence_of_equal_ones_statistics_included():
    torch.manual_seed(0)
    still, moving = (MaxResNet(**SMALL, steps=3).double() for _ in range(2))
    moving.load_state_dict(still.state_dict())
    x = torch.rand(2, 3, 16, 12, dtype=torch.float64)
    torch.testing.assert_close(still(x), moving(x.expand(3, *x.shape)), rtol=1e-10, atol=1e-12)
    for key, value in still.state_dict().items():
        torch.testing.assert_close(value, moving.state_dict()[key], rtol=1e-10, atol=1e-12, msg=key)


def test_maps_halve_from_stage_to_stage():
    model = MaxResNet(**SMALL)
    maps = model.forward_intermediates(torch.rand(1, 3, 16, 24), intermediates_only=True)
    assert [tuple(m.shape) for m in maps] == [(1, 6, 16, 24), (1, 8, 8, 12), (1, 12, 4, 6)]
    assert [info["reduction"] for info in model.feature_info] == [1, 2, 4]


@pytest.mark.parametrize("depths", [(2, 2), (2, 0, 1)])
def test_sizes_that_do_not_fit_are_refused(depths):
    with pytest.raises(ValueError, match=r"the stem and one number a stage, .* got dims=\(4, 6, 8, 12\), depths="):
        MaxResNet(dims=(4, 6, 8, 12), depths=depths)
