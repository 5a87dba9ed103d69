"""What a temporal run tells: silent neurons and what wakes them, and at its end what is known of speakers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _report import Score, result_of, say_firing
from _temporal_options import to_wake
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
