"""What a run tells at its end: the test accuracies, ``result.json``, and a picture of curves, spikes and delays."""

import platform
import statistics
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _checkpoint import write_file
from _command import starts
from _report_panels import are_counts, delays_of, draw_delays, draw_input, draw_spikes
from torch import Tensor, nn

import snnkit
from snnkit.data import LogMel
from snnkit.nn import saturated, silent


class Score(NamedTuple):
    """Answers on a data set: right or wrong for each sample, mean cross entropy, each neuron's rate by layer.

    ``answers`` are the classes that were answered, where a script keeps them.
    """

    right: np.ndarray
    loss: float
    firing: dict[str, Tensor]
    answers: np.ndarray | None = None

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())


def say_firing(run: Any, firing: Mapping[str, Tensor], remedy: str) -> None:
    """Print the rate of each layer, and name those with neurons that never fire or always do.

    ``remedy``: what would wake a layer that is silent as a whole, said once.
    """
    run.say(
        "spikes a step and neuron: " + ", ".join(f"{name} {float(rate.mean()):.3f}" for name, rate in firing.items())
    )
    for name, share in silent(firing).items():
        run.say(f"silent: {_count(share, firing[name])} neurons of {name} never fired.")
    if 1 in silent(firing).values():
        run.say(f"Nothing behind a silent layer can learn. {remedy}")
    for name, share in saturated(firing).items():
        run.say(f"saturated: {_count(share, firing[name])} neurons of {name} fired at every step.")


def _count(share: float, rate: Tensor) -> str:
    return f"all {rate.numel()}" if share == 1 else f"{round(share * rate.numel())} of {rate.numel()}"


def write_report(run: Any, settings: Any, model: nn.Module, data: Any, scores: Mapping[str, Score]) -> None:
    """Write ``result.json`` and ``report.png`` and print the accuracies; the last line is the test accuracy.

    Args:
        run: the run.
        settings: its settings.
        model: the chosen network.
        data: with parts ``train, valid, test``.
        scores: of the whole test set under ``test``, and of variants of the network under other names.
    """
    if not run.main:
        return
    best, test = run.best, scores["test"]
    result = result_of(run, settings, model, data, scores)
    run.write_result(result)
    one = data.test[0][0]
    spikes = spikes_of(model.discretize(), torch.as_tensor(one, dtype=torch.float32), run.accelerator.device)
    delays, step = delays_of(model), steps_of(settings)
    title = f"{run.folder.name}: test accuracy {100 * test.accuracy:.1f} %"
    history = run.log.history()
    write_file(
        run.folder / "report.png",
        lambda aside: draw_report(aside, title, history, best["epoch"], one, spikes, delays, step),
    )
    say_result(run, result)


def steps_of(settings: Any) -> str:
    """The unit of time of a run, with its length where the data set has one."""
    mel = LogMel()
    of = {"shd": f"{settings.step_ms:g} ms", "gsc": f"{1000 * mel.hop / mel.new_rate:g} ms", "psmnist": "a pixel"}
    return f"steps of {of[settings.dataset]}" if settings.dataset in of else "steps"


