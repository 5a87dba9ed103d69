"""Models by name, ours and timm's; unknown names and keywords."""

import pytest
import timm
import torch

import snnkit
from snnkit.models import DelaySNN
from snnkit.models._registry import variants

TINY = dict(in_features=6, hidden=(8,), num_classes=3, max_delay=5)


def test_timm_finds_the_models_once_snnkit_models_is_imported():
    model = timm.create_model("delay_snn_shd", num_classes=3)
    assert isinstance(model, DelaySNN)
    assert model.num_classes == 3
    assert "delay_snn_shd" in timm.list_models("delay_snn_*")


def test_timms_private_keywords_are_dropped():
    entry = timm.models.model_entrypoint("delay_snn_digits")
    model = entry(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay={"file": "x"}, cache_dir="/nowhere")
    assert model.variant == "delay_snn_digits"


def test_a_misspelt_keyword_is_refused_with_the_nearest_name():
    with pytest.raises(TypeError, match=r"DelaySNN has no 'max_dealy'. Near: max_delay"):
        snnkit.create_model("delay_snn_shd", max_dealy=5)
    with pytest.raises(TypeError, match="Near: num_classes"):
        timm.create_model("delay_snn_shd", num_class=5)


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"Unknown model 'delay_snn_sdh'. Near: delay_snn_shd.* All: python -m snnkit"):
        snnkit.create_model("delay_snn_sdh")


def test_pretrained_without_weights_raises_and_says_so():
    for create in (snnkit.create_model, timm.create_model):
        with pytest.raises(RuntimeError, match="delay_snn_shd has no pretrained weights.*released none"):
            create("delay_snn_shd", pretrained=True)


def test_none_reaches_the_model_through_our_create_model():
    model = snnkit.create_model("delay_snn_shd", delays=None, readout=None)
    assert model.head.readout is None
    assert not list(model.delay_layers())


def test_list_models_takes_a_part_of_the_name_or_a_pattern():
    assert snnkit.list_models() == sorted(snnkit.list_models())
    assert snnkit.list_models("snn_shd") == ["delay_snn_shd"]
    assert snnkit.list_models("delay_*_digits") == ["delay_snn_digits"]
    assert snnkit.list_models("delay") == snnkit.list_models("delay_*")
    assert snnkit.list_models("no such model") == []


def test_a_name_of_timms_is_not_overwritten():
    with pytest.raises(ValueError, match="'resnet18' is taken"):
        variants(DelaySNN, resnet18=dict())
    assert timm.models.model_entrypoint("resnet18").__module__ == "timm.models.resnet"


def test_the_constructors_arguments_are_remembered_with_the_defaults():
    model = DelaySNN(6, hidden=(8,), num_classes=3, max_delay=5)
    assert model.arguments["in_features"] == 6
    assert model.arguments["dropout"] == 0.4
    assert model.variant == ""


def test_data_parallel_is_refused_with_the_remedy():
    with pytest.raises(RuntimeError, match="axis 0, which is time.*DistributedDataParallel"):
        DelaySNN(**TINY)._replicate_for_data_parallel()


def test_a_fresh_head_takes_another_number_of_classes():
    model = DelaySNN(**TINY).eval()
    body = {name: value.clone() for name, value in model.blocks.state_dict().items()}
    model.reset_classifier(7)
    assert model(torch.ones(4, 2, 6)).shape == (2, 7)
    assert model.num_classes == model.arguments["num_classes"] == 7
    assert all(torch.equal(value, body[name]) for name, value in model.blocks.state_dict().items())
