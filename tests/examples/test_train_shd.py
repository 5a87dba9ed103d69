"""Whole runs of train_shd.py as a user starts, kills and resumes them; the nets are tiny."""

import csv
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from _run import new_folder
from train_shd import Settings, evaluate, main

import snnkit
from snnkit.data import Digits
from tests.examples.runs import position, same_run, wait_for
from tests.examples.scripts import SMALL, finish, run, start
from tests.examples.two_processes import scores


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    out = run(*SMALL, "--folder", "run", cwd=folder)
    return folder / "run", out


@pytest.mark.parametrize(("workers", "epoch", "step"), [(0, 1, 9), (2, 0, 5)])
def test_a_run_killed_in_mid_epoch_and_resumed_equals_one_never_killed(tmp_path, unbroken, workers, epoch, step):
    process = start(*SMALL, "--folder", "run", "--workers", workers, "--checkpoint-steps", 1, cwd=tmp_path)
    wait_for(process, tmp_path / "run", epoch, step)
    os.kill(process.pid, signal.SIGKILL)
    code, _, err = finish(process)
    at = position(tmp_path / "run")
    assert code == -signal.SIGKILL, err
    assert at["epoch"] == epoch and at["step"] >= step and not (tmp_path / "run" / "result.json").exists()
    run("--resume", "run", "--workers", workers, cwd=tmp_path)
    same_run(tmp_path / "run", unbroken[0])


