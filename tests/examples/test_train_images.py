"""Whole runs of train_images.py as a user starts, kills and resumes them, and its parts; nets are tiny."""

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
import yaml
from _pictures import Drawn, cifar_pictures, digit_pictures
from _settings import ABOUT, read_recipe
from _teacher import Teacher
from _vision import build_model, build_optimizer, keyword, logits, parts
from accelerate.state import AcceleratorState
from PIL import Image
from train_images import Settings, augmentation, load_data, main

import snnkit
from snnkit.data import Batch, generator
from snnkit.equations.surrogates import ATan
from tests.examples import EXAMPLES
from tests.examples.runs import one_step_of_parts_and_averaged_weights, position, same_run, wait_for, weights
from tests.examples.scripts import finish, run, start

SCRIPT = {"script": "train_images.py"}
NET = ["dims=(4, 6, 8)", "depths=(1, 1, 1)", "heads=2", "drop_rate=0.2", "drop_path_rate=0.3"]
# Every kind of random draw is in use.
SMALL = [
    *"--cpu --size 8 --steps 2 --validation 0.8 --epochs 2 --warmup 1 --batch 32 --accumulate 2 --mixup 0.5".split(),
    *"--cutmix 0.5 --erase 0.3 --erase-mode pixel --ema 0.9 --by-step --set".split(), *NET,
]  # fmt: skip
RECIPES = sorted((EXAMPLES / "configs" / "images").glob("*.yaml"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    out = run(*SMALL, "--folder", "run", cwd=folder, **SCRIPT)
    return folder / "run", out


def test_a_run_killed_in_mid_epoch_and_resumed_with_workers_equals_one_never_killed(tmp_path, unbroken):
    process = start(*SMALL, "--folder", "run", "--workers", 2, "--checkpoint-steps", 1, cwd=tmp_path, **SCRIPT)
    wait_for(process, tmp_path / "run", 1, 5)
    os.kill(process.pid, signal.SIGKILL)
    code, _, err = finish(process)
    assert code == -signal.SIGKILL, err
    assert position(tmp_path / "run")["epoch"] == 1 and not (tmp_path / "run" / "result.json").exists()
    run("--resume", "run", cwd=tmp_path, **SCRIPT)
    same_run(tmp_path / "run", unbroken[0])


def test_two_epochs_equal_one_and_a_resumed_one(tmp_path, unbroken):
    run(*SMALL, "--stop-after", 1, cwd=tmp_path, **SCRIPT)
    (folder,) = (tmp_path / "runs").iterdir()
    run("--resume", cwd=tmp_path, **SCRIPT)  # the newest
    same_run(folder, unbroken[0])


@pytest.mark.parametrize("optimizer", ["lamb", "muon"])
def test_optimisers_with_more_than_adams_state_resume_bit_for_bit(tmp_path, optimizer):
    quick = ["--cpu", "--size", 8, "--steps", 2, "--validation", 0.8, "--epochs", 2, "--batch", 96]
    quick += ["--optimizer", optimizer, "--set", *NET[:3], "--folder"]
    run(*quick, "whole", cwd=tmp_path, **SCRIPT)
    run(*quick, "twice", "--stop-after", 1, cwd=tmp_path, **SCRIPT)
    run("--resume", "twice", cwd=tmp_path, **SCRIPT)
    same_run(tmp_path / "twice", tmp_path / "whole")


def test_the_last_line_the_result_and_the_saved_model_say_the_same(unbroken):
    folder, out = unbroken
    result = json.loads((folder / "result.json").read_text())
    accuracy, table = result["accuracies"]["test"], np.array(result["confusion"])
    last = out.strip().splitlines()[-1]
    assert last == f"test accuracy {100 * accuracy:.1f} % (epoch {result['epoch']} of 2, chosen on validation)"
    assert table.sum() == 360 and table.trace() / 360 == pytest.approx(accuracy)
    assert "spikes a step and neuron: mean of" in out and 0 < result["firing_rate"] < 1
    width, height = Image.open(folder / "report.png").size
    assert (width, height) == (1200, 900)
    model = snnkit.load_model(folder / "best" / "model.safetensors")
    data = load_data(Settings(**json.loads((folder / "settings.json").read_text())))
    x = torch.from_numpy(np.stack([data.test[i][0] for i in range(360)], 1))[0]
    with torch.inference_mode():
        right = (model(x).argmax(1).numpy() == data.test.labels).mean()
    assert right == pytest.approx(accuracy)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_where_it_comes_from_and_its_model_can_be_built(path):
    recipe = yaml.safe_load(path.read_text())
    assert set(recipe) == {*ABOUT, "settings"}
    settings = Settings(**read_recipe(Settings, path))
    assert (recipe["effective_batch"], recipe["epochs"]) == (settings.batch, settings.epochs)
    with torch.device("meta"):
        model = build_model(settings, 3, 10, torch.device("cpu"))
    build_optimizer(model, settings, 3)
    augmentation(settings)


def write_cifar(folder, coarse):
    """Two pictures a file in the binary layout: all red, and a single green pixel in the second row."""
    names = ["data_batch_1.bin", *(f"data_batch_{i}.bin" for i in range(2, 6)), "test_batch.bin"]
    if coarse:
        names = ["train.bin", "test.bin"]
    folder.mkdir(parents=True)
    (folder / ("fine_label_names.txt" if coarse else "batches.meta.txt")).write_text("one\ntwo\nthree\n\n")
    for name in names:
        red, green = np.zeros((2, 3072), np.uint8)
        red[:1024], green[1024 + 32 + 5] = 200, 100
        (folder / name).write_bytes(
            b"".join(bytes([9] * coarse + [label]) + pixels.tobytes() for label, pixels in ((2, red), (0, green)))
        )


@pytest.mark.parametrize(("name", "inner"), [("cifar10", "cifar-10-batches-bin"), ("cifar100", "cifar-100-binary")])
def test_binary_cifar_files_give_upright_pictures_and_the_fine_label(tmp_path, name, inner):
    write_cifar(tmp_path / inner, name == "cifar100")
    for root in (tmp_path, tmp_path / inner):
        train, test = (cifar_pictures(name, root, part, None) for part in ("train", "test"))
        assert (len(train), len(test), test.classes) == (2 if name == "cifar100" else 10, 2, ["one", "two", "three"])
        (red, two), (green, zero) = test[0], test[1]
        assert (two, zero) == (2, 0) and np.array(red).tolist() == [[[200, 0, 0]] * 32] * 32
        assert np.argwhere(np.array(green)).tolist() == [[1, 5, 1]]


def test_pictures_are_the_same_for_a_seed_an_epoch_and_a_sample_and_leave_the_generators_alone():
    train = load_data(Settings(size=8, erase=1.0, erase_mode="pixel", augment="rand-m9-n2-mstd0.5")).train
    torch.manual_seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    one = [train.sample(i, 4) for i in (5, 6)]
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(4)
    assert np.array_equal(train.sample(5, 4), one[0]) and np.array_equal(train.sample(6, 4), one[1])
    assert not np.array_equal(train.sample(5, 3), one[0])
    drawn = Drawn(lambda picture: torch.rand(3) + random.random() + np.random.rand())
    assert (drawn(None, generator(0, 1, 2)) == drawn(None, generator(0, 1, 2))).all()


def test_validation_is_held_out_of_training_and_never_augmented():
    data = load_data(Settings(size=8, validation=0.2))
    assert (len(data.train), len(data.valid), len(data.test)) == (1150, 287, 360)
    assert np.array_equal(data.valid.sample(3, 0), data.valid.sample(3, 1))
    assert data.test.sample(0, 0).shape == (1, 3, 8, 8)


def folders(root, parts_):
    for part in parts_:
        for number, name in enumerate(("a", "b")):
            (root / part / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (9, 8), (40 * i, 100 * number, 7)).save(root / part / name / f"{i}.png")


def test_a_val_folder_is_tested_where_there_is_no_test_folder_and_chooses_where_there_is(tmp_path):
    folders(tmp_path / "x", ("train", "val"))
    folders(tmp_path / "y", ("train", "val", "test"))
    options = {"dataset": "folder", "size": 8, "validation": 0.25}
    one, two = (load_data(Settings(root=str(tmp_path / name), **options)) for name in "xy")
    assert [len(part) for part in one] == [6, 2, 8] and [len(part) for part in two] == [8, 8, 8]
    assert one.test.sample(0, 0).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("crop", [1.0, 0.8])
@pytest.mark.parametrize("size", [4, 8, 16])
def test_padded_crops_show_pictures_as_large_as_evaluation_does(tmp_path, size, crop):
    folders(tmp_path, ("train", "test"))
    ramps = np.add.outer(np.arange(8), 3 * np.arange(9)).astype(np.uint8)[..., None] * np.array([1, 2, 5], np.uint8)
    for path in tmp_path.rglob("*.png"):
        Image.fromarray(ramps).save(path)
    options = {"dataset": "folder", "root": str(tmp_path), "size": size, "validation": 0.25, "flip": 0.0, "crop": crop}
    crops, whole = load_data(Settings(crop_pad=1, **options)).train, load_data(Settings(**options)).valid.sample(0, 0)
    assert crops.sample(0, 0).shape == whole.shape == (1, 3, size, size)
    assert any(np.allclose(crops.sample(0, epoch), whole, atol=1e-6) for epoch in range(200))  # one that is not moved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dataset cifar10", "--dataset cifar10 needs --root"),
        ("--dataset cifar10 --root nowhere", "nowhere holds neither cifar-10-batches-bin/batches.meta.txt"),
        ("--dataset cifar10 --root nowhere", "the python files of cifar10: Dataset not found or corrupted."),
        ("--dataset cifar10 --root cut", "data_batch_1.bin is truncated or foreign: 6145 bytes"),
        ("--dataset cifar10 --root label", "label/data_batch_4.bin is damaged or foreign: record 1 has the label 200"),
        ("--dataset folder --root nowhere", "nowhere needs train/ and test/ or val/"),
        ("--dataset folder --root few --validation 0.02", "--validation 0.02 holds out 0 of 8 training samples"),
        ("--dataset folder --root hollow", "hollow/train: no picture in the class folder c. Put pictures there"),
        ("--dataset folder --root broken", "0.png is no picture, or a broken one"),
        ("--model spikformer_4_384_cifar", "Near: spikformer_4_384_cifar10"),
        ("--model delay_snn_shd", "--model delay_snn_shd is no vision model. Default: max_former_cifar10."),
        ("--dataset folder --root other", "other classes: train/ alone has b; another part alone has c."),
        ("--teacher test_vit --teacher-weights nowhere.pth", "--teacher-weights nowhere.pth: there is no such file"),
        ("--teacher test_vit --teacher-weights foreign.pth", "weights foreign.pth is no test_vit with 10 classes"),
        ("--set dims", "--set expects KEY=VALUE, got 'dims'"),
        ("--set neuron=LIFF", "--set neuron: there is no 'LIFF' in snnkit.nn. Near: LIF"),
        ("--set steps=3", "--set steps=...: the data and --size, --steps say so already"),
        ("--set dimms=(1,)", "dims"),
        ("--augment rnd-m9", "--augment rnd-m9: timm does not know this policy"),
        ("--augment rand-m9-n1 --operations Rotat", "has no 'Rotat'. Near: Rotate"),
        ("--operations Rotate --augment original", "--operations are those of a rand- policy"),
        ("--teacher resnet8", "timm has no teacher 'resnet8'. Near:"),
        ("--teacher resnet18 --loss tet", "--teacher is for --loss mean, got tet"),
        ("--teacher-share 0.3", "there is no distillation without --teacher"),
        ("--tet-share 0.3", "--loss mean pulls to nothing, got --tet-share 0.3"),
        ("--mix-until 3", "nothing is mixed without --mixup or --cutmix"),
        ("--warmup 3 --epochs 3", "must leave some of the 3 epochs, got 3 and 0"),
        ("--accumulate 0", "--accumulate must be at least 1, got 0"),
        ("--layer-decay 0", "--layer-decay must be a share in (0, 1], got 0"),
        ("--init nowhere.safetensors", "nowhere.safetensors"),
        ("--optimizer adammw", "Near: adamw"),
        ("--on-device shft=3", "--on-device has no 'shft'. Near: shift"),
        ("--on-device shift=3 --crop-pad 2", "--on-device replaces all other augmentation, got --crop-pad"),
        ("--on-device shift=3 --flip 0.9", "--on-device replaces all other augmentation, got --flip"),
        ("--crop-pad 2 --crop-scale 0.5 1", "--crop-pad takes the place of other crops, got --crop-scale"),
        ("--augment rand-m9 --jitter 0.4", "the policy rand-m9 takes the place of --jitter, got --jitter"),
        ("--erase-mode pixel", "nothing is erased without --erase, got --erase-mode"),
        ("--crop 5", "--crop must be a share in (0, 1], got 5"),
        ("--crop-ratio 1", "--crop-ratio takes 2 numbers, got 1"),
        ("--crop-ratio 2 0.5", "--crop-ratio takes the least, then the largest, got 2 and 0.5"),
        ("--std 0 1 1", "--std takes numbers > 0, got 0"),
        ("--mean 123.6 116.2 103.5", "--mean takes numbers in 0..1, got 123.6. Of gray levels: divide by 255"),
        ("--std nan 1 1", "--std takes numbers > 0, got nan"),
        ("--crop-scale 0.5 2", "--crop-scale takes numbers in 0..1, got 2"),
        ("--dataset folder --root one", "The data hold the class a alone, expected at least two"),
        ("--optimizer adahessian", "--optimizer adahessian needs second derivatives"),
        ("--dataset folder --root deep", "0.png is no picture, or a broken one: it has pixels of mode I;16, exp"),
    ],
)
def test_bad_input_is_refused_in_a_line_or_two_and_nothing_is_written(tmp_path, monkeypatch, arguments, message):
    AcceleratorState._reset_state(reset_partial_state=True)  # else the first test's precision is all others', too
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path / "cut", False)
    write_cifar(tmp_path / "label", False)
    (tmp_path / "label" / "data_batch_4.bin").write_bytes(bytes(3073) + b"\xc8" + bytes(3072))
    (tmp_path / "cut" / "data_batch_1.bin").write_bytes(bytes(6145))
    folders(tmp_path / "broken", ("train", "test"))
    folders(tmp_path / "few", ("train", "test"))
    folders(tmp_path / "other", ("train", "test"))
    folders(tmp_path / "hollow", ("train", "test"))
    (tmp_path / "hollow" / "train" / "c").mkdir()
    (tmp_path / "other" / "test" / "b").rename(tmp_path / "other" / "test" / "c")
    torch.save({"fc.weight": torch.ones(2, 3)}, tmp_path / "foreign.pth")
    (tmp_path / "broken" / "train" / "b" / "0.png").write_bytes(b"\x89PNG")
    folders(tmp_path / "one", ("train", "test"))
    for part in ("train", "test"):
        shutil.rmtree(tmp_path / "one" / part / "b")
    folders(tmp_path / "deep", ("train", "test"))
    Image.fromarray(np.full((8, 9), 40_000, np.uint16)).save(tmp_path / "deep" / "train" / "a" / "0.png")
    before = sorted(tmp_path.rglob("*"))
    config = [] if "--set" in arguments or "--model" in arguments else ["--set", *NET]
    with pytest.raises(SystemExit) as stop:
        main([*arguments.split(), *config, "--cpu"])
    text = str(stop.value)
    assert text.startswith("error: ") and message in text and len(text.splitlines()) <= 2, text
    assert sorted(tmp_path.rglob("*")) == before


