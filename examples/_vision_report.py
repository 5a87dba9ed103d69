"""The report of a vision model: learning curves, confusion matrix, firing rates by layer, and examples as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _checkpoint import write_file
from _report import Score, draw_curves, result_of, say_result
from torch import Tensor, nn

from snnkit.nn import saturated, silent

MANY = 20  # classes from which a matrix has no names
NAMED = 30  # layers that have room for their names at a size that can be read
SHOWN = 4  # frames of a clip


class Example(NamedTuple):
    """A test sample as the model sees it, ``[T, C, H, W]``, what it is and what the model took it for."""

    clip: np.ndarray
    label: str
    answer: str


def write_vision_report(run: Any, settings: Any, model: Any, data: Any, test: Score, **more: Any) -> None:
    """Write ``result.json`` and ``report.png`` and print the accuracies; the last line is the test accuracy.

    In ``result.json`` ``firing_rates`` are the layers' spikes a step and neuron, ``firing_rate`` is that of all
    neurons: large layers weigh more.

    Args:
        run, settings, model, data: as in ``write_report``.
        test: score of the whole test set.
        more: further entries of ``result.json``.
    """
    if not run.main:
        return
    classes = data.test.classes
    table = confusion(data.test.labels, test.answers, len(classes))
    if len(classes) <= 128:
        more |= {"classes": list(classes), "confusion": table.tolist()}
    if test.firing:
        more["firing_rate"] = mean_rate(test.firing)
    result = result_of(run, settings, model, data, {"test": test}, speech=False, **more)
    run.write_result(result)
    which = examples_of(data.test, test, 3 if len(data.test[0][0]) > 1 else 12, settings)
    note = of_training(settings, data.train)
    write_file(run.folder / "report.png", lambda aside: draw(aside, run, result, table, classes, which, note))
    say_result(run, result)


def of_training(settings: Any, train: Any) -> str:
    """What the curves of training are measured on, where that is not what validation is measured on."""
    differences = [
        text
        for text, there in (
            ("augmented", train.draws or settings.on_device),
            ("mixed", settings.mix_probability and (settings.mixup or settings.cutmix)),
            ("labels smoothed", settings.smoothing),
            ("TET", settings.loss == "tet"),
        )
        if there
    ]
    return f"train: {', '.join(differences)}" if differences else ""


def mean_rate(firing: Mapping[str, Tensor]) -> float:
    """Spikes a step and neuron of all neurons together."""
    sizes = np.array([rate.numel() for rate in firing.values()])
    means = np.array([float(rate.mean()) for rate in firing.values()])
    return float((sizes * means).sum() / sizes.sum())


def say_firing(run: Any, firing: Mapping[str, Tensor], updates: int) -> None:
    """Print how much the layers fire, and name those in which no neuron did, or all did all the time.

    ``updates``: training steps so far. Norms have momentum 0.1, so their running statistics, with which the firing is
    measured, hold 0.9^updates of what they began with.
    """
    rates = {name: float(rate.mean()) for name, rate in firing.items()}
    if not rates:
        return
    low, high = (pick(rates, key=rates.__getitem__) for pick in (min, max))
    run.say(
        f"spikes a step and neuron: mean of all neurons {mean_rate(firing):.3f}, of {len(rates)} layers lowest {low} "
        f"{rates[low]:.3f}, highest {high} {rates[high]:.3f}"
    )
    nothing = [name for name, share in silent(firing).items() if share == 1]
    always = [name for name, share in saturated(firing).items() if share == 1]
    if nothing:
        begun, count = 0.9**updates, f"{updates} step{'s' if updates > 1 else ''}"
        why = (
            f"After {count} the norms' running statistics, which validation uses and training does not, are still "
            f"{100 * begun:.0f} % those of the start: more epochs or a smaller --batch let them settle."
            if begun > 0.05
            else "Should that last, nothing behind it can learn."
        )
        run.say(f"silent: no neuron fired in {named(nothing)}. {why}")
    if always:
        run.say(f"saturated: every neuron fired at every step in {', '.join(always)}.")


def say_without_gradient(run: Any, model: nn.Module) -> None:
    """Name the layers whose parameters got no gradient, or zero, in the step that was just computed."""
    names = [
        name.removesuffix(".weight")
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    if names:
        run.say(
            f"no gradient in the first step: {named(names)}. Should that last, they do not learn; where few neurons "
            "fire yet it is usual."
        )


def named(names: Sequence[str]) -> str:
    """The first eight names, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def confusion(labels: np.ndarray, answers: np.ndarray | None, classes: int) -> np.ndarray:
    """Number of samples ``[class, answer]``."""
    return np.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes)


def examples_of(dataset: Any, score: Score, count: int, settings: Any) -> list[Example]:
    """Test samples evenly over the set; pictures as they were before ``--mean`` and ``--std``."""
    std, mean = (
        np.reshape(getattr(settings, name, plain), (-1, 1, 1)).astype(np.float32)
        for name, plain in (("std", 1.0), ("mean", 0.0))
    )
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
    names = dataset.classes
    return [
        Example(np.asarray(dataset[i][0], np.float32) * std + mean, names[dataset.labels[i]], names[score.answers[i]])
        for i in chosen
    ]


