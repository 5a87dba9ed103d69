"""Whole runs of train_cifar10dvs.py as a user starts, kills and resumes them, and its parts; nets and sets are tiny."""

import json
import os
import re
import signal

import numpy as np
import pytest
import torch
import yaml
from _clips import ToSize, augmentation, event_parts, frames
from _settings import ABOUT, read_recipe
from _vision import build_model, build_optimizer
from _vision_report import as_picture
from accelerate.state import AcceleratorState
from PIL import Image
from train_cifar10dvs import Settings, main

import snnkit
from snnkit.data import EventFolder
from tests.examples import EXAMPLES, scripts
from tests.examples.recorded import write_events
from tests.examples.runs import one_step_of_parts_and_averaged_weights, position, same_run, wait_for
from tests.examples.scripts import finish, run, start

SCRIPT = {"script": "train_cifar10dvs.py"}
NET = ["dims=(8, 12)", "heads=2", "drop_rate=0.2", "drop_path_rate=0.3"]
# Every kind of random draw is in use.
SMALL = [
    *"--cpu --dataset folder --sensor 20 30 --split ids:0-15/16-19 --size 16 --steps 3 --validation 0.25".split(),
    *"--epochs 2 --warmup 1 --batch 8 --accumulate 2 --mixup 0.5 --cutmix 0.5 --ema 0.9 --loss tet".split(),
    *"--augment spikformer --shift 2 --flip --set".split(), *NET,
]  # fmt: skip
RECIPES = sorted((EXAMPLES / "configs" / "events").glob("*.yaml"))


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    root = write_events(tmp_path_factory.mktemp("events"))
    with pytest.MonkeyPatch.context() as patch:
        cache = str(tmp_path_factory.mktemp("cache"))
        patch.setitem(scripts.ENVIRONMENT, "SNNKIT_CACHE", cache)
        patch.setenv("SNNKIT_CACHE", cache)
        yield root


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, events):
    folder = tmp_path_factory.mktemp("unbroken")
    out = run(*SMALL, "--root", events, "--folder", "run", cwd=folder, **SCRIPT)
    return folder / "run", out


def test_a_run_killed_in_mid_epoch_and_resumed_with_workers_equals_one_never_killed(tmp_path, unbroken, events):
    options = ("--root", events, "--folder", "run", "--workers", 2, "--checkpoint-steps", 1)
    process = start(*SMALL, *options, cwd=tmp_path, **SCRIPT)
    wait_for(process, tmp_path / "run", 1, 1)
    os.kill(process.pid, signal.SIGKILL)
    code, _, err = finish(process)
    assert code == -signal.SIGKILL, err
    assert position(tmp_path / "run")["epoch"] == 1 and not (tmp_path / "run" / "result.json").exists()
    run("--resume", "run", cwd=tmp_path, **SCRIPT)
    same_run(tmp_path / "run", unbroken[0])


def test_two_epochs_equal_one_and_a_resumed_one(tmp_path, unbroken, events):
    run(*SMALL, "--root", events, "--stop-after", 1, cwd=tmp_path, **SCRIPT)
    (folder,) = (tmp_path / "runs").iterdir()
    run("--resume", cwd=tmp_path, **SCRIPT)  # the newest
    same_run(folder, unbroken[0])


def test_parts_of_a_batch_make_one_step_and_averaged_weights_are_the_ones_that_are_kept(tmp_path, events):
    data = "--dataset folder --sensor 20 30 --split ids:0-15/16-19 --size 16 --steps 3 --validation 0.25".split()
    classes = len(EventFolder(events, "train", "ids:0-15/16-19", (20, 30)).classes)
    torch.manual_seed(0)
    model = build_model(Settings(size=16, steps=3, set=tuple(NET[:2])), 2, classes, torch.device("cpu"))
    snnkit.save_checkpoint(model, tmp_path / "start.safetensors")
    plain = ["--cpu", *data, *"--epochs 1 --warmup 0 --batch 12 --optimizer sgd --lr 0.01 --weight-decay 0".split()]
    plain += ["--root", events, "--init", "start.safetensors", "--set", *NET[:2]]
    for name, more in (("whole", ()), ("parts", ("--accumulate", 3)), ("averaged", ("--ema", 0.9))):
        run(*plain, *more, "--folder", name, cwd=tmp_path, **SCRIPT)
    one_step_of_parts_and_averaged_weights(tmp_path, model)