def result_of(
    run: Any,
    settings: Any,
    model: nn.Module,
    data: Any,
    scores: Mapping[str, Score],
    speech: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """What ``result.json`` holds; arguments as in ``write_report``, and ``more`` entries of the script.

    ``speech``: whether the persons of the samples, if they are known, are heard; else they are seen.
    """
    best, test = run.best, scores["test"]
    accuracies = {name: score.accuracy for name, score in scores.items()}
    heard, tested = (data.train.speakers, data.valid.speakers), data.test.speakers
    if tested is not None and all(part is not None for part in heard):  # a file may have none, whatever the others have
        known = np.isin(tested, np.concatenate(heard))
        of = ("known_speakers", "unheard_speakers") if speech else ("known_people", "unseen_people")
        parts = {f"test_{of[0]}": known, f"test_{of[1]}": ~known}
        accuracies |= {name: float(test.right[part].mean()) for name, part in parts.items() if part.any()}
    return {
        "accuracies": {"validation": best["accuracy"]} | accuracies,
        "epoch": best["epoch"],
        "epochs": settings.epochs,
        "seed": settings.seed,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "firing_rates": {name: float(rate.mean()) for name, rate in test.firing.items()},
        "seconds_per_epoch": statistics.median(run.log.history()["seconds"]),
        "samples": {"train": len(data.train), "validation": len(data.valid), "test": len(data.test)},
        "device": torch.cuda.get_device_name()
        if run.accelerator.device.type == "cuda"
        else f"{run.accelerator.device.type}, {torch.get_num_threads()} threads",
        "processes": run.accelerator.num_processes,
        **more,
        "versions": {"python": platform.python_version(), "snnkit": snnkit.__version__}
        | {name: version(name) for name in ("torch", "numpy", "timm", "accelerate")},
    } | starts(run.folder)


def say_result(run: Any, result: Mapping[str, Any]) -> None:
    """Print the accuracies and where everything is; the last line is the test accuracy."""
    for name, accuracy in result["accuracies"].items():
        if name != "test":
            run.say(f"{name.replace('_', ' ')}: {100 * accuracy:.1f} %")
    run.say(f"written: {run.folder}/result.json, report.png, best/model.safetensors")
    test = 100 * result["accuracies"]["test"]
    run.say(f"test accuracy {test:.1f} % (epoch {result['epoch']} of {result['epochs']}, chosen on validation)")


@torch.inference_mode()
def spikes_of(model: nn.Module, x: Tensor, device: torch.device) -> dict[str, np.ndarray]:
    """Spikes ``[T, units ...]`` of each layer of neurons for one sample ``[T, inputs]``."""
    spikes: dict[str, np.ndarray] = {}
    hooks = [
        block.neuron.register_forward_hook(
            lambda module, inputs, s, name=f"layer {i}": spikes.update({name: s[:, 0].float().cpu().numpy()})
        )
        for i, block in enumerate(model.blocks, start=1)
    ]
    model(x[:, None].to(device))
    for hook in hooks:
        hook.remove()
    return spikes


def draw_report(
    path: Path,
    title: str,
    history: Mapping[str, list[float]],
    best_epoch: int,
    x: np.ndarray,
    spikes: Mapping[str, np.ndarray],
    delays: Mapping[str, np.ndarray],
    step: str,
) -> None:
    """Write a PNG of 1200 x 900 pixels.

    Args:
        path: the file.
        title: one line over the picture.
        history: columns of ``metrics.csv``.
        best_epoch: the chosen epoch, counted from 1.
        x: one sample, ``[T, channels]``: spikes, or real numbers, which get a panel of their own.
        spikes: its spikes by layer, ``[T, units ...]``: any number of axes, a row a unit.
        delays: delays in steps by layer; empty for a network without, whose picture has no panel for them.
        step: the unit of time, e.g. ``steps of 10 ms``.
    """
    import matplotlib

    matplotlib.use("agg")  # no window, no display needed
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(12, 9), dpi=100, layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(2, 2)
    draw_curves(figure.add_subplot(grid[0, 0]), history, best_epoch, "loss", 1, "cross entropy")
    draw_curves(figure.add_subplot(grid[0, 1]), history, best_epoch, "accuracy", 100, "accuracy (%)")
    below = grid[1, 0] if delays else grid[1, :]
    if are_counts(x):
        draw_spikes(figure.add_subplot(below), {"input": x, **spikes}, step)
    else:
        halves = below.subgridspec(2, 1)
        draw_input(figure.add_subplot(halves[0]), x, max(len(s) for s in spikes.values()), step)
        draw_spikes(figure.add_subplot(halves[1]), spikes, step)
    if delays:
        draw_delays(figure.add_subplot(grid[1, 1]), delays, step)
    figure.savefig(path, format="png")
    pyplot.close(figure)


def draw_curves(
    axis: Any, history: Mapping[str, list[float]], best_epoch: int, quantity: str, factor: float, label: str
) -> None:
    """One quantity by epoch, in training and validation, and the chosen epoch."""
    for part in ("train", "validation"):
        values = factor * np.array(history[f"{part}_{quantity}"])
        axis.plot(history["epoch"], values, label=part, marker="o" if len(values) == 1 else None)  # a point is no line
    axis.axvline(best_epoch, color="grey", linestyle=":", label=f"chosen: epoch {best_epoch}")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if len(history["epoch"]) == 1:
        axis.set_xlim(best_epoch - 1, best_epoch + 1)
    axis.set(title=f"Learning: {quantity}", xlabel="epoch", ylabel=label)
    # Below the axis: in a short run the curves leave no corner free.
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3, fontsize=7, columnspacing=1, handlelength=1.5)

