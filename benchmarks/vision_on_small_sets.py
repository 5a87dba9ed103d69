"""Six vision models on three small sets, through examples/train_images.py and train_cifar10dvs.py.

    python benchmarks/vision_on_small_sets.py --data DIR --out runs/small_sets         on a GPU, some ten minutes
    python benchmarks/vision_on_small_sets.py --data DIR --out runs/try --tiny --cpu   whether all of it runs

DIR holds ``nmnist_1100``, ``cifar10dvs_simulated`` and ``cifar10_jpeg``. 18 trainings, of at most a minute of an H200
each, then seeds 1 and 2 of the model that is best on validation in each set. ``results.json`` is written after
each, and what stands there is not done again. Several run at once on each GPU: a training's share of it is the time
that it ran, divided at each moment by the number that ran there; start, evaluation and report are in it. The test part
is looked at once a training, after the epoch was chosen.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Any

import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
LINEAR = {"nmnist_1100": 91.0, "cifar10dvs_simulated": 30.0, "cifar10_jpeg": 37.4}  # logistic regression, README there
EPOCHS = {"nmnist_1100": 220, "cifar10dvs_simulated": 300, "cifar10_jpeg": 150}


@dataclass(frozen=True)
class Model:
    """A family: keywords that suit 32 x 32 pixels, those of a tiny form, and AdamW's learning rate."""

    name: str
    keywords: str
    tiny: str
    lr: float


META = "dims=(64,128,192,256) depths=(2,1) heads=8 strides=(1,1,2,2,1)"
SMALL_META = "dims=(4,4,6,8) depths=(1,1) heads=2"
MODELS = {
    "Spikformer": Model("spikformer_4_384_cifar10", "dim=256 depth=2 heads=8", "dim=16 depth=1 heads=2", 1e-3),
    "Spike-driven Transformer": Model("sdt_2_256_cifar10", "dim=256 depth=2", "dim=16 depth=1 heads=2", 1e-3),
    "Meta-SpikeFormer": Model("meta_spikeformer_15m", META, SMALL_META, 2e-3),
    "Max-Former": Model(
        "max_former_cifar10", "dims=(64,128,256) depths=(1,1,2)", "dims=(4,6,8) depths=(1,1,1) heads=2", 2e-3
    ),
    "Max-ResNet-18": Model("max_resnet18_cifar10", "", "dims=(4,6,8) depths=(1,1)", 2e-3),
    "QSD-Transformer": Model("qsd_transformer_8_256", META, SMALL_META, 3e-3),
}

# Fewer epochs where these would take more than a minute.
FEWER = {
    ("cifar10dvs_simulated", "Spikformer"): 220,
    ("cifar10dvs_simulated", "Spike-driven Transformer"): 240,
    ("cifar10dvs_simulated", "Meta-SpikeFormer"): 145,
    ("cifar10dvs_simulated", "Max-Former"): 150,
    ("cifar10dvs_simulated", "Max-ResNet-18"): 190,
    ("cifar10dvs_simulated", "QSD-Transformer"): 170,
    ("cifar10_jpeg", "Meta-SpikeFormer"): 38,
    ("cifar10_jpeg", "Max-Former"): 110,
    ("cifar10_jpeg", "Max-ResNet-18"): 85,
    ("cifar10_jpeg", "QSD-Transformer"): 75,
    ("nmnist_1100", "Meta-SpikeFormer"): 85,
    ("nmnist_1100", "Max-Former"): 155,
    ("nmnist_1100", "Max-ResNet-18"): 130,
    ("nmnist_1100", "QSD-Transformer"): 100,
}

# Where a smaller rate than the family's was no worse on validation.
LOWER = {("nmnist_1100", "QSD-Transformer"): 1.5e-3, ("cifar10dvs_simulated", "Meta-SpikeFormer"): 1e-3}

# Where Lamb, with this learning rate, was better on validation than AdamW.
LAMB = {
    ("cifar10dvs_simulated", "Spikformer"): 1e-2,
    ("cifar10dvs_simulated", "Spike-driven Transformer"): 1e-2,
    ("cifar10dvs_simulated", "Max-ResNet-18"): 1e-2,
    ("cifar10_jpeg", "Meta-SpikeFormer"): 8e-3,
    ("cifar10_jpeg", "Max-ResNet-18"): 1.4e-2,
    ("nmnist_1100", "Spike-driven Transformer"): 5e-3,
}

# Fewer steps than the recipe's for the two that cost most. QSD's neurons keep no state: a still picture takes one.
STEPS = {
    "cifar10_jpeg": {"QSD-Transformer": 1},
    "cifar10dvs_simulated": {"Meta-SpikeFormer": 4, "QSD-Transformer": 2},
    "nmnist_1100": {"QSD-Transformer": 3},
}

