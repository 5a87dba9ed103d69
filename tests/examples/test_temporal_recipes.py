"""Every recipe of a temporal model: read, and its network and optimisers built for the sizes of its data."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from _run import check_settings
from _settings import ABOUT, read_recipe
from train_shd import Settings, build_model, build_optimizers

from tests.examples import EXAMPLES
from tests.examples.scripts import run

CONFIGS = EXAMPLES / "configs"
RECIPES = [CONFIGS / "gsc.yaml", CONFIGS / "psmnist.yaml", *sorted((CONFIGS / "temporal").glob("*.yaml"))]


def sizes(settings, path):
    """A data set's sizes, without its data."""
    inputs = {"gsc": 140, "psmnist": 1, "shd": 700 // settings.merge}[settings.dataset]
    classes = 10 if settings.dataset == "psmnist" else 20 if path.stem.startswith("shd") else 35
    return SimpleNamespace(test=Sized(inputs, range(classes)))


class Sized:
    def __init__(self, inputs, classes):
        self.inputs, self.classes = inputs, classes

    def __getitem__(self, index):
        return np.zeros((3, self.inputs), np.float32), 0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read_and_its_network_and_optimisers_are_built(path):
    recipe = yaml.safe_load(path.read_text())
    assert set(recipe) == {*ABOUT, "settings"}
    settings = Settings(**read_recipe(Settings, path))
    check_settings(settings)
    assert (recipe["effective_batch"], recipe["epochs"]) == (settings.batch, settings.epochs)
    data = sizes(settings, path)
    model = build_model(settings, data)
    optimizers, _ = build_optimizers(model, settings)
    assert model.num_classes == len(data.test.classes) and model.in_features == data.test.inputs
    trained = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}


def test_a_plateau_lowers_the_rate_after_two_epochs_without_a_better_accuracy():
    settings = Settings(model="se_adlif_shd_1l", hidden=(3,), schedule="plateau", lr=0.1)
    model = build_model(settings, SimpleNamespace(test=Sized(4, range(2))))
    (optimizer,), (schedule,) = build_optimizers(model, settings)
    rates = []
    for accuracy in (0.5, 0.6, 0.6, 0.55, 0.7):
        schedule.step(accuracy)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.07, 0.07])


@pytest.mark.parametrize("schedule", ["plateau", "constant"])
def test_a_run_with_clipping_and_these_schedules_ends_in_a_report(tmp_path, schedule):
    options = "--cpu --model lif_shd --hidden 6 --steps 4 --epochs 2 --batch 256 --clip-grad 1.5 --schedule".split()
    assert "test accuracy" in run(*options, schedule, cwd=tmp_path).splitlines()[-1]
