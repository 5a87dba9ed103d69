"""What holds for every registered model: a new one is tested the day it is registered.

``shrink.py`` says how a model is made small and what it eats. Variants that differ in sizes alone are one structure
here; every full size is built on the meta device.
"""

import copy
import pickle

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

import snnkit
from snnkit.nn import DelayedRecurrence, Recurrent
from snnkit.nn.losses import cross_entropy
from tests.models.keys import full_line, full_lines, key_file, key_lines
from tests.models.shrink import NAMES, ONE_A_CLASS, STRUCTURES, VISION, build, create, sample, small_on_meta, smallest
from tests.shared import needs_compiler

every_name = pytest.mark.parametrize("name", NAMES)
every_structure = pytest.mark.parametrize("name", STRUCTURES)
every_class = pytest.mark.parametrize("name", ONE_A_CLASS)
every_vision_class = pytest.mark.parametrize("name", [name for name in ONE_A_CLASS if name in VISION])
lengths = pytest.mark.parametrize("steps", [1, 4])


def blocks(model: nn.Module) -> list[nn.Module]:
    """What activation checkpointing runs again."""
    return list(model.blocks) if hasattr(model, "blocks") else [block for stage in model.stages for block in stage]


@every_structure
def test_state_dict_keys_are_those_written_down(name):
    """A renamed tensor breaks every checkpoint: if it is meant, translate the old names and change the list."""
    path = key_file(name)
    assert path.exists(), f"a new network: python -m tests.models.keys writes {path.name}"
    assert path.read_text().splitlines() == key_lines(small_on_meta(name))


@every_name
def test_state_dict_keys_of_the_full_size_are_those_written_down(name):
    kept = full_lines()
    assert name in kept, "a new model: python -m tests.models.keys adds its line"
    assert kept[name] == full_line(name)


@every_structure
def test_all_layers_fire_in_these_tests(name):
    model = build(name).eval()
    with snnkit.firing_rates(model) as rates:
        model(sample(model))
    spiking = {layer: rate for layer, rate in rates.items() if not layer.startswith("head")}
    assert len(spiking) >= len(blocks(model))
    assert all(0.005 < rate < 0.995 for rate in spiking.values()), rates


@every_structure
def test_answers_are_one_row_a_sample(name):
    model = build(name, num_classes=7)
    for steps, batch in ((1, 1), (3, 2), (17, 5)):
        model.train(steps * batch > 1)  # a batch norm refuses to train on a single row
        y = model(sample(model, steps, batch))
        assert y.shape == (batch, 7)
        assert torch.isfinite(y).all()


@every_structure
def test_the_seed_decides_everything(name):
    def run(seed):
        torch.manual_seed(seed)
        model = create(name)
        return [model(sample(model)), *model.state_dict().values()]  # training: dropout, and statistics, too

    first, twin, other = run(0), run(0), run(1)
    assert all(torch.equal(a, b) for a, b in zip(first, twin, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first[1:], other[1:], strict=True))


@every_structure
@lengths
def test_a_sample_does_not_see_its_batch_mates(name, steps):
    model = build(name).eval().double()
    x = sample(model, steps, batch=3, dtype=torch.float64)
    y = model(x)
    for b in range(3):
        torch.testing.assert_close(model(x[:, b : b + 1])[0], y[b], rtol=1e-10, atol=1e-10)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(x[:, order]), y[order], rtol=1e-10, atol=1e-10)
    x[:, 1] = 2 - 3 * x[:, 1]
    changed = model(x)
    torch.testing.assert_close(changed[[0, 2]], y[[0, 2]], rtol=0, atol=0)
    assert steps == 1 or not torch.equal(changed[1], y[1])  # after one step a small network may not show it


@every_structure
def test_nothing_is_kept_between_calls(name):
    model = build(name).eval()
    x = sample(model)
    first = model(x)
    model(x.flip(0))
    model(sample(model, 5, 2))  # another length and batch
    assert torch.equal(model(x), first)


@every_structure
def test_two_training_steps_need_no_call_in_between(name):
    model = build(name).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        cross_entropy(model(sample(model)), torch.tensor([0, 1, 2])).backward()
        optimizer.step()


