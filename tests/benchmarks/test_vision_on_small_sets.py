"""The plan of the small sets: every training is one that its script accepts, and the table says what was found."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.examples import EXAMPLES
from tests.shared import ROOT

if str(ROOT / "benchmarks") not in sys.path:
    sys.path.append(str(ROOT / "benchmarks"))

small_sets = importlib.import_module("vision_on_small_sets")
plan = importlib.import_module("_small_sets")
MODELS, SETS, LINEAR = small_sets.MODELS, small_sets.SETS, small_sets.LINEAR


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("data", [*SETS, "pictures"])
@pytest.mark.parametrize("family", MODELS)
def test_every_training_is_one_that_its_script_accepts(family, data, tiny):
    pictures, data = data == "pictures", small_sets.PRETRAINED if data == "pictures" else data
    script, read, vision = (
        importlib.import_module(name) for name in (SETS[data][0].removesuffix(".py"), "_settings", "_vision")
    )
    given = [*small_sets.arguments(family, data, tiny, pictures), "--root", str(EXAMPLES / data)]
    settings, _ = read.read_settings(script.Settings, given, "")
    assert settings.dataset == ("pictures" if pictures else {"cifar10_jpeg": "folder", "nmnist_1100": "nmnist"}.get(
        data, "cifar10dvs"
    ))  # fmt: skip
    assert settings.on_device and (settings.size % 16 == 0 or settings.size == 34)  # or the sensor of N-MNIST
    vision.build_model(settings, 3 if data == "cifar10_jpeg" else 2, 10, torch.device("cpu"))


@pytest.mark.parametrize("data", SETS)
def test_recordings_that_are_few_are_trained_on_from_the_weights_that_pictures_gave(tmp_path, data):
    job = small_sets.Job(data, "Spikformer", 1, 20)
    options = SimpleNamespace(tiny=False, cpu=False, roots={name: tmp_path / name for name in SETS})
    *first, last = small_sets.commands(job, options, tmp_path / "run")
    assert len(first) == (data == small_sets.PRETRAINED)
    if first:
        folder = Path(first[0][first[0].index("--folder") + 1])
        assert last[last.index("--init") + 1] == str(folder / "best" / "model.safetensors")
        assert folder != tmp_path / "run" and first[0][first[0].index("--root") + 1].endswith("cifar10_jpeg/train")
        assert first[0][first[0].index("--epochs") + 1] == str(small_sets.PICTURES["Spikformer"])
    assert last[last.index("--root") + 1] == str(tmp_path / data) and ("--init" in last) == bool(first)


def test_pictures_of_which_there_are_recordings_stay_out():
    for options in (plan.AS_EVENTS, plan.FEW_AS_EVENTS):
        train, test = options.partition("ids:")[2].split()[0].split("/")
        assert min(int(number) for number in (*train.split("-"), *test.split("-"))) >= 100


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
