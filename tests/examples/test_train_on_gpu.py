"""train_shd.py on a GPU: the same seed gives the same bits twice, and a run goes on where it was not begun."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.examples import EXAMPLES
from tests.examples.runs import same_run, weights
from tests.examples.scripts import ENVIRONMENT, SMALL
from tests.on_gpu import gpus

HERE = [argument for argument in SMALL if argument != "--cpu"]


def begun(*arguments: object, cwd: Path, gpu: bool = True) -> subprocess.Popen[str]:
    """A running script on a machine with a GPU, or on the same one without."""
    paths = [ENVIRONMENT["PYTHONPATH"], os.environ.get("PYTHONPATH", "")]
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if not gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, str(EXAMPLES / "train_shd.py"), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, stdout=pipe, stderr=pipe)


def ended(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, f"{out}\n{err}"


@gpus()
def test_the_same_seed_gives_the_same_bits_twice_and_a_resumed_run_those_of_an_unbroken_one(tmp_path):
    runs = [begun(*HERE, "--folder", name, cwd=tmp_path) for name in ("one", "two")]
    ended(*runs, begun(*HERE, "--folder", "parts", "--stop-after", 1, cwd=tmp_path))
    ended(begun("--resume", "parts", cwd=tmp_path))
    same_run(tmp_path / "two", tmp_path / "one")
    same_run(tmp_path / "parts", tmp_path / "one")


@gpus()
def test_a_run_begun_with_or_without_a_gpu_goes_on_on_the_other(tmp_path):
    names = ("cpu", "gpu")
    ended(*(begun(*HERE, "--folder", n, "--stop-after", 1, cwd=tmp_path, gpu=n == "gpu") for n in names))
    before = {name: weights(tmp_path / name) for name in names}
    ended(*(begun("--resume", name, cwd=tmp_path, gpu=name != "gpu") for name in names))
    for name in names:
        rows = list(csv.DictReader((tmp_path / name / "metrics.csv").open()))
        assert len(rows) == 2 and json.loads((tmp_path / name / "result.json").read_text())["accuracies"]["test"] > 0.2
        after = weights(tmp_path / name)
        assert all(w.isfinite().all() for w in after.values())
        assert any((after[n] != w).any() for n, w in before[name].items())