def draw(
    path: Path, run: Any, result: Mapping[str, Any], table: np.ndarray, classes: Sequence[str],
    examples: list[Example], note: str,
) -> None:  # fmt: skip
    """Write a PNG of 1200 x 900 pixels; ``note`` says what the curves of training are measured on."""
    import matplotlib

    matplotlib.use("agg")  # no window, no display needed
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(12, 9), dpi=100, layout="constrained")
    figure.suptitle(f"{run.folder.name}: test accuracy {100 * result['accuracies']['test']:.1f} %")
    left, right = figure.subfigures(1, 2)
    upper, lower = left.subfigures(2, 1)
    loss, accuracy = upper.subplots(1, 2)
    history = run.log.history()
    draw_curves(loss, history, result["epoch"], "loss", 1, "cross entropy")
    draw_curves(accuracy, history, result["epoch"], "accuracy", 100, "accuracy (%)")
    if note:
        loss.set_title(f"Learning: loss\n({note})", fontsize=9)
        accuracy.set_title("Learning: accuracy", fontsize=9)
    draw_firing(lower.subplots(), result["firing_rates"], result.get("firing_rate"))
    upper, lower = right.subfigures(2, 1)
    draw_confusion(upper.subplots(), table, classes)
    draw_examples(lower, examples)
    figure.savefig(path, format="png")
    pyplot.close(figure)


def draw_firing(axis: Any, rates: Mapping[str, float], mean: float | None = None) -> None:
    """A bar a layer, the first one on top; of more than ``NAMED`` layers one in two, three, ... has its name.

    ``mean``: of all neurons, for the title.
    """
    names = list(rates)
    every = -(-len(names) // NAMED) or 1
    axis.barh(range(len(names)), list(rates.values()), color="tab:blue")
    axis.set_yticks(range(0, len(names), every), names[::every], fontsize=7)
    axis.invert_yaxis()
    title = "Firing by layer, test set" + (f" (1 of {every} is named)" if every > 1 else "")
    title += f"; all neurons {mean:.3g}" if mean is not None else ""
    axis.set(title=title, xlabel="spikes a step and neuron", ylim=(len(names) - 0.5, -0.5))
    axis.locator_params(axis="x", nbins=4)
    if not any(rates.values()):
        axis.set_xlim(0, 1)
        axis.text(0.5, 0.5, "no spikes", ha="center", va="center", transform=axis.transAxes)


def draw_confusion(axis: Any, table: np.ndarray, classes: Sequence[str]) -> None:
    """Shares of each class's samples; numbers of samples where there is room."""
    share = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axis.figure.colorbar(image, ax=axis, label="share of the class (%)")
    axis.set(title="Answers on the test set (numbers: samples)", xlabel="answer", ylabel="class")
    if len(classes) > MANY:
        axis.set_title("Answers on the test set")
        return
    long = len(classes) * (max(map(len, classes)) + 1) > 36  # letters that have room side by side
    axis.set_xticks(range(len(classes)), classes, rotation=90 if long else 0, fontsize=8)
    axis.set_yticks(range(len(classes)), classes, fontsize=8)
    for (i, j), number in np.ndenumerate(table):
        if number:
            colour = "white" if share[i, j] > 50 else "black"
            axis.text(j, i, str(number), ha="center", va="center", fontsize=7, color=colour)


def draw_examples(figure: Any, examples: Sequence[Example]) -> None:
    """Pictures in a grid, or a clip a row with some of its frames; the title says class and answer."""
    steps = len(examples[0].clip)
    if steps == 1:
        figure.suptitle("Test pictures: class (answer, where it is another)", fontsize=11)
        axes = figure.subplots(3, 4, squeeze=False).ravel()
        shown = [(caption(example), example.clip[0]) for example in examples]
    else:
        figure.suptitle("Test clips, red: brighter, blue: darker; class (answer, where it is another)", fontsize=11)
        frames = np.linspace(0, steps - 1, min(SHOWN, steps)).astype(int)
        axes = figure.subplots(len(examples), len(frames), squeeze=False).ravel()
        shown = [
            (f"{'' if t else caption(example) + ', '}frame {t + 1} of {steps}", example.clip[t])
            for example in examples
            for t in frames
        ]
    for axis in axes:
        axis.axis("off")
    for axis, (text, picture) in zip(axes, shown, strict=False):
        axis.set_title(text, fontsize=7)
        axis.imshow(as_picture(picture), interpolation="nearest")


def caption(example: Example) -> str:
    """Class, and the answer in brackets if it is wrong."""
    return example.label if example.label == example.answer else f"{example.label} ({example.answer})"


def as_picture(frame: np.ndarray) -> np.ndarray:
    """RGB ``[H, W, 3]`` in 0..1 of pixels ``[3, H, W]``, or of events ``[2, H, W]`` (``[1, H, W]`` with a sign)."""
    if len(frame) == 1:
        frame = np.concatenate([np.maximum(-frame, 0), np.maximum(frame, 0)])
    if len(frame) == 2:
        darker, brighter = frame / max(float(frame.max()), 1e-9)
        return np.clip(np.stack([1 - darker, 1 - darker - brighter, 1 - brighter], -1), 0, 1)
    return np.clip(frame.transpose(1, 2, 0), 0, 1)
