"""The picture of a vision model's run: names that can be read, curves that can be seen."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _report import Score, draw_curves, result_of
from _vision_report import draw_firing, say_without_gradient
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
