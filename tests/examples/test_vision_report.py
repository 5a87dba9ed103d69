"""The picture of a vision model's run: names that can be read, curves that can be seen."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _report import Score, draw_curves, result_of
from _vision_report import draw_confusion, draw_firing, mean_rate, of_training, say_firing, say_without_gradient
from matplotlib import pyplot
from torch import nn


@pytest.fixture
def axis():
    figure, axis = pyplot.subplots(figsize=(6, 4.5), dpi=100, layout="constrained")
    yield axis
    pyplot.close(figure)


@pytest.mark.parametrize("layers", [1, 12, 30, 31, 62, 130])
def test_names_of_layers_are_large_enough_to_be_read_and_do_not_touch(axis, layers):
    rates = {f"stages.0.{i}.attention.neuron_qkv": 0.1 + i / 1000 for i in range(layers)}
    draw_firing(axis, rates)
    axis.figure.canvas.draw()
    labels = [label for label in axis.get_yticklabels() if label.get_text()]
    assert all(label.get_fontsize() >= 6 for label in labels) and len(labels) >= min(layers, 15)
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 2 for low, high in zip(boxes, boxes[1:], strict=False))
    places = {label.get_text(): place for label, place in zip(axis.get_yticklabels(), axis.get_yticks(), strict=True)}
    assert all(list(rates)[int(place)] == name for name, place in places.items())


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_single_epoch_is_a_point_and_several_are_a_line(axis, epochs):
    history = {"epoch": list(range(1, epochs + 1)), "train_loss": [2.0] * epochs, "validation_loss": [1.0] * epochs}
    draw_curves(axis, history, 1, "loss", 1, "cross entropy")
    markers = [line.get_marker() for line in axis.get_lines()[:2]]
    axis.figure.canvas.draw()
    assert all(float(place).is_integer() for place in axis.get_xticks())
    assert markers == (["o", "o"] if epochs == 1 else ["None", "None"])


def test_layers_that_no_gradient_reaches_are_named():
    def said(model, loss):
        loss.backward()
        lines = []
        say_without_gradient(SimpleNamespace(say=lines.append), model)
        return lines

    model = nn.ModuleDict({"one": nn.Linear(3, 2), "two": nn.Linear(2, 4), "apart": nn.Linear(1, 1)})
    model["one"].bias.requires_grad_(False)
    middle = model["one"](torch.ones(5, 3))
    (line,) = said(model, model["two"](0 * middle).sum())
    assert line.startswith("no gradient in the first step: one, two, apart, apart.bias. ")
    whole = nn.Linear(3, 2)
    assert said(whole, whole(torch.ones(5, 3)).sum()) == []
    many = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(11))
    assert "7 and 3 more. Should" in said(many, torch.ones(1, requires_grad=True).sum())[0]


def test_persons_of_gestures_are_seen_and_those_of_words_are_heard(tmp_path):
    class Part(list):
        def __init__(self, *persons):
            super().__init__(persons)
            self.speakers = np.array(persons)

    data = SimpleNamespace(train=Part(1, 2), valid=Part(3), test=Part(3, 4))
    score = Score(np.array([True, False]), 1.0, {})
    log = SimpleNamespace(history=lambda: {"seconds": [1.0]})
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=1)
    run = SimpleNamespace(best={"accuracy": 0.5, "epoch": 1}, log=log, accelerator=accelerator, folder=tmp_path)

    def names(**options):
        result = result_of(run, SimpleNamespace(epochs=1, seed=0), nn.Linear(1, 1), data, {"test": score}, **options)
        return list(result["accuracies"].items())[2:]

    assert names() == [("test_known_speakers", 1.0), ("test_unheard_speakers", 0.0)]
    assert names(speech=False) == [("test_known_people", 1.0), ("test_unseen_people", 0.0)]


def test_rates_of_a_log_a_result_and_a_picture_are_of_all_neurons(axis):
    firing, lines = {"large": torch.full((3, 2, 5), 0.1), "small": torch.full((10,), 0.9)}, []
    say_firing(SimpleNamespace(say=lines.append), firing, 100)
    assert mean_rate(firing) == pytest.approx((30 * 0.1 + 10 * 0.9) / 40) and "all neurons 0.300" in lines[0]
    draw_firing(axis, {name: float(rate.mean()) for name, rate in firing.items()}, mean_rate(firing))
    assert axis.get_title().endswith("all neurons 0.3")


def test_silence_after_few_steps_is_laid_to_the_norms_and_after_many_it_is_a_warning():
    def said(updates):
        lines = []
        say_firing(SimpleNamespace(say=lines.append), {f"n{i}": torch.zeros(4) for i in range(11)}, updates)
        return lines[1]

    assert "n7 and 3 more. After 3 steps" in said(3) and "are still 73 % those of the start" in said(3)
    assert said(100).endswith("Should that last, nothing behind it can learn.")


@pytest.mark.parametrize("scale", [0.0, 1e-4, 0.2])
def test_ticks_of_firing_do_not_touch_and_silence_is_said(axis, scale):
    draw_firing(axis, {"a": scale, "stages.1.1.mixer.proj.neuron": 0.7 * scale})
    axis.figure.set_size_inches(4, 3)
    axis.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:], strict=False))
    assert axis.get_xlim()[0] == 0 and [text.get_text() for text in axis.texts] == ([] if scale else ["no spikes"])


def test_curves_of_training_say_how_they_differ_from_validation():
    plain = {"on_device": (), "mixup": 0.0, "cutmix": 0.0, "mix_probability": 1.0, "smoothing": 0.0, "loss": "mean"}
    assert of_training(SimpleNamespace(**plain), SimpleNamespace(draws=False)) == ""
    other = SimpleNamespace(**plain | {"smoothing": 0.1, "cutmix": 0.5})
    assert of_training(other, SimpleNamespace(draws=True)) == "train: augmented, mixed, labels smoothed"
    other.mix_probability = 0.0
    assert of_training(other, SimpleNamespace(draws=True)) == "train: augmented, labels smoothed"


def test_the_legend_lies_on_no_curve_and_short_class_names_lie_flat(axis):
    history = {"epoch": [1, 2], "train_loss": [2.0, 1.0], "validation_loss": [1.0, 2.0]}
    draw_curves(axis, history, 1, "loss", 1, "cross entropy")
    axis.figure.canvas.draw()
    assert axis.get_legend().get_window_extent().y1 < axis.get_window_extent().y0
    draw_confusion(axis, np.eye(2, dtype=int), ["left", "right"])
    assert {label.get_rotation() for label in axis.get_xticklabels()} == {0}
    draw_confusion(axis, np.eye(10, dtype=int), [f"aeroplane{i}" for i in range(10)])
    assert {label.get_rotation() for label in axis.get_xticklabels()} == {90}
