"""Saving and loading: our files rebuild their model, official ones are translated, everything else is told apart."""

import argparse
import copy
import json
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import snnkit
from snnkit.equations.surrogates import Custom
from snnkit.equations.surrogates import Triangle as TriangleSurrogate
from snnkit.models import DelaySNN, FixedDelays, LearntDelays, _registry, checkpoint_info
from snnkit.models._checkpoints import MismatchError
from snnkit.models._objects import decode, encode
from snnkit.nn.delay import DelayLinear
from snnkit.nn.readout import MeanOverTime, SumOverTime
from snnkit.ops.delay import Triangle

TINY = dict(in_features=6, hidden=(8, 7), num_classes=3, max_delay=5)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DelaySNN(**TINY).eval()


@pytest.fixture
def x():
    return torch.randint(0, 3, (9, 2, 6)).float()


def official(model: DelaySNN) -> dict[str, torch.Tensor]:
    """The model's weights under the official names."""
    from snnkit.models._official import TABLES

    rows = TABLES["SNN-delays"].rows(model)
    return {
        next(a + name.removeprefix(b) for a, b in rows if name.startswith(b)): value.clone()
        for name, value in model.state_dict().items()
    }


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(),
        dict(delays=FixedDelays(), bias=True),
        dict(delays=None),
        dict(delays=LearntDelays(Triangle(), width=2.0, learn_width=True), kernel_count=2),
        dict(learn_tau=True, tau=3.0, filter_tau=2.5, learn_filter=True, dropout=0.1),
        dict(surrogate=TriangleSurrogate(0.7), readout=MeanOverTime, tail=1, detach_reset=False),
        dict(readout=None, v_threshold=0.5),
        dict(readout=SumOverTime, output_threshold=2.0, sparsity=0.5, learn_tau=True, tau=2.0),
    ],
    ids=lambda a: "-".join(a) or "defaults",
)
def test_a_file_rebuilds_its_model_alone(tmp_path, x, arguments):
    torch.manual_seed(0)
    model = DelaySNN(**{**TINY, **arguments}).eval()
    path = tmp_path / "model.safetensors"
    snnkit.save_checkpoint(model, path)
    again = snnkit.load_model(path)
    assert not again.training
    assert same(model, again)
    assert repr(again) == repr(model)
    assert torch.equal(again(x), model(x))
    assert encode(list(again.arguments.values())) == encode(list(model.arguments.values()))


def test_a_variant_keeps_its_name_and_what_was_changed(tmp_path):
    path = tmp_path / "deep" / "er" / "model.safetensors"
    snnkit.save_checkpoint(snnkit.create_model("delay_snn_digits", tau=3.0), path, epoch=3, accuracy=0.91)
    again = snnkit.load_model(path)
    assert again.variant == "delay_snn_digits"
    assert again.arguments["tau"] == 3.0
    info = checkpoint_info(path)
    assert info["metadata"] == {"epoch": 3, "accuracy": 0.91}
    assert info["version"] == snnkit.__version__
    assert snnkit.load_checkpoint(again, path).metadata == {"epoch": 3, "accuracy": 0.91}


def test_official_positions_beyond_the_taps_of_an_even_size_come_back_to_the_nearest():
    even = {**TINY, "max_delay": 4}  # DCLS clamps to +-2, but the taps lie at -2 .. 1
    writer, model = DelaySNN(**even), DelaySNN(**even)
    with torch.no_grad():
        for layer in writer.delay_layers():
            layer.P.fill_(1.0)
        writer.head.synapse.P[0, 0, :2] = 2.0
    state = official(writer)
    with pytest.warns(UserWarning, match=r"2 positions .*\(head\.synapse\.P\)"):
        loaded = snnkit.load_checkpoint(model, state)
    assert loaded.clamped == {"head.synapse.P": 2}
    assert all((layer.delay == 0).all() for layer in model.delay_layers())
    assert (model.head.synapse.kernel().sum(-1) != 0).all(), "no synapse is lost"
    writer.clamp_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert snnkit.load_checkpoint(model, official(writer)).clamped == {}


