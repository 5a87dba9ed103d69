"""``train_shd.py --model NAME`` for every temporal model of the registry, on the embedded digits."""

import json

import numpy as np
import pytest
import torch
from _report import _raster
from train_shd import Settings, build_model, build_optimizers, kind_of, load_data, main

from snnkit.models._vision import VisionModel
from snnkit.nn.losses import cross_entropy
from tests.examples.scripts import run
from tests.models.shrink import NAMES, ONE_A_CLASS, class_of

TEMPORAL = [name for name in NAMES if not issubclass(class_of(name), VisionModel)]
FAMILIES = [name for name in ONE_A_CLASS if name in TEMPORAL]


@pytest.fixture(scope="module")
def digits():
    return load_data(Settings())


@pytest.mark.parametrize("name", TEMPORAL)
def test_a_model_is_built_for_the_data_and_trained_a_step(name, digits):
    torch.manual_seed(0)
    settings = Settings(model=name, hidden=(12, 12), epochs=3)
    model = build_model(settings, digits)
    optimizers, schedules = build_optimizers(model, settings)
    assert (model.in_features, model.num_classes) == (64, 10)
    batch = digits.train.batch(range(6))
    before = [p.detach().clone() for p in model.parameters()]
    loss = cross_entropy(model(batch.x, batch.lengths), batch.labels)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    model.clamp_()
    for schedule in schedules:
        schedule.step()
    assert loss.isfinite() and any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert model.discretize()(batch.x, batch.lengths).shape == (6, 10)


def test_a_recipe_speaks_for_its_own_kind_of_network_alone():
    recipe = {"model": "delay_snn_digits", "hidden": (256,), "tau": 2.0, "epochs": 50}
    assert Settings.recipe_for(recipe, "") == Settings.recipe_for(recipe, "delay_snn_shd") == recipe
    assert Settings.recipe_for(recipe, "radlif_shd") == {"epochs": 50}
    assert kind_of("radlif_shd").__name__ == "RadLIFNet" and kind_of("nothing") is None


@pytest.mark.parametrize("name", FAMILIES)
def test_the_script_trains_a_model_of_each_kind_to_its_report(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(f"--cpu --model {name} --hidden 7 6 --steps 4 --epochs 1 --batch 512 --folder run".split())
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert len(result["firing_rates"]) >= 2 and 0 <= result["accuracies"]["test"] <= 1
    assert (tmp_path / "run" / "report.png").read_bytes()[:4] == b"\x89PNG"


def test_the_raster_has_a_row_for_each_neuron_of_each_place():
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    s = np.zeros((5, 2, 3))  # [T, places, neurons]
    s[4, 1, 2] = s[2, 0, 1] = 1
    _raster(axis, {"input": np.zeros((5, 4)), "layer 1": s}, "steps")
    assert axis.collections[1].get_offsets().tolist() == [[2, 4 + 1], [4, 4 + 5]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["input\n4 units", "layer 1\n6 units"]


def test_recurrent_delays_are_trained_chosen_and_reported(tmp_path):
    options = "--cpu --model delrec_shd_rec --hidden 12 12 --steps 5 --epochs 2 --batch 64 --folder run".split()
    out = run(*options, cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "test accuracy" in out.splitlines()[-1] and "test_without_delays" in result["accuracies"]
    assert set(result["firing_rates"]) == {"blocks.0.neuron", "blocks.1.neuron.neuron"}
