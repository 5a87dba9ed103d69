"""What a temporal run tells at its end: what is known of speakers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _report import Score, result_of
from torch import nn


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
