"""What holds for every registered model: a new one is tested the day it is registered.

Inputs are made by ``sample``; a model that takes something else than ``[T, B, in_features]`` needs a line there.
"""

import copy
import pickle
from pathlib import Path

import pytest
import torch
import torch._dynamo.testing
from torch import nn

import snnkit
from snnkit.nn.losses import cross_entropy

NAMES = snnkit.list_models()
KEYS = Path(__file__).parent / "keys"

pytestmark = pytest.mark.parametrize("name", NAMES)


def build(name: str, seed: int = 0, **keywords) -> nn.Module:
    """A model whose norms have seen data: with fresh statistics deep layers are silent and a test sees nothing."""
    torch.manual_seed(seed)
    model = snnkit.create_model(name, **keywords)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(sample(model, 30, 4))
    for norm in norms:
        norm.momentum = 0.1
        norm.num_batches_tracked.zero_()
    return model


def sample(model: nn.Module, steps: int = 11, batch: int = 3, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(steps * 100 + batch)
    return torch.randint(0, 3, (steps, batch, model.in_features), generator=generator).to(dtype)


def test_state_dict_keys_are_those_written_down(name):
    """A renamed tensor breaks every checkpoint: if it is meant, translate the old names and change the list."""
    lines = [f"{key} {tuple(value.shape)}" for key, value in build(name).state_dict().items()]
    assert (KEYS / f"{name}.txt").read_text().splitlines() == lines


def test_all_layers_fire_in_these_tests(name):
    model = build(name).eval()
    with snnkit.firing_rates(model) as rates:
        model(sample(model))
    spiking = {layer: rate for layer, rate in rates.items() if layer.startswith("blocks")}
    assert len(spiking) == len(model.blocks)
    assert all(0.01 < rate < 0.99 for rate in spiking.values()), rates


def test_answers_are_one_row_a_sample(name):
    model = build(name, num_classes=7)
    for steps, batch in ((1, 1), (3, 2), (63, 5)):
        y = model(sample(model, steps, batch))
        assert y.shape == (batch, 7)
        assert torch.isfinite(y).all()


def test_a_sample_does_not_see_its_batch_mates(name):
    model = build(name).eval().double()
    x = sample(model, batch=4, dtype=torch.float64)
    y = model(x)
    for b in range(4):
        torch.testing.assert_close(model(x[:, b : b + 1])[0], y[b], rtol=1e-10, atol=1e-10)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(x[:, order]), y[order], rtol=1e-10, atol=1e-10)
    x[:, 1] = 5
    changed = model(x)
    torch.testing.assert_close(changed[[0, 2, 3]], y[[0, 2, 3]], rtol=0, atol=0)
    assert not torch.equal(changed[1], y[1])


def test_nothing_is_kept_between_calls(name):
    model = build(name).eval()
    x = sample(model)
    first = model(x)
    model(x.flip(0))
    model(sample(model, 5, 2))  # another length and batch
    assert torch.equal(model(x), first)


def test_two_training_steps_need_no_call_in_between(name):
    model = build(name).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        cross_entropy(model(sample(model)), torch.tensor([0, 1, 2])).backward()
        optimizer.step()


def test_every_trainable_parameter_gets_a_gradient(name):
    model = build(name).train()
    cross_entropy(model(sample(model, 40, 4)), torch.tensor([0, 1, 2, 3])).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
        else:
            assert parameter.grad is None, key


def test_state_dict_round_trip(name):
    model, other = build(name).eval(), build(name, seed=1).eval()
    x = sample(model)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


def test_a_saved_file_rebuilds_the_model(name, tmp_path):
    model = build(name, num_classes=4).eval()
    snnkit.save_checkpoint(model, tmp_path / "model.safetensors")
    x = sample(model)
    assert torch.equal(snnkit.load_model(tmp_path / "model.safetensors")(x), model(x))


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_keeps_parameters_and_gradients_in_float32(name, dtype):
    model = build(name).train()
    with torch.autocast("cpu", dtype):
        y = model(sample(model))
    cross_entropy(y, torch.tensor([0, 1, 2])).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.dtype == torch.float32, key
            assert torch.isfinite(parameter.grad).all(), key


def test_gradients_of_single_samples_through_torch_func(name):
    model = build(name).eval()
    parameters = {key: p.detach() for key, p in model.named_parameters() if p.requires_grad}
    x, y = sample(model, 7), torch.tensor([0, 1, 2])

    def loss(parameters, x, y):
        return cross_entropy(torch.func.functional_call(model, parameters, (x[:, None],)), y[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1, 0))(parameters, x, y)
    for b in range(3):
        model.zero_grad()
        cross_entropy(model(x[:, b : b + 1]), y[b : b + 1]).backward()
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(each[key][b], parameter.grad, rtol=1e-4, atol=1e-6, msg=key)
    assert any(value.abs().sum() > 0 for value in each.values())


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


def test_another_batch_in_carry_is_refused(name):
    model = build(name).eval()
    with snnkit.carry(model):
        model(sample(model, 3, 2))
        with pytest.raises(ValueError, match="holds a state for 2 samples, got 3"):
            model(sample(model, 3, 3))


def test_checkpointing_changes_no_gradient(name):
    results = []
    for enable in (False, True):
        model = build(name).train()
        model.set_grad_checkpointing(enable)
        runs: list[int] = []
        model.blocks[0].register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        torch.manual_seed(1)  # of the dropout
        x = sample(model, 13).requires_grad_()
        cross_entropy(model(x), torch.tensor([0, 1, 2])).backward()
        assert len(runs) == 1 + enable, "a checkpointed block runs again in the backward"
        gradients = [x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]
        results.append(gradients + [value for key, value in model.state_dict().items() if "running" in key])
    for plain, again in zip(*results, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-5, atol=1e-7)


def test_one_graph_serves_all_lengths(name):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    for training in (False, True):
        model = build(name).train(training)
        before = counter.frame_count
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        for steps in (4, 7, 16):
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


def test_export_keeps_the_batch_open(name):
    model = build(name).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (sample(model, 9, 3),), dynamic_shapes=({1: batch}, None)[:1])
    for size in (1, 5):
        x = sample(model, 9, size)
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-6)


def test_data_parallel_is_refused(name):
    with pytest.raises(RuntimeError, match="DistributedDataParallel"):
        build(name)._replicate_for_data_parallel()