def test_keywords_of_the_model_are_numbers_tuples_and_names():
    assert keyword("dim=64") == ("dim", 64) and keyword("dims=(3, 4)") == ("dims", (3, 4))
    assert keyword("neuron=PLIF") == ("neuron", snnkit.nn.PLIF) and keyword("v_reset=None") == ("v_reset", None)
    surrogate = keyword("surrogate=ATan(3.0)")[1]
    assert isinstance(surrogate, ATan) and surrogate.alpha == 3.0


def test_training_starts_from_the_weights_of_a_file(tmp_path):
    small = Settings(size=8, steps=2, set=tuple(NET))
    model = build_model(small, 3, 10, torch.device("cpu"))
    snnkit.save_checkpoint(model, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="head"):  # another number of classes
        started = Settings(size=8, steps=2, set=tuple(NET), init=str(tmp_path / "model.safetensors"))
        again = build_model(started, 3, 7, torch.device("cpu"))
    a, b = model.state_dict(), again.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a if not name.startswith("head."))


def test_parts_of_a_batch_make_one_step_and_averaged_weights_are_the_ones_that_are_kept(tmp_path):
    net = ["--set", *NET[:3]]
    torch.manual_seed(0)
    start_ = build_model(Settings(size=8, steps=2, set=tuple(NET[:3])), 3, 10, torch.device("cpu"))
    snnkit.save_checkpoint(start_, tmp_path / "start.safetensors")
    plain = "--cpu --size 8 --steps 2 --validation 0.8 --epochs 1 --warmup 0 --batch 96 --optimizer sgd".split()
    plain += ["--lr", "0.1", "--weight-decay", "0", "--init", "start.safetensors", *net]
    for name, more in (("whole", ()), ("parts", ("--accumulate", 3)), ("averaged", ("--ema", 0.9))):
        run(*plain, *more, "--folder", name, cwd=tmp_path, **SCRIPT)
    one_step_of_parts_and_averaged_weights(tmp_path, start_)


