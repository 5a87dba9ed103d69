"""Official files load and answer as published, whatever the training script wraps around the weights."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import save_file

import snnkit
from snnkit.models._official import TABLES
from tests.models.official_files import BUILD, answers, official, written
from tests.models.test_max_former import MODELS as MAX_FORMER
from tests.shared import fixture


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", BUILD)
def test_a_file_of_the_papers_script_loads_and_answers_as_published(tmp_path, name, prefix):
    state = official(name)
    path = written(tmp_path, name, {prefix + key: value for key, value in state.items()})
    model = BUILD[name]().double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = snnkit.load_checkpoint(model, path)
    assert answers(model, name) < 1e-9
    assert loaded.source != "snnkit" and "position" not in loaded.source and loaded.left_out == ()
    unused = set(fixture(name).info.get("params_without_grad") or ())
    if name == "qsd_train":  # its buffers there are dead, too
        unused |= {key for key in state if key.endswith((".act.init_state", ".act.signed"))}
    assert set(loaded.dead) == unused


@pytest.mark.parametrize("name", ["sdt_v1_cifar", "metaspikeformer_train"])
@pytest.mark.parametrize("kind", ["before torch 1.6", "weights alone", "safetensors"])
def test_other_kinds_of_files_load_too(tmp_path, name, kind):
    state, path = official(name), tmp_path / "weights"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "weights alone":
        torch.save(state, path)
    else:
        path = written(tmp_path, name, _use_new_zipfile_serialization=False)
    model = BUILD[name]().double()
    snnkit.load_checkpoint(model, path)
    assert answers(model, name) < 1e-9


@pytest.mark.parametrize("name", [name for name in MAX_FORMER if "event" not in name])
def test_older_names_load_by_position(tmp_path, name):
    state = {key.replace("patch_embed", "embedding").replace("stage", "blocks"): v for key, v in official(name).items()}
    model = BUILD[name]().double()
    with pytest.warns(UserWarning, match="tensors were loaded by position"):
        loaded = snnkit.load_checkpoint(model, written(tmp_path, name, state))
    assert answers(model, name) < 1e-9
    assert loaded.source.endswith(", by position")


@pytest.mark.parametrize("name", BUILD)
def test_our_own_file_of_it_rebuilds_the_model_alone(tmp_path, name):
    model = BUILD[name]()
    snnkit.load_checkpoint(model, official(name))
    snnkit.save_checkpoint(model, tmp_path / "ours.safetensors", official=name)
    again = snnkit.load_model(tmp_path / "ours.safetensors")
    assert repr(again) == repr(model)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    if name != "qsd_train":
        assert answers(again.double(), name) < 1e-9


def test_the_loader_says_which_official_code_it_reads():
    text = " ".join((snnkit.load_checkpoint.__doc__ or "").split())
    known = text.partition("Known official code:")[2].partition(". ")[0]
    assert all(name in known for name in TABLES), set(TABLES) - set(known.split(", "))