def test_the_result_says_where_the_clips_come_from_and_what_the_last_line_says(unbroken):
    folder, out = unbroken
    result = json.loads((folder / "result.json").read_text())
    accuracy, table = result["accuracies"]["test"], np.array(result["confusion"])
    last = out.strip().splitlines()[-1]
    assert last == f"test accuracy {100 * accuracy:.1f} % (epoch {result['epoch']} of 2, chosen on validation)"
    assert table.sum() == 8 and table.trace() / 8 == pytest.approx(accuracy)
    assert result["samples"] == {"train": 24, "validation": 8, "test": 8}
    assert out.count("a folder of event files, split ids:0-15/16-19: 32 train, 8 test.\n") == 1
    origin = result["provenance"]["test"]
    assert (origin["rule"], origin["samples"]) == ("ids:0-15/16-19", 8) and origin["identity"]
    assert Image.open(folder / "report.png").size == (1200, 900)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_where_it_comes_from_and_its_model_can_be_built(path):
    recipe = yaml.safe_load(path.read_text())
    assert set(recipe) == {*ABOUT, "settings"}
    settings = Settings(**read_recipe(Settings, path))
    assert (recipe["effective_batch"], recipe["epochs"]) == (settings.batch, settings.epochs)
    augmented = settings.augment != "none" or settings.mixup or settings.on_device
    assert bool(augmented) == (recipe["augmentation"] != "none")
    cited = re.findall(r"[\w-]+\.yaml", recipe["source"])
    assert all((path.parent / name).is_file() for name in cited), cited
    with torch.device("meta"):
        model = build_model(settings, 2, 10, torch.device("cpu"))
    build_optimizer(model, settings, 3)


@pytest.mark.parametrize("framing", ["number", "time", "window", "surface", "voxel"])
def test_every_framing_and_augmentation_gives_clips_of_the_size_that_was_asked_for(events, framing):
    common = {"dataset": "folder", "root": str(events), "sensor": (20, 30), "size": 16, "steps": 3}
    for augment in ("none", "spike_driven", "event_drop", "event_rpg"):
        parts = event_parts(Settings(framing=framing, window_ms=31, augment=augment, split="random-0", **common))
        channels = 1 if framing == "voxel" else 2
        assert [len(part) for part in parts] == [32, 4, 4]
        assert {part.sample(1, 0).shape for part in parts} == {(3, channels, 16, 16)}
        assert np.array_equal(parts[0].sample(2, 5), parts[0].sample(2, 5))


def test_pictures_are_trained_on_as_events_and_then_recordings_from_their_weights(tmp_path, events):
    for part, count in (("train", 8), ("test", 3)):
        for name, box in (("tall", (12, 4, 20, 28)), ("wide", (4, 12, 28, 20))):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            for number in range(count):
                picture = Image.new("L", (32, 32), 30 + number)
                picture.paste(200 + number, box)
                picture.save(tmp_path / "pictures" / part / name / f"{number:04}.png")
    one = ["--cpu", "--size", 16, "--steps", 4, "--epochs", 1, "--warmup", 0, "--validation", 0.25, "--batch", 4]
    net = ["--augment", "none", "--framing", "time", "--set", *NET]
    made = ["--camera", "contrast=0.3", "noise_hz=0.1", "--log-std", 0.3, "--border", "edge", "--sensor", 48, 32]
    out = run(
        "--dataset", "pictures", "--root", "pictures", *made, "--folder", "first", *one, *net, cwd=tmp_path, **SCRIPT
    )
    assert "a folder of pictures, split given: 16 train, 6 test." in out
    origin = json.loads((tmp_path / "first" / "result.json").read_text())["provenance"]["train"]
    assert origin["camera"]["contrast"] == 0.3 and origin["log_std"] == 0.3 and origin["sensor"] == [2, 48, 32]
    assert origin["path"]["border"] == "edge"
    weights = "first/best/model.safetensors"
    recorded = ["--dataset", "folder", "--root", events, "--sensor", 20, 30, "--init", weights]
    assert "test accuracy" in run(*recorded, "--folder", "second", *one, *net, cwd=tmp_path, **SCRIPT)