def test_a_run_goes_on_without_the_file_that_it_started_from(tmp_path):
    model = build_model(Settings(size=8, steps=2, set=tuple(NET)), 3, 10, torch.device("cpu"))
    snnkit.save_checkpoint(model, tmp_path / "start.safetensors")
    run(*SMALL, "--init", "start.safetensors", "--stop-after", 1, "--folder", "run", cwd=tmp_path, **SCRIPT)
    (tmp_path / "start.safetensors").unlink()
    assert "test accuracy" in run("--resume", "run", cwd=tmp_path, **SCRIPT)


def test_layer_decay_lowers_the_rate_from_the_head_to_the_stem():
    model = build_model(Settings(size=8, steps=2, set=tuple(NET)), 3, 10, torch.device("cpu"))
    optimizer, _ = build_optimizer(model, Settings(layer_decay=0.5), 3)
    scale = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    first, last = (scale[id(p)] for p in (next(model.stem.parameters()), model.head.weight))
    assert last == 1 and first == 0.5 ** (len(set(scale.values())) - 1) < 0.1


def test_a_teacher_sees_pictures_normalised_as_it_was_trained(tmp_path):
    net = timm.create_model("test_vit", num_classes=4)
    torch.save(net.state_dict(), tmp_path / "teacher.pth")
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    teacher = Teacher("test_vit", str(tmp_path / "teacher.pth"), 4, mean, std)
    pixels = torch.rand(2, 3, 160, 160)
    ours, theirs = (
        (pixels - torch.tensor(m)[:, None, None]) / torch.tensor(s)[:, None, None]
        for m, s in ((mean, std), (net.pretrained_cfg["mean"], net.pretrained_cfg["std"]))
    )
    with torch.no_grad():
        torch.testing.assert_close(teacher(ours), net.eval()(theirs), rtol=1e-4, atol=1e-5)


