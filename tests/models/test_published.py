"""What no parameter count shows of the published networks: heads, scale, starting weights, image size, time steps."""

from __future__ import annotations

import pytest

from snnkit.models._registry import rows
from snnkit.nn.attention import SpikeAttention
from tests.models.shrink import VISION, full_size
from tests.models.test_parameter_counts import PUBLISHED, counts, official

# heads, scales of the attention's products, standard deviation of the first weights (None: torch's), size, steps
KEPT = {
    "max_former_10_384": (6, {0.125}, 0.02, 224, 4),
    "max_former_10_512": (8, {0.125}, 0.02, 224, 4),
    "max_former_10_768": (12, {0.125}, 0.02, 224, 4),
    "max_former_cifar10": (8, {0.125}, None, 32, 4),
    "max_former_cifar100": (8, {0.125}, None, 32, 4),
    "max_former_cifar10dvs": (16, {0.125}, None, 128, 16),
    "max_former_dvs128": (16, {0.125}, None, 128, 16),
    "max_resnet18_cifar10": (None, set(), None, 32, 4),
    "max_resnet18_cifar100": (None, set(), None, 32, 4),
    "meta_spikeformer_15m": (8, {0.125}, None, 224, 4),
    "meta_spikeformer_15m_dist": (8, {0.125}, None, 224, 4),
    "meta_spikeformer_8_384": (8, {0.125}, None, 224, 4),
    "meta_spikeformer_8_384_dist": (8, {0.125}, None, 224, 4),
    "meta_spikeformer_8_512": (8, {0.125}, None, 224, 4),
    "meta_spikeformer_8_512_dist": (8, {0.125}, None, 224, 4),
    "meta_spikeformer_8_768": (8, {0.125}, None, 224, 4),
    "meta_spikeformer_8_768_dist": (8, {0.125}, None, 224, 4),
    "ms_qkformer_10_384": (6, {0.125, 1.0}, 0.02, 224, 4),
    "ms_qkformer_10_512": (8, {0.125, 1.0}, 0.02, 224, 4),
    "ms_qkformer_10_768": (12, {0.125, 1.0}, 0.02, 224, 4),
    "ms_qkformer_cifar10": (8, {0.125, 1.0}, None, 32, 4),
    "ms_qkformer_cifar100": (8, {0.125, 1.0}, None, 32, 4),
    "ms_qkformer_cifar10dvs": (16, {0.125, 1.0}, None, 128, 16),
    "ms_qkformer_dvs128": (16, {0.125, 1.0}, None, 128, 16),
    "qsd_transformer_12_512": (8, {0.25}, None, 224, 1),
    "qsd_transformer_8_15m": (8, {0.25}, None, 224, 1),
    "qsd_transformer_8_256": (8, {0.25}, None, 224, 1),
    "qsd_transformer_8_384": (8, {0.25}, None, 224, 1),
    "qsd_transformer_8_512": (8, {0.25}, None, 224, 1),
    "qsd_transformer_8_768": (8, {0.25}, None, 224, 1),
    "sdt_10_512": (8, {1.0}, None, 224, 4),  # every SDT draws with 0.02, without a keyword
    "sdt_2_256_cifar10": (8, {1.0}, None, 32, 4),
    "sdt_2_256_cifar100": (8, {1.0}, None, 32, 4),
    "sdt_2_256_cifar10dvs": (8, {1.0}, None, 64, 10),
    "sdt_2_256_dvs128": (8, {1.0}, None, 128, 16),
    "sdt_2_512_cifar10": (8, {1.0}, None, 32, 4),
    "sdt_2_512_cifar100": (8, {1.0}, None, 32, 4),
    "sdt_6_512": (8, {1.0}, None, 224, 4),
    "sdt_8_384": (8, {1.0}, None, 224, 4),
    "sdt_8_512": (8, {1.0}, None, 224, 4),
    "sdt_8_768": (8, {1.0}, None, 224, 4),
    "spikformer_10_512": (8, {0.125}, None, 224, 4),
    "spikformer_2_256_cifar10dvs": (16, {0.25}, None, 128, 16),
    "spikformer_2_256_dvs128": (16, {0.25}, None, 128, 16),
    "spikformer_2_384_cifar10": (12, {0.125}, 0.02, 32, 4),
    "spikformer_4_256_cifar10": (8, {0.125}, 0.02, 32, 4),
    "spikformer_4_384_cifar10": (12, {0.125}, 0.02, 32, 4),
    "spikformer_4_384_cifar100": (12, {0.125}, 0.02, 32, 4),
    "spikformer_6_512": (8, {0.125}, None, 224, 4),
    "spikformer_8_384": (6, {0.125}, None, 224, 4),
    "spikformer_8_512": (8, {0.125}, None, 224, 4),
    "spikformer_8_768": (12, {0.125}, None, 224, 4),
}


@pytest.mark.parametrize("name", VISION)
def test_heads_scale_start_size_and_steps_stay_the_published_ones(name):
    heads, scales, std, size, steps = KEPT[name]
    model = full_size(name)
    attention = [layer for layer in model.modules() if isinstance(layer, SpikeAttention)]
    assert {layer.heads for layer in attention} == ({heads} if heads else set())
    assert {layer.scale for layer in attention} == scales
    assert model.arguments.get("init_std", model.arguments.get("conv_std")) == std
    assert (model.img_size, model.steps) == ((size, size), steps)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_the_official_codes_arguments(name):
    theirs = counts()[official(name)]
    args, model = theirs["args"], full_size(name)
    ours = {
        "num_heads": model.arguments.get("heads"),
        "mlp_ratios": model.arguments.get("mlp_ratio"),
        "in_channels": model.in_chans,
        "num_classes": model.num_classes,
        "img_size_h": model.img_size[0],
        "img_size_w": model.img_size[1],
    }
    assert {key: value for key, value in ours.items() if key in args} == {k: args[k] for k in ours if k in args}
    if "pooling_stat" in args:
        assert "".join(str(int(pool)) for pool in model.arguments["pools"]) == args["pooling_stat"]
    if str(steps := args.get("T", theirs["T"])).isdigit():
        assert model.steps == int(steps)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_accuracy_from_memory_has_a_star_and_others_have_none(name):
    theirs = counts()[official(name)].get("paper_accuracy") or ""
    ours = rows[name].accuracy
    if "from memory" in theirs and ours and name != "spikformer_8_768":  # that one is in QKFormer's README, too
        assert "*" in ours
    if "README" in theirs and "memory" not in theirs or "log best" in theirs:
        assert "*" not in ours