def test_an_own_neuron_is_asked_for(tmp_path, x):
    def neuron():
        return snnkit.nn.LIF(tau=3.0)

    model = DelaySNN(**TINY, neuron=neuron).eval()
    snnkit.save_checkpoint(model, tmp_path / "a")
    with pytest.raises(ValueError, match=r"built with an own neuron: load_model\(path, neuron=...\)"):
        snnkit.load_model(tmp_path / "a")
    assert torch.equal(snnkit.load_model(tmp_path / "a", neuron=neuron)(x), model(x))


def test_an_own_function_as_surrogate_is_asked_for(tmp_path, x):
    surrogate = Custom(lambda d: 1 / (1 + d * d))  # a class of ours around a function that no file can hold
    model = DelaySNN(**TINY, surrogate=surrogate).eval()
    snnkit.save_checkpoint(model, tmp_path / "a")
    with pytest.raises(ValueError, match=r"built with an own surrogate: load_model\(path, surrogate=...\)"):
        snnkit.load_model(tmp_path / "a")
    assert torch.equal(snnkit.load_model(tmp_path / "a", surrogate=surrogate)(x), model(x))
    again = DelaySNN(**TINY, surrogate=surrogate)
    snnkit.load_checkpoint(again, tmp_path / "a")
    assert same(again, model)


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, model, monkeypatch):
    path = tmp_path / "model.safetensors"
    snnkit.save_checkpoint(model, path)
    before = path.read_bytes()

    def crash(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space"):
        snnkit.save_checkpoint(model, path, epoch=2)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_metadata_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path, model):
    for value, named in (
        (torch.tensor(1.0), r"got loss=torch.Tensor .*Give loss.tolist\(\)"),
        (np.float32(1.0), r"got loss=numpy.float32 .*Give loss.tolist\(\)"),
        ({1, 2}, "got loss=builtins.set .*Give numbers, texts, lists"),
    ):
        with pytest.raises(TypeError, match=named):
            snnkit.save_checkpoint(model, tmp_path / "a", epoch=3, loss=value)
    assert not os.listdir(tmp_path)


def test_a_broken_loss_in_the_metadata_stays_what_it_is(tmp_path, model):
    snnkit.save_checkpoint(model, tmp_path / "a", loss=float("nan"), best=float("-inf"))
    metadata = checkpoint_info(tmp_path / "a")["metadata"]
    assert np.isnan(metadata["loss"]) and metadata["best"] == float("-inf")


