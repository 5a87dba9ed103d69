"""``train_shd.py --model NAME`` for every temporal model of the registry, on the embedded digits."""

import json
import re

import numpy as np
import pytest
import torch
from _report_panels import delays_of, draw_spikes
from _settings import read_settings
from _temporal_options import kind_of
from train_shd import Settings, build_model, build_optimizers, load_data, main

import snnkit
from snnkit.models._vision import VisionModel
from snnkit.nn import DelayLinear, LastStep, MeanOverTime, SumOfSoftmax
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


@pytest.mark.parametrize("name", [name for name in TEMPORAL if name != "delay_snn_digits"])
def test_a_model_that_is_named_has_its_own_sizes_whatever_the_recipe_says(name, digits):
    settings, _ = read_settings(Settings, ["--model", name], "")
    with torch.device("meta"):
        model = build_model(settings, digits)
        named = snnkit.create_model(name, in_features=64, num_classes=10)
    assert settings.epochs == 50 and settings.dataset == "digits", "the rest is the recipe's"
    assert model.arguments.keys() == named.arguments.keys()
    assert [key for key in model.arguments if model.arguments[key] != named.arguments[key]] == []
    counts = [sum(p.numel() for p in one.parameters() if p.requires_grad) for one in (model, named)]
    assert counts[0] == counts[1]


def test_a_recipe_speaks_for_its_own_network_alone():
    recipe = {"model": "delay_snn_digits", "hidden": (256,), "tau": 2.0, "sigma": 7.0, "loss": "max", "epochs": 50}
    recipe |= {"delays": "fixed"}
    assert Settings.recipe_for(recipe, "") == Settings.recipe_for(recipe, "delay_snn_digits") == recipe
    assert Settings.recipe_for(recipe, "delay_snn_shd") == {"epochs": 50, "delays": "fixed"}
    assert Settings.recipe_for(recipe, "radlif_shd") == {"epochs": 50}
    nameless = {key: value for key, value in recipe.items() if key != "model"}
    assert Settings.recipe_for(nameless, "delay_snn_shd") == nameless
    assert Settings.recipe_for(nameless, "radlif_shd") == {"epochs": 50}
    assert kind_of("radlif_shd").__name__ == "RadLIFNet" and kind_of("nothing") is None


def test_what_is_given_beside_a_model_wins_over_its_own_sizes(digits):
    options = "--model delay_snn_ssc_3l_2kc --hidden 9 8 --tau 3 --max-delay 5".split()
    arguments = build_model(read_settings(Settings, options, "")[0], digits).arguments
    assert (arguments["hidden"], arguments["tau"], arguments["max_delay"]) == ((9, 8), 3.0, 5)
    assert (arguments["kernel_count"], arguments["dropout"]) == (2, 0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model delrec_shd_rec --delays none", "--delays none is no option of --model delrec_shd_rec: its"),
        ("--model delay_snn_plus --delays fixed", "--delays fixed is no option of --model delay_snn_plus"),
        ("--model radlif_shd --delays learnt", "its delays are always none"),
        ("--model delrec_shd_rec --profile triangle --learn-width", "--profile triangle is no option"),
        ("--model delay_snn_plus --learn-width", "--learn-width is no option of --model delay_snn_plus"),
        ("--model radlif_shd --sigma 5", "--sigma 5 is no option of --model radlif_shd: it has no delays with a width"),
        ("--model delrec_shd_rec --sigma-share 0.5", "--sigma-share 0.5 is no option of --model delrec_shd_rec"),
        ("--model se_adlif_shd_1l --lr-delay 0.2", "--lr-delay 0.2 is no option of --model se_adlif_shd_1l"),
        ("--model lif_shd --schedule-delay onecycle", "it learns no delays"),
        ("--model delrec_shd_rec --max-delay 15", "--max-delay 15 is no option of --model delrec_shd_rec: it has no"),
        ("--model delrec_shd_rec --tail 2", "it has no delay kernels"),
        ("--model radlif_shd --loss spike_count", "--loss spike_count is no option of --model radlif_shd: its output"),
        ("--model radlif_shd --tau 2", "--tau 2 is no option of --model radlif_shd: it has no such argument"),
        ("--model se_adlif_shd_2l --v-threshold 3", "--v-threshold 3 is no option of --model se_adlif_shd_2l"),
        ("--dataset psmnist --root x --kernel-count 2", "--kernel-count 2 is no option of --model delrec_psmnist_rec"),
    ],
)
def test_an_option_that_the_model_would_not_look_at_is_refused(options, message):
    with pytest.raises(SystemExit, match=re.escape(message)) as stop:
        read_settings(Settings, options.split(), "")
    assert len(str(stop.value).splitlines()) == 1 and str(stop.value).endswith("Leave it out.")


def test_an_option_that_several_kinds_have_reaches_each_of_them(digits):
    def built(options):
        return build_model(read_settings(Settings, options.split(), "")[0], digits)

    recff = built("--model delrec_shd_recff --hidden 5 4 --max-delay 7 --sigma 3")
    assert [layer.max_delay for layer in recff.delay_layers() if isinstance(layer, DelayLinear)] == [7]
    assert recff.sigma == 3 and recff.arguments["max_delay"] == 60, "the taps, not the bound of recurrent delays"
    assert built("--model se_adlif_ssc_2l --hidden 5 4").arguments["readout"] is MeanOverTime
    assert built("--model se_adlif_ssc_2l --hidden 5 4 --loss sum").arguments["readout"] is SumOfSoftmax
    assert built("--model delrec_ssc_rec --hidden 5 4 --loss last").arguments["readout"] is LastStep


def test_the_widths_of_delay_snn_plus_shrink_in_training(digits):
    settings, _ = read_settings(Settings, "--model delay_snn_plus --hidden 5 --sigma 6 --epochs 8".split(), "")
    model = build_model(settings, digits)
    _, schedules = build_optimizers(model, settings)
    assert [layer.SIG.unique().tolist() for layer in model.delay_layers()] == [[6.0], [6.0]]
    for _ in range(2):  # a quarter of the epochs
        schedules[-1].step()
    assert all(layer.SIG.flatten()[0] == pytest.approx(0.23) for layer in model.delay_layers())


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
    draw_spikes(axis, {"input": np.zeros((5, 4)), "layer 1": s}, "steps")
    assert axis.collections[1].get_offsets().tolist() == [[2, 4 + 1], [4, 4 + 5]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["input\n4 units", "layer 1\n6 units"]


@pytest.mark.parametrize("name", [*FAMILIES, "delrec_shd_rec", "delrec_shd_recff", "delrec_equiparam_shd_recff"])
def test_the_picture_names_the_delays_of_each_layer_by_its_place_and_kind(name):
    model = snnkit.create_model(name, in_features=5, num_classes=3, hidden=(4, 6))
    delays, kept = delays_of(model), list(model.delay_layers())
    assert [d.size for d in delays.values()] == [layer.delay.numel() for layer in kept]
    if name == "delrec_shd_recff":
        assert list(delays) == ["layer 2, feed-forward", "layer 2, recurrent"]
    elif name == "delay_snn_digits":
        assert list(delays) == ["layer 1", "layer 2", "output"]


def test_recurrent_delays_are_trained_chosen_and_reported(tmp_path):
    options = "--cpu --model delrec_shd_rec --hidden 12 12 --steps 5 --epochs 2 --batch 64 --folder run".split()
    out = run(*options, cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "test accuracy" in out.splitlines()[-1] and "test_without_delays" in result["accuracies"]
    assert set(result["firing_rates"]) == {"blocks.0.neuron", "blocks.1.neuron.neuron"}