def test_no_event_is_lost_on_the_way_to_another_size():
    rng = np.random.default_rng(1)
    recording = np.zeros(500, [("t", "i8"), ("x", "u1"), ("y", "u1"), ("p", "u1")])
    recording["x"], recording["y"], recording["t"] = rng.integers(0, 240, 500), rng.integers(0, 180, 500), range(500)
    sensor = (2, 180, 240)
    moved = ToSize(sensor, 48)(recording)
    assert np.array_equal(moved["x"], recording["x"] // 5) and moved["y"].max() <= 47 and recording["x"].max() > 200
    assert frames(Settings(size=48, steps=4), sensor)(recording).sum() == 500
    assert np.array_equal(moved["y"], np.floor(recording["y"] * (48 / 180)).astype(int))


def test_only_sets_whose_classes_stay_are_mirrored():
    def mirrors(**options):
        return "Flip" in repr(augmentation(Settings(augment="spikformer", **options)))

    assert all(mirrors(dataset=name) for name in ("cifar10dvs", "ncaltech101", "pictures"))
    assert mirrors(dataset="dvs128", flip=True)
    assert not any(mirrors(dataset=name) for name in ("moving_digits", "dvs128", "nmnist", "folder"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dataset nmnist", "--dataset nmnist needs --root"),
        ("--dataset cifar10dvs --root nowhere", "nowhere"),
        ("--dataset cifar10dvs --root {events}", "classes left, right"),
        ("--dataset folder --root {events} --sensor 20", "--sensor"),
        ("--dataset folder --root {events} --split ids:0-5", "ids:0-5"),
        ("--dataset folder --root {events} --sensor 20 30 --validation 0.01", "--validation 0.01 holds out 0 of 36"),
        ("--dataset folder --root {events} --sensor 20 25", "--outside drop or clip."),
        ("--unit-us 1000", "--unit-us is an option of --dataset folder"),
        ("--root {events}", "--root is an option of --dataset cifar10dvs, dvs128, nmnist, ncaltech101, folder"),
        ("--sensor 3 4", "--sensor is an option of --dataset folder, pictures, got moving_digits"),
        ("--camera contrast=1", "--camera is an option of --dataset pictures, got moving_digits"),
        ("--dataset pictures --root {events} --outside drop", "--outside is an option of --dataset cifar10dvs, dvs128"),
        ("--dataset pictures --root {events} --camera kontrast=1", "--camera has no 'kontrast'. Near: contrast."),
        ("--dataset pictures --root {events} --camera noise_hz", "--camera expects noise_hz=VALUE, a number, got"),
        ("--dataset pictures --root {events} --camera refractory_us=0.5", "refractory_us=VALUE, a whole number"),
        ("--dataset pictures --root {events} --camera dark=0", "--camera dark must be > 0, got 0"),
        ("--dataset pictures --root {events} --log-std -1", "--log-std must be >= 0"),
        ("--dataset pictures --root {events} --sensor 20", "--sensor takes height and width, got 1"),
        ("--dataset pictures --root {events}", "No recordings of a folder of pictures in"),
        ("--framing time --window-ms 3", "--framing time has no length, got --window-ms"),
        ("--augment none --shift 3", "--augment none has no shift, got --shift"),
        ("--framing voxel --log-counts", "--framing voxel has no counts"),
        ("--on-device shift=3 --augment spikformer", "--on-device replaces all other augmentation"),
        ("--steps 0", "--steps must be at least 1, got 0"),
        ("--window-ms 0 --framing window", "--window-ms must be > 0, got 0"),
    ],
)
def test_bad_input_is_refused_in_a_line_or_two_and_nothing_is_written(
    tmp_path, monkeypatch, events, arguments, message
):
    AcceleratorState._reset_state(reset_partial_state=True)  # else the first test's precision is all others', too
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*arguments.format(events=events).split(), "--cpu"])
    text = str(stop.value)
    assert text.startswith("error: ") and message in text and len(text.splitlines()) <= 2, text
    assert not list(tmp_path.rglob("*"))


def test_brighter_is_red_darker_is_blue_and_nothing_is_white():
    frame = np.zeros((2, 1, 3), np.float32)
    frame[1, 0, 0], frame[0, 0, 1] = 2, 2
    assert as_picture(frame).tolist() == [[[1, 0, 0], [0, 0, 1], [1, 1, 1]]]
    gray = np.full((3, 1, 2), 0.5, np.float32)
    assert as_picture(gray).tolist() == [[[0.5] * 3, [0.5] * 3]]
    signed = np.array([[[3.0, -3.0, 0.0]]], np.float32)
    assert as_picture(signed).tolist() == as_picture(frame).tolist()