@every_structure
def test_every_trainable_parameter_gets_a_gradient(name):
    model = build(name).train()
    cross_entropy(model(sample(model, 12, 4)), torch.tensor([0, 1, 2, 3])).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
        else:
            assert parameter.grad is None, key


@every_structure
def test_state_dict_round_trip(name):
    model, other = build(name).eval(), build(name, seed=1).eval()
    x = sample(model)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


@every_structure
def test_a_saved_file_rebuilds_the_model(name, tmp_path):
    model = build(name, num_classes=4).eval()
    snnkit.save_checkpoint(model, tmp_path / "model.safetensors")
    x = sample(model)
    assert torch.equal(snnkit.load_model(tmp_path / "model.safetensors")(x), model(x))


@every_structure
def test_copies_and_pickles_answer_the_same(name):
    model = build(name).eval()
    x = sample(model)
    y = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), y)
        assert twin.variant == name
        assert twin.arguments.keys() == model.arguments.keys()
    twin.load_state_dict({key: torch.zeros_like(value) for key, value in twin.state_dict().items()})
    assert torch.equal(model(x), y), "a copy shares no memory"


@every_structure
def test_autocast_keeps_parameters_and_gradients_in_float32(name):
    model = build(name)
    check_autocast(model, torch.bfloat16, sample(model, 4))


@every_class
def test_autocast_to_float16_does_so_too(name):
    model = build(name, **smallest(name))
    check_autocast(model, torch.float16, sample(model, 2))  # slow on a CPU


@every_vision_class
def test_autocast_of_still_images_does_so_too(name):
    model = build(name, **smallest(name))
    check_autocast(model, torch.bfloat16, sample(model, 1)[0])


def check_autocast(model: nn.Module, dtype: torch.dtype, x: Tensor) -> None:
    with torch.autocast("cpu", dtype):
        y = model(x)
    (cross_entropy(y, torch.tensor([0, 1, 2])) / 4096).backward()  # float16 ends at 65504
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.dtype == torch.float32, key
            assert torch.isfinite(parameter.grad).all(), key


@every_class
def test_gradients_of_single_samples_through_torch_func(name):
    model = build(name, **smallest(name)).eval().double()  # no spike hangs on rounding
    parameters = {key: p.detach() for key, p in model.named_parameters() if p.requires_grad}
    x, y = sample(model, 7, dtype=torch.float64), torch.tensor([0, 1, 2])

    def loss(parameters, x, y):
        return cross_entropy(torch.func.functional_call(model, parameters, (x[:, None],)), y[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1, 0))(parameters, x, y)
    for b in range(3):
        model.zero_grad()
        cross_entropy(model(x[:, b : b + 1]), y[b : b + 1]).backward()
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(each[key][b], parameter.grad, rtol=1e-8, atol=1e-10, msg=key)
    assert any(value.abs().sum() > 0 for value in each.values())


@every_structure
@pytest.mark.parametrize("chunks", [(11,), (1,) * 11, (3, 3, 3, 2)], ids=str)
def test_chunks_in_carry_answer_as_the_whole(name, chunks):
    model = build(name).eval().double()
    x = sample(model, dtype=torch.float64)
    with snnkit.carry(model):
        whole = model(x)
    with snnkit.carry(model):
        for part in x.split(chunks):
            y = model(part)
    torch.testing.assert_close(y, whole, rtol=1e-10, atol=1e-10)
    assert torch.equal(model(x), build(name).eval().double()(x)), "the block left something behind"


