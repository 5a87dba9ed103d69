import json
import warnings

import pytest
import yaml
from _settings import ABOUT, CONFIGS, plain_warnings, read_recipe, read_settings, write_json, write_settings
from train_shd import Settings

from tests.examples import EXAMPLES

RECIPE = "recipe: r\nsource: s\nsettings:\n"
RECIPES = sorted((EXAMPLES / "configs").glob("*.yaml"))


def settings(*arguments, **options):
    return read_settings(Settings, [str(argument) for argument in arguments], "", **options)


def refused(*arguments, **options):
    with pytest.raises(SystemExit) as stop:
        settings(*arguments, **options)
    message = str(stop.value)
    assert message.startswith("error: ") and len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_where_it_comes_from_what_to_expect_and_what_we_measured(path):
    recipe = yaml.safe_load(path.read_text())
    assert set(recipe) == {*ABOUT, "settings"}
    values = read_recipe(Settings, path)
    assert recipe["effective_batch"] == values["batch"] and recipe["epochs"] == values["epochs"]
    augmented = any(values.get(name) for name in ("time_shift", "time_mask", "channel_shift", "neuron_mask", "cutmix"))
    assert augmented == (recipe["augmentation"] != "none")


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_the_default(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE + "  epochs: 7\n  lr: 1e-3\n  hidden: [4, 5]\n")
    ours, resumed = settings("--config", tmp_path / "r.yaml", "--epochs", 9)
    assert (ours.epochs, ours.lr, ours.hidden, ours.batch, resumed) == (9, 1e-3, (4, 5), Settings.batch, None)


def test_the_recipe_is_found_by_the_folder_of_the_data_then_by_the_data_set(tmp_path):
    digits = tmp_path / "spoken_digits"
    digits.mkdir()
    assert settings("--dataset", "shd", "--root", digits)[0].epochs == 100
    assert settings("--dataset", "shd", "--root", tmp_path)[0].epochs == 150
    assert settings()[0] == settings("--config", EXAMPLES / "configs" / "digits.yaml")[0] != Settings()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  epochss: 3\n", "unknown setting 'epochss'. Near: epochs."),
        ("  epochs: many\n", "epochs should be int, got 'many'"),
        ("  epochs: true\n", "epochs should be int, got True"),
        ("  hidden: 4\n", "hidden should be a list of int, got 4"),
        ("  dataset: shdd\n", "dataset should be one of digits, shd, gsc, psmnist, got 'shdd'"),
        ("  epochs: 3\nsorce: x\n", "unknown key 'sorce'. Near: source."),
        ("  - epochs\n", "a mapping 'settings'"),
        ("  epochs: [\n", "is no YAML"),
        ("  profile: triangle\n  sigma: 7\n", "--profile triangle has no width, got --sigma 7"),
        ("  merge: 5\n", "--merge is an option of --dataset shd, got digits"),
    ],
)
def test_a_wrong_recipe_is_refused_with_file_and_key(tmp_path, line, message):
    (tmp_path / "r.yaml").write_text(RECIPE + line)
    text = refused("--config", tmp_path / "r.yaml")
    assert message in text and "r.yaml" in text


def test_settings_without_a_heading_are_told_where_they_belong(tmp_path):
    (tmp_path / "r.yaml").write_text("epochs: 2\nlr: 1e-3\n")
    assert "r.yaml: put epochs, lr under 'settings:', indented." in refused("--config", tmp_path / "r.yaml")
    for text in ("", "source: x\nepochs: 2\n"):  # nothing, and what describes a recipe
        (tmp_path / "r.yaml").write_text(text)
        message = refused("--config", tmp_path / "r.yaml")
        assert "expected a mapping 'settings', and beside it, to say what it is, recipe, source" in message


def test_a_missing_recipe_says_where_it_was_looked_for_and_what_there_is(tmp_path):
    message = refused("--config", tmp_path / "shdd.yaml")
    assert str(tmp_path) in message and "/shd.yaml" not in message and " shd.yaml, " in message


def test_a_recipe_is_found_by_its_name_in_configs_too():
    assert settings("--config", "shd.yaml")[0] == settings("--config", CONFIGS / "shd.yaml")[0]


