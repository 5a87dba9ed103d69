"""Spikformer against its official code: ImageNet, CIFAR and CIFAR10-DVS folders."""

import pytest

from snnkit.models import Spikformer
from tests.models.official import reproduces
from tests.shared import fixture

SMALL = dict(dim=16, depth=2, heads=2, mlp_ratio=2, num_classes=5)
MODELS = {
    "spikformer_imagenet": (SMALL, True),
    "spikformer_cifar": ({**SMALL, "pools": (False, False, True, True), "qkv_bias": True}, True),
    "spikformer_cifar10dvs": ({**SMALL, "in_chans": 2, "scale": 0.25}, False),
}


@pytest.mark.parametrize("name", MODELS)
def test_official_outputs_gradients_statistics_and_rates(name):
    numbers = fixture(name)
    sizes, time_first = MODELS[name]
    reproduces(Spikformer(**sizes), numbers, time_first)