# What else was better on validation than the recipe. With --mix-until nothing is mixed in the last fifty epochs or so.
LOOP = "--on-device flip=0.5 shift=5 rotate=15 shear=0.15 zoom=0.15 erase=0.25 loop=4"
CHANGES = {
    ("cifar10dvs_simulated", "Spikformer"): "--loss tet --mixup 0.4 --cutmix 1 --mix-probability 0.8 --mix-until 170",
    ("cifar10dvs_simulated", "Spike-driven Transformer"): (
        "--loss tet --mixup 0.4 --cutmix 1 --mix-probability 0.8 --mix-until 185"
    ),
    ("cifar10dvs_simulated", "Max-Former"): LOOP,
    ("cifar10dvs_simulated", "Max-ResNet-18"): f"--set dims=(32,64,128,256) {LOOP}",
}

SETS = {
    "cifar10_jpeg": ("train_images.py", "images"),
    "cifar10dvs_simulated": ("train_cifar10dvs.py", "events"),
    "nmnist_1100": ("train_cifar10dvs.py", "events"),
}  # script, folder of the recipe


def arguments(family: str, data: str, tiny: bool) -> list[str]:
    """Options of a training, but for epochs, seed and folder."""
    model = MODELS[family]
    options = ["--config", str(EXAMPLES / "configs" / SETS[data][1] / f"{data}.yaml")]
    options += ["--model", model.name]
    lr = LAMB.get((data, family), LOWER.get((data, family), model.lr))
    options += ["--optimizer", "lamb" if (data, family) in LAMB else "adamw", "--lr", str(lr)]
    if tiny:
        options += ["--size", "16"]
    if family in STEPS.get(data, {}):
        options += ["--steps", str(STEPS[data][family])]
    keywords = (model.tiny if tiny else model.keywords).split()
    options += ["--set", *keywords] if keywords else []
    return options if tiny else options + CHANGES.get((data, family), "").split()


@dataclass(frozen=True)
class Job:
    """A training."""

    data: str
    family: str
    seed: int
    epochs: int

    @property
    def key(self) -> str:
        """Its name in results.json."""
        return f"{self.data}/{self.family}/seed {self.seed}"


