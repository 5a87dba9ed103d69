"""Every recipe of a temporal model: read, its network and optimisers built for the sizes of its data; what it needs."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from _bounds import check_settings
from _settings import ABOUT, read_recipe, read_settings
from train_shd import Settings, build_model, build_optimizers, load_data

from tests.examples import EXAMPLES
from tests.examples.scripts import finish, run

CONFIGS = EXAMPLES / "configs"
RECIPES = [CONFIGS / "gsc.yaml", CONFIGS / "psmnist.yaml", CONFIGS / "ssc.yaml"]
RECIPES += sorted((CONFIGS / "temporal").glob("*.yaml"))


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


@pytest.mark.parametrize("path", [path for path in RECIPES if "delrec" in path.read_text()], ids=lambda path: path.stem)
def test_in_delrecs_recipes_all_decays_but_norms_and_delays(path):
    settings = Settings(**read_recipe(Settings, path))
    model = build_model(settings, sizes(settings, path))
    (weights, *delays), _ = build_optimizers(model, settings)
    decayed, others = ({id(p) for p in group["params"]} for group in weights.param_groups)
    kept = {name for name, p in model.named_parameters() if id(p) in others}
    assert [group["weight_decay"] for group in weights.param_groups] == [settings.weight_decay, 0] != [0, 0]
    biases = [p for name, p in model.named_parameters() if name.endswith("synapse.bias")]
    assert len(biases) in (0, len(model.blocks) + 1) and all(id(bias) in decayed for bias in biases)
    assert all(".norm." in name for name in kept)
    assert [one.param_groups[0]["weight_decay"] for one in delays] == [0] * any(True for _ in model.delay_layers())


@pytest.mark.parametrize(
    ("name", "count"), [("plain", 11024), ("ff", 10248), ("rec", 10290), ("recff", 10450)]
)
def test_delrecs_small_networks_have_the_published_sizes(name, count):
    path = CONFIGS / "temporal" / f"shd_delrec_equiparam_{name}.yaml"
    settings = Settings(**read_recipe(Settings, path))
    model = build_model(settings, sizes(settings, path))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count and f"{count:,}" in path.read_text()


def test_biases_decay_only_on_demand_and_where_there_are_some():
    data = SimpleNamespace(test=Sized(4, range(2)))
    for options, names in ({"decay_bias": True}, {"weight", "bias"}), ({}, {"weight"}):
        settings = Settings(model="delay_snn_digits", hidden=(3,), bias=True, **options)
        model = build_model(settings, data)
        (weights, _), _ = build_optimizers(model, settings)
        decayed = {id(p) for p in weights.param_groups[0]["params"]}
        assert {name.split(".")[-1] for name, p in model.named_parameters() if id(p) in decayed} == names
    for options, message in (
        ("--decay-bias", "finds no bias to decay without --bias"),
        ("--model radlif_shd --decay-bias", "--decay-bias is no option of --model radlif_shd: it has no biases"),
        ("--bias --decay-bias --weight-decay 0", "without --weight-decay nothing decays"),
    ):
        with pytest.raises(SystemExit, match=message):
            read_settings(Settings, options.split(), "")


def test_the_delays_rate_follows_a_cycle_of_its_own_height():
    settings = Settings(model="delrec_ssc_rec", hidden=(3, 3), lr=0.01, lr_delay=0.5, epochs=10)
    data = SimpleNamespace(test=Sized(4, range(2)))
    for shape, first, peak in (("cosine", 0.5, 0), ("onecycle", 0.02, 2)):
        settings.schedule_delay = shape
        (_, delays), (_, schedule, *_) = build_optimizers(build_model(settings, data), settings)
        rates = [delays.param_groups[0]["lr"]]
        for _ in range(9):
            delays.step()
            schedule.step()
            rates.append(delays.param_groups[0]["lr"])
        assert rates[0] == pytest.approx(first) and max(rates) == rates[peak] == pytest.approx(0.5)


def write_layout(folder, name, samples):
    """4 to 6 spikes a sample in SHD's layout, 35 classes: at 34 ms, then every 11 ms, none near the end of a step."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(samples)
    with h5py.File(folder / f"ssc_{name}.h5", "w") as file:
        times = file.create_dataset("spikes/times", (samples,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (samples,), h5py.vlen_dtype(np.uint16))
        for i in range(samples):
            times[i] = (0.034 + 0.011 * np.arange(4 + i % 3)).astype(np.float16)
            units[i] = rng.integers(0, 700, 4 + i % 3)
        file["labels"] = (np.arange(samples) % 35).astype(np.uint16)
        file["extra/keys"] = np.array([b"word%d" % i for i in range(35)])


@pytest.fixture(scope="module")
def ssc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layout") / "ssc"
    folder.mkdir()
    for name, samples in (("train", 70), ("valid", 40), ("test", 35)):
        write_layout(folder, name, samples)
    return folder


def test_samples_start_and_end_where_a_recipe_says(ssc, tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path))
    for options, first, lengths in (
        ({}, 0, [4, 5, 6]),
        ({"from_zero": True}, 3, [7, 8, 9]),
        ({"least_steps": 5}, 0, [5, 5, 6]),
        ({"from_zero": True, "least_steps": 20}, 3, [20, 20, 20]),
    ):
        data = load_data(Settings(dataset="shd", root=str(ssc), **options))
        batch = data.train.batch([0, 1, 2])
        assert batch.lengths.tolist() == lengths and batch.x.any(2).long().argmax(0).tolist() == [first] * 3


def test_a_set_with_its_own_validation_file_runs_by_the_recipe_of_its_name(ssc, tmp_path, monkeypatch):
    monkeypatch.setitem(finish.__globals__["ENVIRONMENT"], "SNNKIT_CACHE", str(tmp_path / "cache"))
    options = "--cpu --dataset shd --epochs 1 --hidden 6 6 --max-delay 5 --folder run --root".split()
    assert "test accuracy" in run(*options, ssc, cwd=tmp_path).splitlines()[-1]
    settings, result = (json.loads((tmp_path / "run" / f"{name}.json").read_text()) for name in ("settings", "result"))
    assert settings["model"] == "delay_snn_ssc_3l_1kc"
    assert result["samples"] == {"train": 70, "validation": 40, "test": 35}


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