def test_what_a_teacher_says_and_what_is_mixed_reach_the_weights(tmp_path):
    opinion = timm.create_model("test_vit", num_classes=10)
    for parameter in opinion.parameters():
        torch.nn.init.zeros_(parameter)
    opinion.head.bias.data[3] = 5.0  # whatever it sees
    torch.save(opinion.state_dict(), tmp_path / "teacher.pth")
    quick = ["--cpu", "--size", 8, "--steps", 2, "--validation", 0.8, "--epochs", 1, "--warmup", 0, "--batch", 96]
    quick += ["--lr", 0.01, "--set", *NET[:3]]
    taught = ["--teacher", "test_vit", "--teacher-weights", "teacher.pth", "--teacher-share", 1.0]
    for name, more in (("plain", []), ("taught", taught), ("mixed", ["--mixup", 1.0, "--mix-probability", 1.0])):
        run(*quick, *more, "--folder", name, cwd=tmp_path, **SCRIPT)
    answers = {name: np.array(json.loads((tmp_path / name / "result.json").read_text())["confusion"]).sum(0)
               for name in ("plain", "taught")}  # fmt: skip
    assert answers["taught"][3] == 360 > 2 * answers["plain"][3]
    assert any(not torch.equal(weights(tmp_path / "mixed")[k], v) for k, v in weights(tmp_path / "plain").items())