@every_structure
def test_carry_resets_single_samples(name):
    model = build(name).eval().double()
    x = sample(model, dtype=torch.float64)
    with snnkit.carry(model) as state:
        model(x[:4])
        state.reset(torch.tensor([False, True, False]))
        y = model(x[4:])
    with snnkit.carry(model):
        fresh = model(x[4:])
    with snnkit.carry(model):
        whole = model(x)
    torch.testing.assert_close(y[1], fresh[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(y[[0, 2]], whole[[0, 2]], rtol=1e-10, atol=1e-10)


@every_structure
def test_another_batch_in_carry_is_refused(name):
    model = build(name).eval()
    with snnkit.carry(model):
        model(sample(model, 3, 2))
        with pytest.raises(ValueError, match="holds a state for 2 samples, got 3"):
            model(sample(model, 3, 3))


@every_structure
def test_checkpointing_changes_no_gradient(name):
    check_checkpointing(name, still=False)


@every_vision_class
def test_checkpointing_changes_no_gradient_of_still_images(name):
    check_checkpointing(name, still=True)


def check_checkpointing(name: str, still: bool) -> None:
    results = []
    for enable in (False, True):
        model = build(name).train()
        model.set_grad_checkpointing(enable)
        runs: list[int] = []
        blocks(model)[0].register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        torch.manual_seed(1)  # of the dropout
        x = (sample(model, 1)[0] if still else sample(model, 13)).requires_grad_()
        cross_entropy(model(x), torch.tensor([0, 1, 2])).backward()
        assert len(runs) == 1 + enable, "a checkpointed block runs again in the backward"
        gradients = [x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]
        results.append(gradients + [value for key, value in model.state_dict().items() if "running" in key])
    for plain, again in zip(*results, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-5, atol=1e-7)


@every_class
def test_one_graph_serves_all_lengths(name):
    deep = name in VISION and name != ONE_A_CLASS[-1]  # half a minute a graph: the training one, at one length
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    for training in (True,) if deep else (False, True):
        model = build(name, **smallest(name)).train(training)
        before = counter.frame_count
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        for steps in (4,) if deep else (4, 7):
            x = sample(model, steps)
            twin = copy.deepcopy(model)
            torch.manual_seed(1)
            expected = twin(x)
            torch.manual_seed(1)
            got = compiled(x)
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
            if training:
                cross_entropy(expected, torch.tensor([0, 1, 2])).backward()
                cross_entropy(got, torch.tensor([0, 1, 2])).backward()
                for (key, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
                    if b.requires_grad:
                        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=key)
                model.zero_grad()
        assert counter.frame_count - before <= 2


@every_class
def test_export_keeps_the_batch_open(name):
    model = build(name, **smallest(name)).eval()
    recurrent = any(isinstance(layer, Recurrent | DelayedRecurrence) for layer in model.modules())
    if recurrent and torch.__version__.startswith("2.9"):
        pytest.skip("torch 2.9 exports no slice that starts behind an open axis: it loses the symbol of the offset")
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (sample(model, 9, 3),), dynamic_shapes=({1: batch}, None)[:1])
    for size in (1, 5):
        x = sample(model, 9, size)
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-6)


def test_still_images_compile_to_one_graph_with_the_running_variances_of_eager_mode():
    torch._dynamo.reset()
    model = build("max_resnet18_cifar10", **smallest("max_resnet18_cifar10")).train()  # two norms before its neurons
    twin, x = copy.deepcopy(model), sample(model, 1)[0]
    for _ in range(2):
        got, expected = torch.compile(model, backend="aot_eager", fullgraph=True)(x), twin(x)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    cross_entropy(got, torch.tensor([0, 1, 2])).backward()
    cross_entropy(expected, torch.tensor([0, 1, 2])).backward()
    for (key, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=key)
    for (key, a), b in zip(model.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7, msg=key)


def test_still_images_are_exported_with_the_batch_open():
    model = build("max_former_10_384", **smallest("max_former_10_384")).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (sample(model, 1)[0],), dynamic_shapes=({0: batch},))
    for size in (1, 5):
        x = sample(model, 1, size)[0]
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-6)


@every_structure
def test_data_parallel_is_refused(name):
    with pytest.raises(RuntimeError, match="DistributedDataParallel"):
        build(name)._replicate_for_data_parallel()


@needs_compiler
def test_inductor_compiles_a_model_to_the_same_numbers():
    torch._dynamo.reset()
    model = build(ONE_A_CLASS[-1], **smallest(ONE_A_CLASS[-1])).eval()
    x = sample(model, 4, 2)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x), rtol=1e-4, atol=1e-5)
