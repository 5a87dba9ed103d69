"""What a temporal run tells: silent neurons and what wakes them, speakers if they are known, a picture."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _report import Score, draw_report, result_of, say_firing, steps_of
from _report_panels import are_counts, draw_delays
from _temporal_options import to_wake
from matplotlib import pyplot
from torch import nn
from train_shd import Settings


@pytest.mark.parametrize("without", ["train", "valid", "test"])
def test_a_part_that_knows_no_speakers_leaves_the_result_without_accuracies_by_speaker(without, tmp_path):
    class Part(list):
        speakers = np.array([1, 2])

    data = SimpleNamespace(train=Part([0, 0]), valid=Part([0, 0]), test=Part([0, 0]))
    getattr(data, without).speakers = None
    log = SimpleNamespace(history=lambda: {"seconds": [1.0]})
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=1)
    run = SimpleNamespace(best={"accuracy": 0.5, "epoch": 1}, log=log, accelerator=accelerator, folder=tmp_path)
    score = Score(np.array([True, False]), 1.0, {})
    result = result_of(run, SimpleNamespace(epochs=1, seed=0), nn.Linear(1, 1), data, {"test": score})
    assert result["accuracies"] == {"validation": 0.5, "test": 0.5}


def test_silent_neurons_are_counted_and_the_remedy_is_said_once():
    lines = []
    one, none = torch.full((256,), 0.5), torch.zeros(3)
    one[7] = 0
    say_firing(SimpleNamespace(say=lines.append), {"a": one, "b": none, "c": none, "d": torch.ones(1, 2)}, "Try this.")
    assert lines[1:] == [
        "silent: 1 of 256 neurons of a never fired.",
        "silent: all 3 neurons of b never fired.",
        "silent: all 3 neurons of c never fired.",
        "Nothing behind a silent layer can learn. Try this.",
        "saturated: all 2 neurons of d fired at every step.",
    ]
    lines.clear()
    say_firing(SimpleNamespace(say=lines.append), {"a": one}, "Try this.")
    assert lines[1:] == ["silent: 1 of 256 neurons of a never fired."]


@pytest.mark.parametrize(
    ("dataset", "model", "words"),
    [
        ("digits", "", ["--v-threshold", "fewer --steps"]),
        ("shd", "delay_snn_shd", ["--v-threshold", "larger --merge or --step-ms"]),
        ("gsc", "", ["--v-threshold"]),
        ("shd", "se_adlif_shd_1l", ["larger --merge or --step-ms"]),
        ("digits", "se_adlif_shd_1l", ["--config temporal/shd_se_adlif_1l.yaml", "--model delay_snn_digits"]),
        ("digits", "delay_snn_plus", ["delay_snn_plus has no option", "--model delay_snn_digits"]),
        ("psmnist", "", ["--lr"]),
    ],
)
def test_the_remedy_for_silent_neurons_names_options_that_the_run_has(dataset, model, words):
    text = to_wake(Settings(dataset=dataset, model=model))
    assert all(word in text for word in words)
    for option in ("--v-threshold", "--steps", "--merge"):
        assert (option in text) == any(option in word for word in words)


@pytest.fixture
def panels(monkeypatch, tmp_path):
    """Draw a report and give its panels by title."""

    def drawn(x, delays):
        part = {f"{part}_{quantity}": [0.5] for part in ("train", "validation") for quantity in ("loss", "accuracy")}
        spikes = {"layer 1": np.eye(7)[:, :3]}
        monkeypatch.setattr(pyplot, "close", lambda figure: None)
        draw_report(tmp_path / "report.png", "run", {"epoch": [1], **part}, 1, x, spikes, delays, "steps")
        return {axis.get_title(): axis for axis in pyplot.gcf().axes}

    yield drawn
    monkeypatch.undo()
    pyplot.close("all")


def test_spikes_are_drawn_with_their_input_and_a_network_without_delays_has_no_panel_for_them(panels):
    drawn = panels(np.eye(5), {})
    assert set(drawn) == {"Learning: loss", "Learning: accuracy", "Spikes of one test sample"}
    names = [label.get_text() for label in drawn["Spikes of one test sample"].get_yticklabels()]
    assert names == ["input\n5 units", "layer 1\n3 units"]


@pytest.mark.parametrize("channels", [1, 4])
def test_an_input_of_real_numbers_is_an_image_or_a_curve_over_the_time_of_the_spikes(panels, channels):
    x = np.linspace(-2, 2, 5 * channels).reshape(5, channels)
    drawn = panels(x, {"layer 1": np.arange(4)})
    assert {"Input of one test sample", "Spikes of one test sample", "Delays"} <= set(drawn)
    above, below = drawn["Input of one test sample"], drawn["Spikes of one test sample"]
    assert above.get_xlim() == below.get_xlim() == (-0.5, 6.5)
    if channels == 1:
        assert (above.lines[0].get_ydata() == x[:, 0]).all()
    else:
        assert (above.images[0].get_array() == x.T).all()
    assert [label.get_text() for label in below.get_yticklabels()] == ["layer 1\n3 units"]


def test_recurrent_delays_can_be_told_from_those_of_the_same_layers_synapses(panels):
    axis = pyplot.figure().add_subplot()
    draw_delays(axis, {"layer 2, feed-forward": np.arange(4), "layer 2, recurrent": np.arange(9)}, "steps")
    one, other = axis.patches
    assert one.get_edgecolor() == other.get_edgecolor() and one.get_linestyle() != other.get_linestyle()
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["layer 2, feed-forward: mean 1.5", "layer 2, recurrent: mean 4.0"]


def test_a_step_has_its_length_where_the_data_set_has_one():
    assert steps_of(Settings(dataset="shd", step_ms=4.0)) == "steps of 4 ms"
    assert steps_of(Settings(dataset="gsc")) == "steps of 10 ms" and steps_of(Settings()) == "steps"
    assert are_counts(np.array([0, 3.0])) and not are_counts(np.array([0, 0.5])) and not are_counts(-np.ones(1))