@pytest.mark.parametrize("problem", [FileNotFoundError("no cache.\nHub"), RuntimeError("No pretrained weights exist")])
def test_a_teacher_whose_weights_cannot_be_had_names_the_option_for_a_file(monkeypatch, problem):
    def fail(*args, **kwargs):
        raise problem

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises((OSError, ValueError), match="--teacher test_vit: .*--teacher-weights FILE takes them") as error:
        Teacher("test_vit", "", 4, (0,) * 3, (1,) * 3)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind, ending", [("KeyboardInterrupt", "stopped.\n"), ("ValueError", "ValueError\n")])
def test_an_interrupt_before_the_training_ends_in_a_line_and_an_error_in_a_traceback(kind, ending):
    code = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); import _quiet_stop; raise {kind}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode and ended.stderr.endswith(ending)
    assert ("Traceback" in ended.stderr) == (kind == "ValueError")
    for script in ("train_images.py", "train_cifar10dvs.py"):
        text = (EXAMPLES / script).read_text()
        assert text.index("import _quiet_stop") < text.index("import time") < text.index("import torch")


def test_a_batch_falls_into_parts_without_loss_and_answers_are_means():
    batch = Batch(torch.arange(14.0).view(2, 7, 1, 1, 1), torch.arange(7), torch.full((7,), 2))
    pieces = parts(batch, 3)
    assert [len(piece.labels) for piece in pieces] == [3, 3, 1]
    assert torch.equal(torch.cat([piece.x for piece in pieces], 1), batch.x)
    a, b = torch.rand(2, 5, 3)
    assert torch.equal(logits((a, b)), (a + b) / 2)
    steps = torch.rand(4, 5, 3)
    torch.testing.assert_close(logits(steps), steps.mean(0))


def test_data_sets_of_pictures_go_to_worker_processes():
    assert len(pickle.loads(pickle.dumps(digit_pictures("valid", 0.1, None)))) == 144
