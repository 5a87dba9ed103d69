"""The plan of the small sets: every training is one that its script accepts, and the table says what was found."""

import importlib
import sys

import pytest
import torch

from tests.examples import EXAMPLES
from tests.shared import ROOT

if str(ROOT / "benchmarks") not in sys.path:
    sys.path.append(str(ROOT / "benchmarks"))

small_sets = importlib.import_module("vision_on_small_sets")
MODELS, SETS, LINEAR = small_sets.MODELS, small_sets.SETS, small_sets.LINEAR


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize("family", MODELS)
def test_every_training_is_one_that_its_script_accepts(family, data, tiny):
    script, read, vision = (
        importlib.import_module(name) for name in (SETS[data][0].removesuffix(".py"), "_settings", "_vision")
    )
    given = [*small_sets.arguments(family, data, tiny), "--root", str(EXAMPLES / data)]
    settings, _ = read.read_settings(script.Settings, given, "")
    assert settings.on_device and (settings.size % 16 == 0 or settings.size == 34)  # or the sensor of N-MNIST
    vision.build_model(settings, 3 if data == "cifar10_jpeg" else 2, 10, torch.device("cpu"))


def test_the_table_takes_the_mean_of_the_seeds_and_names_what_is_below_a_linear_read_out():
    def run(test):
        return {
            "accuracies": {"validation": 0.5, "test": test}, "parameters": 1234, "epochs": 9, "gpu_seconds": 8.6,
            "firing_rate": 0.1, "finite": True,
        }  # fmt: skip

    results = {f"nmnist_1100/Spikformer/seed {seed}": run(test) for seed, test in enumerate((0.92, 0.94, 0.96))}
    results["nmnist_1100/QSD-Transformer/seed 0"] = run(0.5)
    results["nmnist_1100/Max-Former/seed 0"] = {"error": "error: no", "wall": 1}
    lines = small_sets.table(results, ["nmnist_1100"], ["Spikformer", "QSD-Transformer", "Max-Former"]).splitlines()
    assert "| 94.0 (92.0, 94.0, 96.0) |" in lines[2] and "| 1,234 | 9 | 9 |" in lines[2]
    assert f"50.0, below a linear read-out ({LINEAR['nmnist_1100']})" in lines[3] and "error: no" in lines[4]


def test_the_best_has_the_highest_accuracy_and_of_several_the_lowest_loss():
    runs = {name: {"accuracies": {"validation": accuracy}, "validation_loss": loss} for name, accuracy, loss in (
        ("a", 0.97, 0.1), ("b", 0.98, 0.5), ("c", 0.98, 0.4), ("d", 0.98, 0.6),
    )}  # fmt: skip
    assert small_sets.best_on_validation(runs) == "c" and small_sets.best_on_validation({}) is None