def test_two_epochs_equal_one_and_a_resumed_one(tmp_path, unbroken):
    out = run(*SMALL, "--stop-after", 1, cwd=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    assert position(folder) == {"epoch": 1, "step": 0, "loss": 0, "right": 0, "seen": 0, "seconds": 0}
    assert out.splitlines()[-1].endswith(f"--resume runs/{folder.name}")
    run("--resume", cwd=tmp_path)  # the newest
    same_run(folder, unbroken[0])
    result = json.loads((folder / "result.json").read_text())
    assert result["command"].endswith(f"train_shd.py {' '.join(SMALL)} --stop-after 1")
    assert [line.split("train_shd.py ")[1] for line in result["resumed_by"]] == ["--resume"]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
def test_two_processes_share_each_batch_and_resume_as_one_does(tmp_path):
    run(*SMALL, "--folder", "whole", cwd=tmp_path, processes=2)
    out = run(*SMALL, "--folder", "parts", "--stop-after", 1, cwd=tmp_path, processes=2)
    assert out.splitlines()[-1].startswith("torchrun --standalone --nproc_per_node 2 ")
    assert out.splitlines()[-1].endswith("train_shd.py --resume parts")
    run("--resume", "parts", cwd=tmp_path, processes=2)
    same_run(tmp_path / "parts", tmp_path / "whole")
    code, _, err = finish(start("--resume", "parts", cwd=tmp_path))
    assert code == 1 and "was trained by 2 processes, now there are 1" in err


def test_the_score_and_the_rates_of_two_processes_are_those_of_one():
    digits = Digits("valid", steps=5)
    settings, model = Settings(batch=50), snnkit.create_model("delay_snn_digits", v_threshold=0.05).eval()
    one, two = scores(lambda accelerator: evaluate(model, digits, settings, accelerator))
    assert (two.right == one.right).all() and len(digits) % 50 and one.firing["blocks.0.neuron"].any()
    for name, rate in one.firing.items():
        torch.testing.assert_close(two.firing[name], rate, rtol=1e-14, atol=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_run_writes_a_checkpoint_and_the_line_that_resumes_it(tmp_path, unbroken, number):
    process = start(*SMALL, "--folder", "run", "--workers", 1, "--checkpoint-steps", 10, cwd=tmp_path)
    wait_for(process, tmp_path / "run", 0, 10)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 130 and "Traceback" not in err, err
    line = out.splitlines()[-1]
    assert line.startswith("python ") and line.endswith("train_shd.py --resume run")
    assert (tmp_path / "run" / "last" / "model.safetensors").exists()
    if number == signal.SIGINT:
        run(*line.split()[2:], cwd=tmp_path)
        same_run(tmp_path / "run", unbroken[0])


def test_a_run_leaves_log_result_picture_and_model_and_says_the_accuracy_last(unbroken):
    folder, out = unbroken
    lines = out.strip().splitlines()
    result = json.loads((folder / "result.json").read_text())
    accuracy = 100 * result["accuracies"]["test"]
    assert lines[-1] == f"test accuracy {accuracy:.1f} % (epoch {result['epoch']} of 2, chosen on validation)"
    assert any("spikes a step and neuron" in line for line in lines)
    assert set(result["accuracies"]) == {"validation", "test", "test_without_delays"}
    assert result["parameters"] == 2 * (64 * 12 + 12 * 10) + 2 * 12 and result["command"].startswith("python ")
    assert (folder / "report.png").read_bytes()[:4] == b"\x89PNG"
    assert list(folder.glob("events.out.tfevents.*"))
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    best = max(rows, key=lambda row: (float(row["validation_accuracy"]), -float(row["validation_loss"])))
    assert int(best["epoch"]) == result["epoch"]
    assert not list(folder.glob("*writing*")) and not list(folder.glob("*.old"))


def test_the_saved_model_is_rebuilt_from_its_file_and_gives_the_same_accuracy(unbroken):
    import snnkit
    from snnkit.data import Digits, collate

    model = snnkit.load_model(unbroken[0] / "best" / "model.safetensors").discretize()
    x, labels, lengths = collate(list(Digits("test", steps=5)))
    with torch.inference_mode():
        right = (model(x, lengths).argmax(1) == labels).double().mean().item()
    assert right == pytest.approx(json.loads((unbroken[0] / "result.json").read_text())["accuracies"]["test"])


def write_set(folder, name, samples, speakers, keys=(b"one", b"two", b"three"), classes=3):
    """A tiny set in SHD's layout, classes told apart by their channels."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(len(name))
    labels = np.arange(samples) % classes
    with h5py.File(folder / f"shd_{name}.h5", "w") as file:
        times = file.create_dataset("spikes/times", (samples,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (samples,), h5py.vlen_dtype(np.uint16))
        for i, label in enumerate(labels):
            times[i] = np.sort(rng.random(40) * rng.uniform(0.1, 0.3)).astype(np.float16)
            units[i] = 230 * label + rng.integers(0, 230, 40)
        file["labels"] = labels.astype(np.uint16)
        file["extra/speaker"] = (np.arange(samples) % speakers).astype(np.uint16)
        if keys:
            file["extra/keys"] = np.array(keys)


def test_a_set_in_shds_layout_trains_and_speakers_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_set(tmp_path, "train", 60, speakers=2)
    write_set(tmp_path, "test", 30, speakers=3)
    run(*"--dataset shd --root . --epochs 2 --hidden 8 --max-delay 5 --batch 16 --folder run".split(), cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    parts = result["accuracies"]
    known, unheard = parts["test_known_speakers"], parts["test_unheard_speakers"]
    assert result["samples"] == {"train": 54, "validation": 6, "test": 30}
    assert parts["test"] == pytest.approx((20 * known + 10 * unheard) / 30)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["official_padding"] and settings["hidden"] == [8]  # the published recipe, but for what was given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dataset shd", "needs --root"),
        ("--dataset shd --root empty", "shd_train.h5"),
        ("--dataset shd --root empty", "{folder}/empty"),
        ("--dataset shd --root cut", "shd_train.h5 is truncated"),
        ("--dataset shd --root nowhere", "{folder}/nowhere"),
        ("--dataset shd --root cut/shd_train.h5", "--root must be the folder with shd_train.h5 and shd_test.h5, got"),
        ("--dataset shd --root cut --merge 3", "--merge must divide the 700 units, got 3: some would be lost. Give 2"),
        ("--model delay_snn_shdd", "Near: delay_snn_shd"),
        ("--model spikformer_4_384_cifar10", "spikformer_4_384_cifar10 is a vision model, which takes images"),
        ("--tau -1", "--tau must be > 0, got -1"),
        ("--optimizer adammw", "Near: adamw"),
        ("--validation 0", "share"),
        ("--batch 0", "batch must be at least 1, got 0"),
        ("--workers -1", "workers must be at least 0, got -1"),
        ("--cutmix 2", "got 2"),
        ("--seed -1", "seed must be at least 0, got -1"),
        ("--checkpoint-steps -3", "checkpoint-steps must be at least 0, got -3"),
        ("--checkpoint-seconds 0", "checkpoint-seconds must be > 0, got 0"),
        ("--profile triangle --sigma 7", "--profile triangle has no width, got --sigma 7. Leave it out"),
        ("--delays fixed --sigma 7", "--delays fixed has no width"),
        ("--delays fixed --learn-width", "--delays fixed has no width, got --learn-width"),
        ("--delays none --max-delay 5", "--delays none has no delays, got --max-delay 5"),
        ("--learn-width --sigma-share 0.5", "no width shrinks, got --sigma-share 0.5"),
        ("--learn-filter", "there is no filter without --filter-tau"),
        ("--warmup 3", "--schedule onecycle has no warm-up"),
        ("--root empty", "--root is an option of --dataset shd, gsc, psmnist, got digits. Add --dataset shd"),
        ("--step-ms 5", "--step-ms is an option of --dataset shd"),
        ("--dataset shd --root empty --steps 5", "--steps is an option of --dataset digits, got shd"),
        ("--epochs 0", "--epochs must be at least 1, got 0"),
        ("--dropout 2", "--dropout must be a share in [0, 1), got 2"),
        ("--sparsity 1", "--sparsity must be a share in [0, 1), got 1"),
        ("--validation nan", "--validation must be a share in (0, 1), got nan"),
        ("--validation 1", "--validation must be a share in (0, 1), got 1"),
        ("--lr inf", "--lr must be > 0 and finite, got inf"),
        ("--weight-decay nan", "--weight-decay must be >= 0, got nan"),
        ("--weight-decay -1", "--weight-decay must be >= 0, got -1"),
        ("--weight-decay inf", "--weight-decay must be >= 0 and finite, got inf"),
        ("--max-delay 0", "--max-delay must be at least 1, got 0"),
        ("--validation 0.9999", "--validation 0.9999 holds out 1437 of 1437 training samples"),
        ("--dataset shd --root cut --step-ms 0.0001", "--step-ms must be at least 0.001 (a microsecond), got 0.0001"),
    ],
)
def test_bad_input_is_refused_in_a_line_or_two_and_nothing_is_written(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut").mkdir()
    write_set(tmp_path / "cut", "train", 9, speakers=1)
    path = tmp_path / "cut" / "shd_train.h5"
    path.write_bytes(path.read_bytes()[:-100])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main([*arguments.split(), "--cpu"])
    text = str(stop.value)
    assert text.startswith("error: ") and message.format(folder=tmp_path) in text and len(text.splitlines()) <= 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("train", "test", "arguments", "message"),
    [
        ({"samples": 12}, {"samples": 9}, "--validation 0.01", "--validation 0.01 holds out 0 of 12 training samples"),
        ({"samples": 12}, {"samples": 0}, "", "The test part holds no sample"),
        ({"samples": 12}, {"samples": 9, "keys": (b"two", b"one", b"three")}, "", "a label would mean two classes"),
    ],
)
def test_files_that_cannot_be_trained_on_are_refused_and_nothing_is_written(
    tmp_path, monkeypatch, train, test, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    for name, options in (("train", train), ("test", test)):
        write_set(tmp_path / "set", name, speakers=1, **options)
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main(["--dataset", "shd", "--root", "set", "--cpu", *arguments.split()])
    assert not (tmp_path / "runs").exists()


def test_classes_are_those_of_all_files_and_other_files_are_noticed_on_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "cache"))
    write_set(tmp_path, "train", 40, speakers=1, keys=(), classes=3)
    write_set(tmp_path, "test", 8, speakers=1, keys=(), classes=2)
    small = "--dataset shd --root . --cpu --hidden 4 --max-delay 3 --batch 16 --epochs 2 --folder run".split()
    with pytest.raises(SystemExit, match="0"):
        main([*small, "--stop-after", "1"])
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["train"]["samples"] == 36
    assert snnkit.load_model("run/best/model.safetensors").arguments["num_classes"] == 3
    write_set(tmp_path, "train", 50, speakers=1, keys=(), classes=3)
    with pytest.raises(SystemExit, match="the data changed since run began: other samples in train, valid"):
        main(["--resume", "run"])


def test_runs_of_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [new_folder("runs/a") for _ in range(3)] == ["runs/a", "runs/a-2", "runs/a-3"]


def test_a_run_folder_in_use_and_a_checkpoint_of_another_model_are_refused(tmp_path, unbroken):
    shutil.copytree(unbroken[0], tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = finish(start(*SMALL, "--folder", "run", cwd=tmp_path))
    assert code == 1 and err.startswith("error: run already holds a run.") and "--resume run" in err
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    (tmp_path / "run" / "settings.json").write_text(json.dumps(settings | {"hidden": [13]}))
    code, _, err = finish(start("--resume", "run", cwd=tmp_path))
    last = err.strip().splitlines()[-1]
    assert code == 1 and "Traceback" not in err and last.startswith("error: run/last/model.safetensors does not fit")
    assert "blocks.0.synapse.weight [12, 64, 1], here [13, 64, 1]" in last
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_whose_checkpoint_is_gone_or_broken_is_not_begun_anew_without_a_word(tmp_path, unbroken, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(unbroken[0], "run")

    def refused(message):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stop:
            main(["--resume", "run"])
        assert message in str(stop.value) and str(stop.value).startswith("error: ")
        assert len(str(stop.value).splitlines()) == 1 and sorted(tmp_path.rglob("*")) == before

    shutil.copytree("run/best", "kept")
    (tmp_path / "run/best/model.safetensors").unlink()
    refused("model.safetensors is gone, the model of the chosen epoch. Put it back, or train anew")
    shutil.rmtree("run/best")
    os.rename("kept", "run/best")
    state, record = tmp_path / "run/last/state.json", tmp_path / "run/best/record.json"
    for path, message in ((record, "record.json is damaged"), (state, "state.json is damaged")):
        whole = path.read_text()
        path.write_text(whole[:9])
        refused(message)
        path.write_text(whole)
    state.write_text(json.dumps(json.loads(state.read_text()) | {"processes": 3}))
    refused("trained by 3 processes, now there are 1: not the same run. torchrun --standalone --nproc_per_node 3 ")
    refused(" --resume run goes on with it.")
    state.write_text("{}")
    refused("state.json is damaged: no position, processes, torch")
    shutil.rmtree("run/last")
    refused("run holds no checkpoint: run/last was never written, or is gone")


def test_what_the_layers_offer_the_script_offers_and_the_file_remembers(tmp_path):
    import snnkit
    from snnkit.nn import SumOverTime

    options = "--loss spike_count --sparsity 0.5 --filter-tau 2 --learn-filter --tail 1 --learn-width --sigma 1.5"
    run(*SMALL, "--stop-after", 1, *options.split(), "--folder", "run", cwd=tmp_path)
    model = snnkit.load_model(tmp_path / "run/last/model.safetensors")
    arguments = model.arguments
    assert arguments["output_threshold"] == 2.0 and arguments["readout"] is SumOverTime
    assert (arguments["sparsity"], arguments["tail"], arguments["learn_filter"]) == (0.5, 1, True)
    assert arguments["delays"].learn_width and arguments["delays"].width == 1.5
    widths = next(model.delay_layers()).SIG
    assert (widths != 1.5).any() and widths.std() > 0, "learnt, not set by a schedule"
    zeros = (model.blocks[0].synapse.weight == 0).double().mean()
    assert 0.4 < zeros < 0.6


def test_help_names_the_options_with_the_defaults_that_there_are(tmp_path):
    out = run("--help", cwd=tmp_path)
    assert "all its 35 words" in " ".join(out.split())
    assert "--lr-delay" in out and "(default: 0.1)" in out and "--resume" in out
    assert "(default: )" not in out and "(default: None)" not in out