def test_a_folder_in_place_of_a_file_is_named_and_left_alone(tmp_path, model):
    with pytest.raises(IsADirectoryError, match=r"is a folder, expected a file, e.g. .*model.safetensors"):
        snnkit.save_checkpoint(model, tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_others_may_read_a_file_as_the_umask_says(tmp_path, model, umask):
    old = os.umask(umask)
    try:
        snnkit.save_checkpoint(model, tmp_path / "a")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_evaluation_copy_is_not_saved_as_if_it_could_train(tmp_path, model):
    with pytest.raises(TypeError, match="evaluation copy.*discretize"):
        snnkit.save_checkpoint(model.discretize(), tmp_path / "a")


def test_wrappers_are_taken_off(tmp_path, model):
    snnkit.save_checkpoint(torch.compile(model, backend="eager"), tmp_path / "a")
    assert same(snnkit.load_model(tmp_path / "a"), model)
    other = torch.compile(DelaySNN(**TINY), backend="eager")
    snnkit.load_checkpoint(other, tmp_path / "a")
    assert same(other._orig_mod, model)


def test_any_module_can_be_saved_and_loaded_into(tmp_path):
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    snnkit.save_checkpoint(one, tmp_path / "a")
    snnkit.load_checkpoint(two, tmp_path / "a")
    assert same(one, two)
    with pytest.raises(ValueError, match="holds a Linear, which is no registered model.*load_checkpoint"):
        snnkit.load_model(tmp_path / "a")
    with pytest.raises(TypeError, match=r"expects \(model, path or state dict\), got str as the model"):
        snnkit.load_checkpoint(str(tmp_path / "a"), two)
    with pytest.raises(TypeError, match=r"save_checkpoint expects \(model, path\), got str as the model"):
        snnkit.save_checkpoint("a", two)


@pytest.mark.parametrize("write", ["ours", "torch", "wrapped", "state dict"])
def test_positions_of_other_taps_are_refused_and_the_model_is_left_alone(tmp_path, write):
    def net(max_delay):
        axonal = snnkit.nn.AxonalDelay(4, max_delay=max_delay)
        return nn.Sequential(DelayLinear(3, 4, max_delay=max_delay), nn.Sequential(axonal))

    one, same_taps, other = net(5), net(5), net(7)
    one[0].delay, one[1][0].delay = 2.0, 3.0
    source = tmp_path / "a"
    if write == "ours":
        snnkit.save_checkpoint(one, source)
    elif write == "torch":
        torch.save(one.state_dict(), source)
    elif write == "wrapped":
        torch.save({"state_dict": nn.DataParallel(one).state_dict(), "epoch": 3}, source)
    else:
        source = one.state_dict()
    snnkit.load_checkpoint(same_taps, source)
    assert same(one, same_taps)
    before = copy.deepcopy(other)
    with pytest.raises(ValueError, match="layer '0' was saved with max_delay=5, this model's has 7: .*other delays"):
        snnkit.load_checkpoint(other, source)
    assert same(other, before)


@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("legacy", [False, True])
def test_official_files_load_whatever_their_wrapping(tmp_path, model, x, nest, prefix, legacy):
    path = tmp_path / "official.pt"
    state = {prefix + key: value for key, value in official(model).items()}
    held = {"epoch": 3, nest: state} if nest else state
    torch.save(held, path, _use_new_zipfile_serialization=not legacy)
    other = DelaySNN(**TINY).eval()
    loaded = snnkit.load_checkpoint(other, path)
    assert loaded.source == "SNN-delays"
    assert loaded.left_out == ()
    assert torch.equal(other(x), model(x))


def test_official_fixed_delays_load_without_their_zero_widths(model):
    fixed = DelaySNN(**TINY, delays=FixedDelays())
    state = official(model)
    for key in state:
        if key.endswith("SIG"):
            state[key].zero_()
    snnkit.load_checkpoint(fixed, state)
    assert torch.equal(fixed.head.synapse.P, model.head.synapse.P)
    with pytest.raises(ValueError, match=r"SIG = 0 everywhere.*delays=FixedDelays\(\)"):
        snnkit.load_checkpoint(DelaySNN(**TINY), state)


def test_missing_unexpected_and_misshaped_names_are_listed_in_both_languages(model):
    state = official(model)
    del state["model.1.bias"]
    state["model.17.weight"] = torch.zeros(2)
    state["model.4.weight"] = torch.zeros(7, 9, 1)
    target = DelaySNN(**TINY)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(MismatchError) as error:
        snnkit.load_checkpoint(target, state)
    assert error.value.missing == ["blocks.0.norm.bias (there: model.1.bias)"]
    assert error.value.unexpected == ["model.17.weight"]
    assert error.value.misshaped == ["blocks.1.synapse.weight (there: model.4.weight) [7, 9, 1], here [7, 8, 1]"]
    assert "model.17.weight" in str(error.value) and "nothing was loaded" in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize("kind", ["ours", "official"])
def test_another_number_of_classes_leaves_the_head_out_and_says_so(tmp_path, model, kind):
    target = DelaySNN(**{**TINY, "num_classes": 5})
    head = {key: value.clone() for key, value in target.head.state_dict().items()}
    if kind == "ours":
        snnkit.save_checkpoint(model, tmp_path / "a")
    with pytest.warns(UserWarning, match=r"another number of classes than DelaySNN\(5\): the head was left out"):
        loaded = snnkit.load_checkpoint(target, tmp_path / "a" if kind == "ours" else official(model))
    assert set(loaded.left_out) == {f"head.{key}" for key in head}
    assert all(torch.equal(value, head[key]) for key, value in target.head.state_dict().items())
    assert same(target.blocks, model.blocks)


def test_another_number_of_classes_is_no_excuse_for_other_differences(model):
    with pytest.raises(MismatchError, match=r"misshaped: blocks.0.synapse.weight.*and 10 more") as error:
        snnkit.load_checkpoint(DelaySNN(**{**TINY, "num_classes": 5, "hidden": (9, 7)}), official(model))
    assert any(name.startswith("head.synapse.weight") for name in error.value.misshaped)
    state = official(model)
    del state["model.1.bias"]
    with pytest.raises(MismatchError, match=r"missing: blocks.0.norm.bias.*head.synapse.weight"):
        snnkit.load_checkpoint(DelaySNN(**{**TINY, "num_classes": 5}), state)


def test_load_model_with_another_number_of_classes(tmp_path, model):
    snnkit.save_checkpoint(model, tmp_path / "a")
    with pytest.warns(UserWarning, match="the head was left out"):
        assert snnkit.load_model(tmp_path / "a", num_classes=5).num_classes == 5


def test_load_model_refuses_taps_that_would_shift_all_delays(tmp_path, model):
    snnkit.save_checkpoint(model, tmp_path / "a")
    with pytest.raises(ValueError, match="was saved with max_delay=5, got max_delay=9: .*Leave max_delay out"):
        snnkit.load_model(tmp_path / "a", max_delay=9)
    assert same(snnkit.load_model(tmp_path / "a", max_delay=5, dropout=0.1), model)


def test_a_file_of_another_model_is_refused(tmp_path, model):
    snnkit.save_checkpoint(model, tmp_path / "a")
    with pytest.raises(ValueError, match="holds a DelaySNN, this is a Linear"):
        snnkit.load_checkpoint(nn.Linear(2, 2), tmp_path / "a")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "b")
    with pytest.raises(ValueError, match="missing: blocks.0.synapse.weight.*unexpected: weight, bias"):
        snnkit.load_checkpoint(model, tmp_path / "b")
    with pytest.raises(ValueError, match="holds tensors but no model.*create_model"):
        snnkit.load_model(tmp_path / "b")