def test_warnings_of_ours_have_no_place_in_the_code_and_others_have(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    plain_warnings()
    place = (str(CONFIGS.parent / "_clips.py"), 3)
    assert warnings.formatwarning(UserWarning("two are bad"), UserWarning, *place) == "warning: two are bad\n"
    assert "_clips.py:3" in warnings.formatwarning(FutureWarning("x"), FutureWarning, *place)
    assert "/other.py:3" in warnings.formatwarning(UserWarning("x"), UserWarning, "/other.py", 3)


def test_a_wrong_option_is_refused_in_one_line():
    assert "unknown option --epoch. Near: --epochs" in refused("--epoch", 3)
    assert "--epochs: invalid int value: 'many'" in refused("--epochs", "many")
    assert "'digits', 'shd'" in refused("--dataset", "shdd").replace("digits, shd", "'digits', 'shd'")


def test_a_resumed_run_has_its_own_settings_and_changes_only_what_is_free(tmp_path):
    first, _ = settings("--epochs", 9, "--hidden", 4, 5)
    (tmp_path / "a").mkdir()
    write_settings(first, tmp_path / "a" / "settings.json")
    again, folder = settings("--resume", tmp_path / "a", "--workers", 3, "--epochs", 9, "--cpu")
    assert again.cpu and not first.cpu  # a run may go on on another device
    assert (again.epochs, again.hidden, again.workers, folder) == (9, (4, 5), 3, tmp_path / "a")
    assert "--epochs would make the resumed run another one" in refused("--resume", tmp_path / "a", "--epochs", 8)
    assert settings("--resume", runs=tmp_path)[1] == tmp_path / "a"


def test_resuming_what_is_no_run_says_so(tmp_path):
    assert "holds no run to resume" in refused("--resume", tmp_path)
    assert "no run to resume in" in refused("--resume", runs=tmp_path)
    (tmp_path / "settings.json").write_text('{"epochs": 3}')
    assert "another script or version" in refused("--resume", tmp_path)
    (tmp_path / "command.json").write_text('{"command": "python examples/train_shd.py"}')
    assert "another script or version. It began with: python examples/train_shd.py" in refused("--resume", tmp_path)
    (tmp_path / "settings.json").write_text('{"epochs": 3')
    assert "settings.json is damaged: Expecting" in refused("--resume", tmp_path)
    (tmp_path / "settings.json").write_text("[3]")
    assert "settings.json is damaged: expected an object in braces, got list" in refused("--resume", tmp_path)
    write_settings(settings()[0], tmp_path / "settings.json")
    text = (tmp_path / "settings.json").read_text()
    (tmp_path / "settings.json").write_text(text.replace('"epochs": 50', '"epochs": "many"'))
    assert "settings.json is damaged: epochs should be int, got 'many'" in refused("--resume", tmp_path)


def test_the_wide_triangle_takes_a_sigma_and_shrinks_unless_it_is_learnt():
    wide = settings("--profile", "wide_triangle", "--sigma", 7, "--sigma-share", 0.5)[0]
    assert wide.has_width and wide.sigma == 7
    assert "no width shrinks" in refused("--profile", "wide_triangle", "--learn-width", "--sigma-share", 0.5)


def test_a_recipe_s_sigma_does_not_forbid_another_profile():
    assert settings("--config", EXAMPLES / "configs" / "shd.yaml", "--profile", "triangle")[0].sigma == 12


def test_json_is_read_back_as_it_was_and_a_list_of_numbers_is_one_line(tmp_path):
    value = {"table": [[1, 2], [3, -4]], "x": (0.5, 1e-9, None, True), "text": ["a [\n 1,\n 2]", "b"], "empty": []}
    write_json(value, tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(value))
    assert "  [1, 2],\n" in text and '"x": [0.5, 1e-09, null, true],\n' in text


def test_a_new_run_names_its_recipe():
    def notes(*arguments):
        return read_settings(Settings, arguments, "")[0].notes

    assert notes() == ("recipe digits.yaml: --config takes another one",)
    assert notes("--dataset", "shd", "--root", "x") == ("recipe shd.yaml: --config takes another one",)


def test_a_zero_that_changes_nothing_is_refused_too():
    for options, why in ((("--delays", "none", "--tail", "0"), "--delays none has no delays, got --tail 0."),
                         (("--schedule", "onecycle", "--warmup", "0"), "has no warm-up, got --warmup 0.")):  # fmt: skip
        with pytest.raises(SystemExit, match=why):
            read_settings(Settings, options, "")
