"""What the scripts for pictures and for event cameras share: the model of the options, and parts that hold samples."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import train_cifar10dvs
import train_images
import train_shd
from _clips import event_parts, in_flags, left_out, too_large, uneven
from _parts import never_trained, not_in_validation, refuse_empty
from _run import refuse_folder
from _settings import read_settings, write_settings
from _vision import build_model, build_optimizer, evaluate
from _vision_report import examples_of
from accelerate.state import AcceleratorState

import snnkit
from snnkit.data import Dataset
from tests.examples.recorded import write_events
from tests.examples.two_processes import scores

DISTILLED = ("dims=(4, 4, 6, 8)", "depths=(1, 1)", "heads=2")


def test_a_head_to_distil_answers_apart_only_where_there_is_a_teacher():
    def answer(script, channels, **options):
        settings = script.Settings(
            model="meta_spikeformer_15m_dist", set=DISTILLED, size=32, steps=2, loss="mean", **options
        )
        model = build_model(settings, channels, 5, torch.device("cpu")).train()
        return model(torch.rand(2, 3, channels, 32, 32))

    assert answer(train_cifar10dvs, 2).shape == answer(train_images, 3).shape == (3, 5)
    assert [head.shape for head in answer(train_images, 3, teacher="resnet18")] == [(3, 5), (3, 5)]


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_whose_recordings_are_all_left_out_is_refused_in_each_part(tmp_path, monkeypatch, part):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "cache"))
    root = write_events(tmp_path / "events", per_class=7)
    settings = train_cifar10dvs.Settings(
        dataset="folder", root=str(root), sensor=(20, 30), size=16, steps=3, split="ids:0-3/4-6", skip_bad=True,
        validation=0.25, augment="none",
    )  # fmt: skip
    (root / "left" / "left_0.npz").write_bytes(b"no archive")
    assert [len(each) for each in event_parts(settings)] == [5, 2, 6]
    for number in range(4) if part == "train" else range(4, 7):
        (root / "right" / f"right_{number}.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=f"--skip-bad leaves class right without a {part} recording.*right_[04].npz"):
        event_parts(settings)


def test_recordings_in_a_corner_of_their_sensor_are_noted(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "cache"))
    root = write_events(tmp_path / "events", per_class=6)
    common = {"dataset": "folder", "root": str(root), "split": "ids:0-3/4-5"}
    common |= {"size": 16, "steps": 3, "validation": 0.25, "augment": "none"}
    for sensor, noted in (((128, 128), True), ((20, 64), True), ((20, 30), False)):
        settings = train_cifar10dvs.Settings(sensor=sensor, **common)
        lines = too_large(settings, event_parts(settings)[0])
        assert bool(lines) == noted
        if noted:
            assert f"a sensor of {sensor[0]} x {sensor[1]} pixels" in lines[0] and "--sensor HEIGHT WIDTH" in lines[0]


def test_what_an_error_advises_is_an_option_and_helps(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "cache"))
    root = write_events(tmp_path / "events", per_class=6)
    common = {"dataset": "folder", "root": str(root), "split": "ids:0-3/4-5", "validation": 0.25, "augment": "none"}
    common |= {"size": 16, "steps": 3}

    def first_error(**options):
        with pytest.raises(ValueError) as error:
            for part in event_parts(train_cifar10dvs.Settings(**common | options)):
                [part[i] for i in range(len(part))]
        return in_flags(error.value)

    def events_used(**options):
        parts = event_parts(train_cifar10dvs.Settings(**common | options))
        return sum(float(part[i][0].sum()) for part in parts for i in range(len(part)))

    assert first_error(sensor=(20, 25)).endswith("If it is the right file: --outside drop or clip.")
    whole = sum(2 * (90 + i) for i in range(6))
    assert events_used(sensor=(20, 25), outside="clip") == whole > events_used(sensor=(20, 25), outside="drop") > 0

    t, x, y, p = np.arange(50) * 1.5, np.full(50, 3.0), np.full(50, 4.0), np.ones(50)  # 74 ms
    for path in root.rglob("*.npz"):
        path.unlink()
        np.save(path.with_suffix(".npy"), np.stack([x, y, p, t], 1))
    assert "give --unit-us, microseconds per unit" in first_error(sensor=(20, 30))
    window = {"framing": "window", "window_ms": 10.0, "sensor": (20, 30)}  # 3 frames: up to and with 30 ms
    assert events_used(unit_us=1000.0, **window) == 12 * 21


def test_the_share_of_events_that_come_after_the_last_frame_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "cache"))
    root = write_events(tmp_path / "events", per_class=6)

    def told(**options):
        settings = train_cifar10dvs.Settings(
            dataset="folder", root=str(root), sensor=(20, 30), split="ids:0-3/4-5", validation=0.25, augment="none",
            size=16, steps=3, **options,
        )  # fmt: skip
        train, valid, test = event_parts(settings)
        used = sum(float(part[i][0].sum()) for part in (train, valid) for i in range(len(part)))
        return used, left_out(settings, train)

    whole = sum(2 * (90 + i) for i in range(4))
    used, (line,) = told(framing="window", window_ms=20.0)
    share = float(line.partition("leave out ")[2].split(" %")[0])
    assert share == pytest.approx(100 * (1 - used / whole), rel=0.05) and 20 < share < 50
    assert told(framing="window", window_ms=31.0) == (whole, []) and told(framing="number") == (whole, [])
    used, (line,) = told(framing="window", window_ms=200.0)
    assert used == whole and "so that all events lie in the first of 3 frames of 200 ms" in line and "--unit-us" in line
    (line,) = told(framing="window", window_ms=20.0, unit_us=1000.0)[1]
    assert "leave out 9" in line and line.endswith("If times are in another unit: --unit-us.")


def test_a_run_says_its_recipe_and_the_weights_that_it_begins_with(tmp_path):
    settings, _ = read_settings(train_images.Settings, ("--init", "some.pth"), "")
    assert settings.notes == ("recipe digits.yaml: --config takes another one", "begins with the weights of some.pth")
    write_settings(settings, tmp_path / "settings.json")
    resumed, _ = read_settings(train_images.Settings, ("--resume", str(tmp_path)), "")
    assert resumed.init == "some.pth" and resumed.notes == train_images.Settings().notes == ()


def test_a_class_that_cannot_help_to_choose_the_epoch_is_named_and_one_that_is_not_trained_is_refused():
    def parts(*labels):
        return [Dataset(np.array(each), ["a", "b", "c"]) for each in labels]

    train, valid, test = parts([0, 0, 1, 2, 2], [0, 2], [0, 1, 2])
    (line,) = not_in_validation(train, valid)
    assert line.startswith("note: no sample of class b is held out")
    assert not_in_validation(train, test) == [] and refuse_empty((train, valid, test), SimpleNamespace()) is None
    with pytest.raises(ValueError, match="--validation 0.3 holds out all training samples of class b"):
        refuse_empty((valid, train, test), SimpleNamespace(validation=0.3))


def test_a_folder_that_cannot_hold_a_run_is_refused_in_a_line_before_the_data_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("")
    for name in ("begun", "stopped/last"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("begun", "stopped"):
        (tmp_path / name / "settings.json").write_text("{}")
    for folder, message in (
        ("afile", "--folder afile: /.*/afile is a file."),
        ("afile/x", "--folder afile/x: /.*/afile is a file."),
        ("begun", "begun already holds a run, which has no checkpoint yet. Delete it, or give another --folder."),
        ("stopped", "stopped already holds a run. Go on with --resume stopped"),
    ):
        for script, dataset in ((train_images, "folder"), (train_cifar10dvs, "folder"), (train_shd, "shd")):
            AcceleratorState._reset_state(reset_partial_state=True)
            with pytest.raises(SystemExit, match=f"error: {message}"):
                script.main(["--folder", folder, "--dataset", dataset, "--root", "nowhere", "--cpu"])
    refuse_folder("stopped", resumed=tmp_path / "stopped")
    refuse_folder("new/one", None)
    refuse_folder("", None)


def test_a_recipe_s_warm_up_shrinks_with_the_epochs_and_one_that_was_asked_for_does_not():
    def read(script, *arguments):
        settings, _ = read_settings(script.Settings, arguments, "")
        return settings.epochs, settings.warmup, settings.cooldown, sum("note: " in line for line in settings.notes)

    assert read(train_images) == (20, 3, 0, 0) and read(train_images, "--epochs", "4") == (4, 3, 0, 0)
    assert read(train_images, "--epochs", "2") == (2, 0, 0, 1)
    assert read(train_images, "--epochs", "2", "--warmup", "3") == (2, 3, 0, 0)
    assert read(train_cifar10dvs, "--epochs", "2") == (2, 0, 0, 1)
    short = ("--warmup", "2", "--epochs", "5", "--cooldown", "3")  # both were asked for: refused later
    assert read(train_images, *short) == (5, 2, 3, 0)


def test_a_small_learning_rate_takes_the_rates_of_the_recipe_that_lie_above_it_along():
    def read(*arguments):
        settings, _ = read_settings(train_images.Settings, arguments, "")  # the recipe: 5e-3, from 5e-4, to 1e-5
        return settings.warmup_lr, settings.min_lr, sum("note: " in line for line in settings.notes)

    assert read() == read("--lr", "1e-3") == (5e-4, 1e-5, 0)
    assert read("--lr", "3e-4") == (pytest.approx(3e-5), 1e-5, 1)
    assert read("--lr", "3e-6") == (pytest.approx(3e-7), pytest.approx(6e-9), 2)
    for name in ("min", "warmup"):
        with pytest.raises(SystemExit, match=f"--{name}-lr 0.1 is above the peak learning rate, --lr 0.005. Make it"):
            read(f"--{name}-lr", "0.1")
    assert read("--lr", "-1")[2] == 0  # refused as what it is, by the bounds
    assert read("--schedule", "constant", "--warmup", "0", "--lr", "3e-6")[2] == 0
    assert read("--lr", "3e-4", "--epochs", "2")[2] == 1  # no warm-up is left, and its rate not told of


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("poly", [1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("step", [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_schedules_are_what_they_are_called(schedule, rates):
    options = ("--schedule", schedule, "--epochs", "6", "--warmup", "0", "--lr", "1.0", "--min-lr", "0.0")
    settings, _ = read_settings(train_images.Settings, options, "")
    optimizer, steps = build_optimizer(torch.nn.Linear(2, 2), settings, 3)
    found = []
    for epoch in range(6):
        found.append(optimizer.param_groups[-1]["lr"])
        steps.step_update(3 * epoch + 3)
        steps.step(epoch + 1)
    assert found == pytest.approx(rates)


def test_two_epochs_have_a_step_too():
    settings, _ = read_settings(train_images.Settings, ("--schedule", "step", "--epochs", "2", "--warmup", "0"), "")
    _, steps = build_optimizer(torch.nn.Linear(2, 2), settings, 3)
    steps.step(1)


def test_a_batch_is_not_cut_into_more_parts_than_it_has_samples():
    settings, _ = read_settings(train_images.Settings, ("--batch", "8", "--accumulate", "9"), "")
    with pytest.raises(ValueError, match="--accumulate must be at most --batch, 8, got 9"):
        build_optimizer(torch.nn.Linear(2, 2), settings, 3)


@pytest.mark.parametrize(
    "sensor, size, told",
    [((34, 34), 32, "--size 34 keeps them"), ((180, 240), 48, "--size 60 divides them"), ((260, 346), 48, "others.")],
)
def test_a_size_that_does_not_divide_the_sensor_is_told(sensor, size, told):
    def lines(size):
        part = SimpleNamespace(dataset=None, sensor=(2, *sensor))
        return uneven(SimpleNamespace(size=size), part)

    (line,) = lines(size)
    assert line.endswith(told if told[-1] == "." else f"{told}.") and f"{sensor[0]} x {sensor[1]} pixels" in line
    assert lines(2) == []
    (line,) = lines(sensor[1] + 1)
    rows, columns = (side + 1 - len(set(np.arange(side) * (side + 1) // side)) for side in (sensor[1], sensor[1]))
    assert f": {rows + sensor[1] - sensor[0]} rows and {columns} columns stay empty. --size {sensor[0]} has no" in line
    if sensor[0] < sensor[1]:
        assert "columns" not in lines(sensor[1])[0]
    counts = np.bincount(np.arange(sensor[0]) * size // sensor[0])
    assert counts.max() - counts.min() == 1


class Clips(Dataset):
    """Clips ``[N, T, C, H, W]`` of one class of five."""

    def __init__(self, clips):
        super().__init__(np.zeros(len(clips), np.int64), list("abcde"))
        self.clips = clips.numpy()

    def stored(self, index, epoch):
        return self.clips[index]


def test_the_rates_of_several_processes_are_those_of_one():
    class Neurons(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = snnkit.nn.IF()

        def forward(self, x):
            return self.neuron(torch.cat([x.flatten(2), torch.ones(*x.shape[:2], 1)], 2)).mean(0)

    clips = Clips(torch.rand(6, 3, 1, 2, 2, generator=torch.Generator().manual_seed(0)))
    settings = SimpleNamespace(batch=4, workers=0)
    one, two = scores(lambda accelerator: evaluate(Neurons(), clips, settings, accelerator, observe=True))
    torch.testing.assert_close(two.firing["neuron"], one.firing["neuron"], rtol=1e-14, atol=0)
    assert two.firing["neuron"][-1] == 1 and (two.right == one.right).all()


def test_pictures_are_shown_as_they_were_before_mean_and_std():
    pictures = torch.rand(2, 1, 3, 4, 4)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    normal = (pictures - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    score = SimpleNamespace(answers=np.zeros(2, int))
    shown = examples_of(Clips(normal), score, 2, SimpleNamespace(mean=mean, std=std))
    assert np.allclose(np.stack([each.clip for each in shown]), pictures, atol=1e-6)


def test_classes_that_no_training_sample_has_are_named():
    def lines(*labels):
        return never_trained(SimpleNamespace(labels=np.array(labels), classes=list("abcdefg")))

    assert lines(*range(7)) == []
    assert lines(1, 2, 3, 4, 5, 6) == ["note: no training sample of class a. Do the labels count from 0?"]
    assert lines(0) == ["note: no training sample of class b, c, d, e and 2 more. Do the labels count from 0?"]