def test_arguments_that_no_tensor_shows_are_compared(tmp_path, model):
    snnkit.save_checkpoint(model, tmp_path / "a")
    with pytest.warns(UserWarning, match="saved with tau=1.005, this model has tau=3.0"):
        snnkit.load_checkpoint(DelaySNN(**TINY, tau=3.0), tmp_path / "a")
    with pytest.raises(ValueError, match="saved with max_delay=5, this model has max_delay=9"):
        snnkit.load_checkpoint(DelaySNN(**{**TINY, "max_delay": 9}), tmp_path / "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snnkit.load_checkpoint(DelaySNN(**TINY), tmp_path / "a")


class Hostile:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_never_runs(tmp_path, model):
    folder = tmp_path / "it ran"
    for held in (Hostile(folder), {"state_dict": official(model), "x": Hostile(folder)}):
        torch.save(held, tmp_path / "a.pt")
        with pytest.raises(ValueError, match=r"holds posix.mkdir beside its tensors.*Do not open it") as error:
            snnkit.load_checkpoint(model, tmp_path / "a.pt")
        assert "safe_globals" not in str(error.value)
    with open(tmp_path / "b.pt", "wb") as file:
        pickle.dump(Hostile(folder), file)
    with pytest.raises(ValueError, match="is a pickle of Python objects, not a file of torch.save"):
        snnkit.load_checkpoint(model, tmp_path / "b.pt")
    assert not folder.exists()


def test_the_options_that_training_scripts_keep_beside_their_weights_are_no_hindrance(tmp_path, model, x):
    path = tmp_path / "run.pt"
    torch.save({"args": argparse.Namespace(lr=1), "state_dict": official(model)}, path)
    other = DelaySNN(**TINY).eval()
    snnkit.load_checkpoint(other, path)
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("legacy", [False, True])
def test_the_way_in_that_is_named_for_numpys_scalars_works(tmp_path, model, x, legacy):
    path = tmp_path / "run.pt"
    held = {"accuracy": np.float64(0.9), "epoch": np.int64(3), "state_dict": official(model)}
    torch.save(held, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"holds numpy.*safe_globals") as error:
        snnkit.load_checkpoint(DelaySNN(**TINY), path)
    remedy = str(error.value).split("with ")[1].split(": ...")[0]
    other = DelaySNN(**TINY).eval()
    with eval(remedy, {"torch": torch, "numpy": np}):
        snnkit.load_checkpoint(other, path)
    assert torch.equal(other(x), model(x))


def test_broken_files_are_told_apart(tmp_path, model):
    good, path = tmp_path / "good", tmp_path / "bad"
    snnkit.save_checkpoint(model, good)
    data = good.read_bytes()
    torch.save(official(model), tmp_path / "good.pt")
    pickled = (tmp_path / "good.pt").read_bytes()
    flipped = bytearray(data)
    flipped[-5] ^= 1
    weights = model.head.synapse.weight.detach().numpy().tobytes()
    damaged = bytearray(pickled)
    damaged[pickled.index(weights) + 2] ^= 1
    header = 8 + int.from_bytes(data[:8], "little")
    cases = [
        (b"", "is empty"),
        (data[: header - 3], "is cut short: its header"),
        (data[:-4], f"is cut short: {len(data) - 4} of {len(data)} bytes"),
        (bytes(flipped), "is damaged: its tensors are not those that were written"),
        (data[:20] + b"\xff" + data[21:], "is damaged: its header"),
        (data + b"more", "is damaged"),
        (pickled[: len(pickled) // 2], "is cut short: a file of torch.save without its end"),
        (bytes(damaged), "is damaged: the checksum of .*/data/.* is wrong"),
        (b"<!DOCTYPE html><html>not found</html>", "neither a safetensors file nor one of torch.save.*DOCTYPE"),
        (b"version https://git-lfs.github.com/spec/v1", "neither a safetensors.*git-lfs"),
        (b"\x80\x02garbage", "is damaged"),
        (pickle.dumps({"weight": np.ones(3)}), "is a pickle of Python objects, not a file of torch.save"),
    ]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for content, message in cases:
        path.write_bytes(content)
        for read in (lambda: snnkit.load_checkpoint(model, path), lambda: snnkit.load_model(path)):
            with pytest.raises(ValueError, match=message):
                read()
    with pytest.raises(FileNotFoundError, match="not there"):
        snnkit.load_model(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="a folder"):
        snnkit.load_model(tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_file_without_tensors_is_named(tmp_path, model):
    torch.save({"epoch": 3}, tmp_path / "a")
    with pytest.raises(ValueError, match="holds no named tensors, but a dict with epoch"):
        snnkit.load_checkpoint(model, tmp_path / "a")
    torch.save(torch.zeros(3), tmp_path / "a")
    with pytest.raises(ValueError, match="but a Tensor"):
        snnkit.load_checkpoint(model, tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("blocks.0.synapse.weight", float("nan"), "blocks.0.synapse.weight holds NaN"),
        ("blocks.1.neuron.w", float("inf"), "blocks.1.neuron.w holds NaN or infinity"),
        ("blocks.0.norm.running_var", -1.0, "blocks.0.norm.running_var holds a negative variance"),
        ("head.synapse.P", 12.0, r"head.synapse.P reaches 12, but max_delay=5 allows \+-2"),
    ],
)
def test_impossible_values_are_refused_by_name(name, value, message):
    model = DelaySNN(**TINY, learn_tau=True, tau=2.0)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state[name].fill_(value)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        snnkit.load_checkpoint(model, state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("value", [0.0, -2.0, float("nan")])
def test_an_impossible_time_constant_is_refused_by_name(value):
    def build():
        return DelaySNN(**TINY, neuron=lambda: snnkit.nn.LIF(tau=2.0, learn=("tau",)))

    state = {key: tensor.clone() for key, tensor in build().state_dict().items()}
    state["blocks.1.neuron.tau"].fill_(value)
    with pytest.raises(ValueError, match="blocks.1.neuron.tau"):
        snnkit.load_checkpoint(build(), state)


def test_a_tensor_of_another_kind_is_refused(model):
    state = dict(model.state_dict())
    state["blocks.0.synapse.weight"] = state["blocks.0.synapse.weight"].to(torch.complex64)
    with pytest.raises(ValueError, match="blocks.0.synapse.weight is torch.complex64, expected torch.float32"):
        snnkit.load_checkpoint(model, state)


def test_half_and_double_weights_are_cast(model):
    for dtype in (torch.float64, torch.bfloat16):
        target = DelaySNN(**TINY)
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
        snnkit.load_checkpoint(target, state)
        assert target.blocks[0].synapse.weight.dtype == torch.float32


def test_a_header_cannot_name_anything_outside_the_package(tmp_path, model):
    outside = ("os.system", "data.Digits", "models._files.os.system", "nn.carry.Any", "builtins.eval", "ops..x", "nn")
    for name in outside:
        with pytest.raises(ValueError, match="no class of snnkit"):
            decode({"class": name})
    path = tmp_path / "a"
    snnkit.save_checkpoint(model, path)
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    arguments = json.loads(header["arguments"])
    arguments["readout"] = {"object": "os.system", "arguments": {"command": "true"}}
    save_file(model.state_dict(), path, metadata={**header, "arguments": json.dumps(arguments)})
    with pytest.raises(ValueError, match="no class of snnkit"):
        snnkit.load_model(path)


def test_a_file_of_a_newer_format_says_so(tmp_path, model):
    path = tmp_path / "a"
    snnkit.save_checkpoint(model, path)
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    save_file(model.state_dict(), path, metadata={**header, "format": "99"})
    with pytest.raises(ValueError, match="in a format unknown here. Update snnkit"):
        snnkit.load_model(path)


def test_a_class_that_is_not_registered_any_more_is_named(tmp_path, model, monkeypatch):
    snnkit.save_checkpoint(model, tmp_path / "a")
    monkeypatch.delitem(_registry.classes, "DelaySNN")
    with pytest.raises(ValueError, match="holds a DelaySNN, which is no registered model"):
        snnkit.load_model(tmp_path / "a")


def test_delays_beyond_their_taps_are_told_when_they_are_saved_and_refused_when_they_are_loaded(tmp_path):
    layer, path = DelayLinear(2, 2, max_delay=5), tmp_path / "layer.safetensors"
    with torch.no_grad():
        layer.P[0, 1, 0, 0] = 2.1
    with pytest.warns(UserWarning, match=r"delays of the layer stand beyond their taps.*Call clamp_\(\)"):
        snnkit.save_checkpoint(layer, path)
    with pytest.raises(ValueError, match=r"P reaches 2.1, but max_delay=5 allows \+-2\..*never called clamp_\(\)"):
        snnkit.load_checkpoint(DelayLinear(2, 2, max_delay=5), path)
    layer.clamp_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snnkit.save_checkpoint(layer, path)
    snnkit.load_checkpoint(DelayLinear(2, 2, max_delay=5), path)
