"""Max-Former and MS-QKFormer against their official code: ImageNet, CIFAR and event folders."""


import pytest

from snnkit.models import MaxFormer, MSQKFormer
from snnkit.nn.max_embed import FlatStem, MaxStem, PoolLastEmbedding
from tests.models.official import reproduces
from tests.shared import fixture

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
LISTS = {
    "maxformer_10_384": "max_former_10_384",
    "maxformer_cifar10": "max_former_cifar10",
    "maxformer_cifar10dvs": "max_former_cifar10dvs",
    "ms_qkformer_10_384": "ms_qkformer_10_384",
    "ms_qkformer_cifar10": "ms_qkformer_cifar10",
    "ms_qkformer_cifar10dvs": "ms_qkformer_cifar10dvs",
}


@pytest.mark.parametrize("name", MODELS)
def test_official_outputs_gradients_statistics_and_rates(name):
    numbers = fixture(name)
    build, time_first = MODELS[name]
    reproduces(build(), numbers, time_first)
