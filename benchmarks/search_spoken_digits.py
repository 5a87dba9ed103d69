"""Search for the best small spiking network on the spoken digits, and its final runs.

    python benchmarks/search_spoken_digits.py --root DIR --out runs/search --together 14 --budget 480
    python benchmarks/search_spoken_digits.py --root DIR --out runs/search --config base adlif --seeds 0 1 2
    python benchmarks/search_spoken_digits.py --root DIR --out runs/final --final adlif --seeds 0 1 2 3 4

The search trains every configuration of ``_spoken_configs.py`` four times, each time without one of the training
speakers, and scores on that one; the file of the test set is not opened. Several runs share the GPU. Each leaves a line
in ``search.jsonl``; what is there already is not done again; once ``--budget`` seconds are over no new run starts. The
table at the end has the mean over folds and seeds of each configuration, the hardest fold, and the difference from
``base`` on the same folds and seeds with its standard error.

``--final`` trains one configuration on all training samples, once a seed, and scores the network of the last epoch on
the test set, once, at the end: accuracies of all, of known and of unheard speakers, firing rates, parameters, seconds
in ``final.jsonl``, and the networks as safetensors.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))  # a process that is spawned starts elsewhere

from _spoken_configs import CONFIGS, FIRST
from _spoken_events import Spikes
from _spoken_training import Recipe, accuracy, correct, fold, rates, train, trained_parameters

import snnkit

FOLDS = 4
UNHEARD = (2, 4)  # lucas and theo
Run = dict[str, Any]


@cache
def spikes(root: Path, part: str, device: str, step_ms: float, merge: int) -> Spikes:
    """A part of the data, read once a process and kind of frames."""
    return Spikes(root, part, torch.device(device), step_ms, merge)


def prepare(threads: int) -> None:
    """What a process does before its first run."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")


def search_run(root: Path, device: str, name: str, recipe: Recipe, number: int, seed: int) -> Run:
    """Train without one speaker, and score on him."""
    data = spikes(root, "train", device, recipe.step_ms, recipe.merge)
    chosen, held_out, speaker = fold(data.speakers, number)
    done = train(recipe, data, chosen, seed)
    return {
        "config": name, "fold": number, "seed": seed, "speaker": speaker,
        "accuracy": accuracy(done.averaged, data, held_out), "accuracy_last": accuracy(done.last, data, held_out),
        "train_accuracy": accuracy(done.averaged, data, chosen), "train_loss": round(done.loss, 4),
        "rates": rates(done.averaged, data, held_out), "parameters": trained_parameters(done.last),
        "epochs": recipe.epochs, "seconds": round(done.seconds, 2),
    }  # fmt: skip


def final_run(root: Path, device: str, name: str, recipe: Recipe, seed: int, out: Path) -> Run:
    """Train on all training samples, then look at the test set, once."""
    data = spikes(root, "train", device, recipe.step_ms, recipe.merge)
    done = train(recipe, data, np.arange(len(data.labels)), seed)
    test = spikes(root, "test", device, recipe.step_ms, recipe.merge)
    unheard = np.isin(test.speakers, UNHEARD)
    parts = {"all": np.arange(len(test.labels)), "known": np.flatnonzero(~unheard), "unheard": np.flatnonzero(unheard)}
    path = out / f"{name}_seed{seed}.safetensors"
    right = correct(done.averaged, test, parts["all"])
    scores = {part: 100 * float(right[chosen].mean()) for part, chosen in parts.items()}
    snnkit.save_checkpoint(done.averaged.cpu(), path, config=name, seed=seed, **scores)
    return {
        "final": name, "seed": seed, **scores, "train_loss": round(done.loss, 4),
        "rates": rates(done.averaged.to(device), test, parts["all"]), "parameters": trained_parameters(done.last),
        "epochs": recipe.epochs, "seconds": round(done.seconds, 2), "bytes": path.stat().st_size,
    }  # fmt: skip