def train(job: Job, options: argparse.Namespace, gpu: str) -> dict[str, Any]:
    """Run a training and read what it left."""
    folder = options.out / job.key.replace(" ", "_").replace("/", "-")
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, str(EXAMPLES / SETS[job.data][0]), *arguments(job.family, job.data, options.tiny)]
    command += ["--root", str(options.roots[job.data]), "--folder", str(folder), "--seed", str(job.seed)]
    command += ["--epochs", str(job.epochs), "--warmup", str(max(1, job.epochs // 12)), "--checkpoint-seconds", "3600"]
    command += ["--cpu", "--precision", "no"] if options.cpu else []  # bfloat16 is slow there
    threads = str(max((os.cpu_count() or 1) // options.workers, 1))
    python = os.pathsep.join(filter(None, [str(EXAMPLES.parent), os.environ.get("PYTHONPATH")]))
    around = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": threads, "PYTHONPATH": python}
    began = time.monotonic()
    done = subprocess.run(command, env=around, capture_output=True, text=True)
    wall = time.monotonic() - began
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1], "wall": wall}
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    seconds = [float(row["seconds"]) for row in rows]
    result = json.loads((folder / "result.json").read_text())
    kept = ("accuracies", "epoch", "epochs", "parameters", "firing_rate", "device", "command")
    return {key: result[key] for key in kept} | {
        "validation_loss": float(rows[result["epoch"] - 1]["validation_loss"]),
        "seconds": sum(seconds),
        "finite": all(float(row["train_loss"]) < 1e4 for row in rows),
        "wall": wall,
    }


class Shares:
    """Who runs on which GPU, and what part of its time each has had."""

    def __init__(self) -> None:
        self.lock, self.at = Lock(), time.monotonic()
        self.running: dict[str, dict[Job, float]] = {}

    def _advance(self) -> None:
        now = time.monotonic()
        for jobs in self.running.values():
            for job in jobs:
                jobs[job] += (now - self.at) / len(jobs)
        self.at = now

    def begin(self, job: Job, gpu: str) -> None:
        """The job starts."""
        with self.lock:
            self._advance()
            self.running.setdefault(gpu, {})[job] = 0.0

    def end(self, job: Job, gpu: str) -> float:
        """The job ends; the seconds that were its own."""
        with self.lock:
            self._advance()
            return self.running[gpu].pop(job)


def run_all(
    jobs: Sequence[Job], more: Callable[[], list[Job]], options: argparse.Namespace, results: dict[str, Any]
) -> None:
    """Run what is not there yet, several at once; write results.json after each, and ask ``more`` what came up."""
    gpus: Queue[str] = Queue()
    shares = Shares()
    for i in range(options.workers):
        gpus.put(str(i % max(torch.cuda.device_count(), 1)))

    def one(job: Job) -> tuple[Job, dict[str, Any]]:
        gpu = gpus.get()
        shares.begin(job, gpu)
        try:
            result = train(job, options, gpu)
        finally:
            share = shares.end(job, gpu)
            gpus.put(gpu)
        return job, result | {"gpu_seconds": share}

    begun: set[str] = set()
    running: set[Future[tuple[Job, dict[str, Any]]]] = set()
    with ThreadPoolExecutor(options.workers) as pool:
        while True:
            for job in [*jobs, *more()]:
                if job.key not in begun and (job.key not in results or "error" in results[job.key]):
                    begun.add(job.key)
                    running.add(pool.submit(one, job))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                keep(*future.result(), options, results)


def keep(job: Job, result: dict[str, Any], options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Add a result to results.json and print it."""
    results[job.key] = result
    aside = options.out / "results.writing"
    aside.write_text(json.dumps(results, indent=1))
    os.replace(aside, options.out / "results.json")
    if "accuracies" in result:
        shares = ", ".join(f"{name} {100 * value:.1f} %" for name, value in result["accuracies"].items())
        text = f"{shares}, {result['epochs']} epochs in {result['gpu_seconds']:.0f} s of a GPU"
    else:
        text = result["error"]
    print(f"{job.key}: {text}", flush=True)


def best_on_validation(runs: dict[str, dict[str, Any]]) -> str | None:
    """The name with the highest validation accuracy, of several with the lowest loss: as scripts choose an epoch."""

    def score(name: str) -> tuple[float, float]:
        return runs[name]["accuracies"]["validation"], -runs[name].get("validation_loss", math.inf)

    return max(runs, key=score, default=None)


def prepared(data: Path, out: Path) -> dict[str, Path]:
    """Folder of each set; the archives of cifar10_jpeg are unpacked under ``out``."""
    pictures = out / "cifar10_jpeg"
    for part in ("train", "test"):
        if (data / "cifar10_jpeg" / part).is_dir():
            pictures = data / "cifar10_jpeg"
        elif not (pictures / part).is_dir():
            with tarfile.open(data / "cifar10_jpeg" / f"{part}.tar.gz") as archive:
                archive.extractall(pictures, filter="data")
    return {name: pictures if name == "cifar10_jpeg" else data / name for name in SETS}


def table(results: dict[str, Any], sets: Sequence[str], families: Sequence[str]) -> str:
    """A table in Markdown."""
    lines = ["| set | model | parameters | epochs | GPU s | spikes a step and neuron | validation % | test % |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for data in sets:
        for family in families:
            runs = [results.get(f"{data}/{family}/seed {seed}", {}) for seed in range(3)]
            runs = [run for run in runs if "accuracies" in run]
            if not runs:
                lines.append(f"| {data} | {family} | {results.get(f'{data}/{family}/seed 0', {}).get('error', '-')} |")
                continue
            test = [100 * run["accuracies"]["test"] for run in runs]
            shown = f"{statistics.mean(test):.1f}" + (f" ({', '.join(f'{t:.1f}' for t in test)})" if test[1:] else "")
            shown += "" if min(test) >= LINEAR[data] else f", below a linear read-out ({LINEAR[data]})"
            shown += "" if all(run["finite"] for run in runs) else ", diverged"
            valid = statistics.mean(100 * run["accuracies"]["validation"] for run in runs)
            run = runs[0]
            lines.append(
                f"| {data} | {family} | {run['parameters']:,} | {run['epochs']} | {run['gpu_seconds']:.0f} | "
                f"{run['firing_rate']:.3f} | {valid:.1f} | {shown} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Time, train, repeat the best, print the table; exit status 1 if a training failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--together", type=int, default=6, help="trainings at once on each GPU")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--tiny", action="store_true", help="networks that train anywhere, for a test of the script")
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.workers = options.together * max(torch.cuda.device_count(), 1)
    options.roots = prepared(options.data, options.out)
    path = options.out / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    epochs = {
        (data, family): 3 if options.tiny else FEWER.get((data, family), EPOCHS[data])
        for data in options.sets
        for family in options.models
    }

    def again() -> list[Job]:
        """Seeds 1 and 2 of the best in each set whose models are all done."""
        found = []
        for data in options.sets:
            done = {family: results.get(f"{data}/{family}/seed 0") for family in options.models}
            if all(done.values()):
                best = best_on_validation({f: run for f, run in done.items() if run and "accuracies" in run})
                found += [Job(data, best, seed, epochs[data, best]) for seed in (1, 2) if best]
        return found

    run_all([Job(data, family, 0, n) for (data, family), n in epochs.items()], again, options, results)
    print(table(results, options.sets, options.models))
    return int(any("error" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
