"""Six vision models on three small sets, through examples/train_images.py and train_cifar10dvs.py.

    python benchmarks/vision_on_small_sets.py --data DIR --out runs/small_sets         on a GPU, some ten minutes
    python benchmarks/vision_on_small_sets.py --data DIR --out runs/try --tiny --cpu   whether all of it runs

DIR holds ``nmnist_1100``, ``cifar10dvs_simulated`` and ``cifar10_jpeg``. 18 trainings, of about a minute of an H200
each, then seeds 1 and 2 of the model that is best on validation in each set. On the simulated recordings each begins
with the weights of a training on pictures as events, which counts in its minute. ``results.json`` is written after
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
from _small_sets import EPOCHS, EXAMPLES, FEWER, LINEAR, MODELS, PICTURES, PRETRAINED, SETS, arguments


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


def epochs_on_pictures(job: Job, tiny: bool) -> int:
    """How long the network of a training trains on pictures first."""
    return 0 if job.data != PRETRAINED else 3 if tiny else PICTURES[job.family]


def commands(job: Job, options: argparse.Namespace, folder: Path) -> list[list[str]]:
    """The command of a training on the set, after that of one on pictures, where there is one."""

    def command(into: Path, root: Path, epochs: int, pictures: bool) -> list[str]:
        shutil.rmtree(into, ignore_errors=True)
        script = [sys.executable, str(EXAMPLES / SETS[job.data][0])]
        script += arguments(job.family, job.data, options.tiny, pictures)
        script += ["--root", str(root), "--folder", str(into), "--seed", str(job.seed), "--epochs", str(epochs)]
        script += ["--warmup", str(max(1, epochs // 12)), "--checkpoint-seconds", "3600"]
        return script + (["--cpu", "--precision", "no"] if options.cpu else [])  # bfloat16 is slow there

    then = command(folder, options.roots[job.data], job.epochs, pictures=False)
    if not epochs_on_pictures(job, options.tiny):
        return [then]
    before, pictures = folder.with_name(f"{folder.name}-pictures"), options.roots["cifar10_jpeg"] / "train"
    first = command(before, pictures, epochs_on_pictures(job, options.tiny), pictures=True)
    return [first, [*then, "--init", str(before / "best" / "model.safetensors")]]


def train(job: Job, options: argparse.Namespace, gpu: str) -> dict[str, Any]:
    """Run a training and read what it left."""
    folder = options.out / job.key.replace(" ", "_").replace("/", "-")
    threads = str(max((os.cpu_count() or 1) // options.workers, 1))
    python = os.pathsep.join(filter(None, [str(EXAMPLES.parent), os.environ.get("PYTHONPATH")]))
    around = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": threads, "PYTHONPATH": python}
    began = time.monotonic()
    for command in commands(job, options, folder):
        done = subprocess.run(command, env=around, capture_output=True, text=True)
        if done.returncode:
            return {"error": (done.stderr.strip().splitlines() or ["?"])[-1], "wall": time.monotonic() - began}
    wall = time.monotonic() - began
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    seconds = [float(row["seconds"]) for row in rows]
    result = json.loads((folder / "result.json").read_text())
    kept = ("accuracies", "epoch", "epochs", "parameters", "firing_rate", "device", "command")
    return {key: result[key] for key in kept} | {
        "before": epochs_on_pictures(job, options.tiny),
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
            before = f"{run['before']} + " if run.get("before") else ""
            lines.append(
                f"| {data} | {family} | {run['parameters']:,} | {before}{run['epochs']} | {run['gpu_seconds']:.0f} | "
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