def in_processes(jobs: Sequence[tuple[Any, ...]], options: argparse.Namespace, log: Path) -> None:
    """Run the jobs, several at once, and write a line after each; none starts behind the budget."""
    ends = time.monotonic() + options.budget
    threads = max((os.cpu_count() or 1) // options.together, 1)
    pool = ProcessPoolExecutor(
        options.together, multiprocessing.get_context("spawn"), initializer=prepare, initargs=(threads,)
    )
    waiting = {pool.submit(_in_time, ends, *job) for job in jobs}
    with log.open("a", encoding="utf-8") as file:
        for future in as_completed(waiting):
            try:
                result = future.result()
            except Exception as problem:  # the other runs go on
                print(f"failed: {type(problem).__name__}: {str(problem).splitlines()[0]}", flush=True)
                continue
            if result is not None:
                file.write(json.dumps(result) + "\n")
                file.flush()
                shown = {k: v for k, v in result.items() if k not in ("rates", "parameters", "epochs")}
                print(*(f"{k}={v:.2f}" if isinstance(v, float) else f"{k}={v}" for k, v in shown.items()), flush=True)
    pool.shutdown()


def _in_time(ends: float, function: Any, *arguments: Any) -> Run | None:
    return function(*arguments) if time.monotonic() < ends else None  # the clock is the machine's, not the process's


def read(log: Path) -> list[Run]:
    """The lines of a file that may not be there."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def table(runs: Iterable[Run]) -> str:
    """Means of each configuration, the best first, and how sure its difference from ``base`` is."""
    by_name: dict[str, dict[tuple[int, int], float]] = defaultdict(dict)
    last: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        by_name[run["config"]][run["fold"], run["seed"]] = run["accuracy"]
        last[run["config"]].append(run["accuracy_last"])
    base, rows = by_name.get("base", {}), []
    for name, scores in by_name.items():
        folds = {f: statistics.mean(v for (g, _), v in scores.items() if g == f) for f, _ in scores}
        gains = [value - base[key] for key, value in scores.items() if key in base]
        error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        gain = f"{statistics.mean(gains):+.2f} +- {error:.2f}" if gains else ""
        mean = statistics.mean(scores.values())
        shown = " ".join(f"{folds[f]:.1f}" if f in folds else "-" for f in range(FOLDS))
        means = f"{mean:6.2f}  {statistics.mean(last[name]):6.2f}"
        rows.append((mean, f"{name:<22} {means}  {gain:<16} {shown}  {len(scores)}"))
    header = f"{'configuration':<22} {'mean':>6}  {'last':>6}  {'beside base':<16} folds  runs"
    return "\n".join([header, *(row for _, row in sorted(rows, reverse=True))])


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with shd_train.h5 and shd_test.h5")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--config", nargs="+", choices=list(CONFIGS), metavar="NAME", help="default: those of round 1")
    parser.add_argument("--all", action="store_true", help="all configurations, as far as the budget goes")
    parser.add_argument("--final", choices=list(CONFIGS), metavar="NAME", help="final runs, which look at the test set")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(FOLDS)), choices=range(FOLDS))
    parser.add_argument("--epochs", type=int, help="default: the configuration's")
    parser.add_argument("--together", type=int, default=1, help="runs at once")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no run starts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Search, or make the final runs."""
    options = parsed(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    where = (options.root.resolve(), options.device)
    recipes = {n: r if options.epochs is None else r.changed(epochs=options.epochs) for n, r in CONFIGS.items()}
    if options.final:
        name = options.final
        jobs = [(final_run, *where, name, recipes[name], seed, options.out) for seed in options.seeds]
        return in_processes(jobs, options, options.out / "final.jsonl")
    log = options.out / "search.jsonl"
    done = {(run["config"], run["fold"], run["seed"]) for run in read(log)}
    names = options.config or FIRST
    chunks = [names, [n for n in CONFIGS if n not in names]] if options.all else [names]
    # Fold by fold, so that configurations can be compared wherever the budget ends.
    wanted = [(n, f, s) for chunk in chunks for s in options.seeds for f in options.folds for n in chunk]
    jobs = [(search_run, *where, n, recipes[n], f, s) for n, f, s in wanted if (n, f, s) not in done]
    in_processes(jobs, options, log)
    print(table(read(log)))


if __name__ == "__main__":
    main()
