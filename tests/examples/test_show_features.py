"""The script that draws feature maps and firing rates."""

import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

import snnkit
from tests.examples import EXAMPLES
from tests.examples.scripts import ENVIRONMENT


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / "show_features.py", *map(str, arguments)], cwd=cwd, env=ENVIRONMENT, text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip


def test_it_draws_the_maps_of_a_picture_and_prints_the_rates_of_all_layers(tmp_path: Path) -> None:
    done = run("sdt_2_256_cifar10", "--size", 32, "--channels", 3, cwd=tmp_path)
    lines = done.stdout.splitlines()
    rates = {line.split()[1]: float(line.split()[0]) for line in lines[:-2]}
    assert len(rates) == 18 and "stages.1.0.mixer.neuron" in rates, done.stderr
    assert all(0 < rate < 1 for rate in rates.values()), "with random weights all layers fire"
    assert "of 18 layers" in lines[-2]
    width, height = Image.open(tmp_path / "features.png").size
    assert width > 1000 and height > 600 and not done.stderr


def test_it_takes_a_picture_and_weights_of_yours(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = snnkit.create_model("sdt_2_256_cifar10", img_size=32)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.constant_(norm.bias, -9.0)  # nothing fires
    snnkit.save_checkpoint(model, tmp_path / "a.safetensors")
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    done = run(
        "sdt_2_256_cifar10", "red.png", "--size", 32, "--checkpoint", "a.safetensors", "--plot", "b.png", cwd=tmp_path
    )
    assert " 0.000  mean of 18 layers" in done.stdout and not done.stderr and (tmp_path / "b.png").exists(), done.stderr
    assert not (tmp_path / "features.png").exists()


def test_a_model_of_events_is_refused_in_one_line(tmp_path: Path) -> None:
    done = run("spikformer_2_256_cifar10dvs", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("reads events of 2 channels: choose a model for pictures.")
    assert done.stderr.count("\n") == 1
