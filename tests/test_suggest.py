"""An unknown keyword is refused by name, whoever is asked."""

import copy
import inspect
import pickle

import pytest

import snnkit
from snnkit import nn
from snnkit.data import Bin
from snnkit.models import DelaySNN


@pytest.mark.parametrize(
    ("build", "wrong", "near", "takes"),
    [
        (DelaySNN, "hiden", "hidden", "in_features, hidden, num_classes"),
        (nn.SynapseFilter, "taau", "tau", "tau, learn."),
        (nn.TimeDropout, "pp", "p", "p."),
        (nn.BatchNorm, "num_feature", "num_features", "num_features, eps"),
        (nn.Membrane, "neuronn", "neuron", "neuron, readout."),
        (nn.LastStep, "step", "", "nothing."),
        (nn.SumOfSoftmax, "dim", "", "nothing."),
        (nn.MeanOverTime, "dim", "", "nothing."),
        (Bin, "windw_us", "window_us", "channels, window_us"),
        (nn.AdLIF, "random_strt", "random_start", "alpha, beta"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_an_unknown_keyword_is_refused_with_the_nearest_and_all_there_are(build, wrong, near, takes):
    near = rf" Near: {near}\b.*" if near else ""
    with pytest.raises(TypeError, match=rf"^{build.__name__} has no '{wrong}'\.{near} It takes: {takes}"):
        build(**{wrong: 3})


def test_the_keywords_of_a_file_are_looked_at_too(tmp_path):
    path = tmp_path / "model.safetensors"
    snnkit.save_checkpoint(DelaySNN(in_features=6, hidden=(8,), num_classes=3, max_delay=5), path)
    with pytest.raises(TypeError, match=r"DelaySNN has no 'hiden'\. Near: hidden"):
        snnkit.load_model(path, hiden=(3,))


def test_a_class_that_takes_any_keyword_is_left_alone():
    class Open(nn.TimeDropout):
        def __init__(self, **more):
            super().__init__()
            self.more = more

    assert Open(anything=3).more == {"anything": 3}


def test_what_looks_at_keywords_shows_its_own_arguments_and_can_be_copied():
    assert list(inspect.signature(nn.SynapseFilter).parameters) == ["tau", "learn"]
    assert list(inspect.signature(Bin).parameters)[:2] == ["channels", "window_us"]
    assert list(inspect.signature(nn.TimeDropout().forward).parameters) == ["x"]
    assert list(inspect.signature(Bin()).parameters) == list(inspect.signature(Bin().__call__).parameters)
    for thing in (nn.SynapseFilter(3.0), nn.LastStep(), nn.BatchNorm(num_features=3), Bin(4, window_us=5)):
        assert repr(copy.deepcopy(thing)) == repr(pickle.loads(pickle.dumps(thing))) == repr(thing)
