"""Layers on the GPU: every neuron trains there as on the CPU, and two GPUs take the step of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import snnkit
from snnkit import nn as snn
from snnkit.ops.scan_learnt import is_learnt
from tests.closeness import error
from tests.equations_under_test import drive
from tests.nn.test_neuron import NAMES, layer_of
from tests.on_gpu import DEVICE, gpus
from tests.shared import needs_compiler

T, B, C = 5, 2, 3


def step(layer: torch.nn.Module, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    s, state = layer(x, return_state=True)
    total = s.sum() + sum(v.sum() for v in state.values())
    gradients = torch.autograd.grad(total, [x, *layer.parameters()], allow_unused=True, materialize_grads=True)
    return [t.detach().cpu() for t in (s, *state.values(), *gradients)]


@gpus()
@needs_compiler
@pytest.mark.parametrize("name", NAMES)
def test_every_layer_with_its_parameters_learnt_takes_the_step_of_the_cpu(name):
    for shape in ((), (C,), (C, 1, 1)):
        layer = layer_of(name, learn=type(layer_of(name)).equation.parameter_names, shape=shape)
        x = drive(name, (T, B, C, 2, 4) if len(shape) == 3 else (T, B, C), torch.float32)
        expected, got = step(layer, x), step(layer.to(DEVICE), x.to(DEVICE))
        assert torch.equal(got[0], expected[0])
        assert all(error(a, b) < 1e-5 for a, b in zip(got, expected, strict=True))


@gpus()
@needs_compiler
def test_a_layer_moved_back_and_forth_keeps_its_answers_and_channels_last_images_theirs():
    layer = snn.PLIF(tau=3.7)
    x = drive("LIF", (T, B, C, 4, 8), torch.float32)
    last = x.flatten(0, 1).to(DEVICE).contiguous(memory_format=torch.channels_last).unflatten(0, (T, B))
    on_cpu = layer(x)
    there = layer.to(DEVICE)(last)
    assert torch.equal(there.cpu(), on_cpu)
    assert there.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer.cpu()(x), on_cpu)


@gpus()
@needs_compiler
def test_plif_takes_the_short_way_of_learnt_numbers_with_the_spikes_and_gradients_of_the_cpu():
    layer = snn.PLIF(tau=3.7)
    x = 2.0 * drive("PLIF", (20, B, C), torch.float32)
    found = []
    for device in ("cpu", DEVICE):
        layer, there = layer.to(device), x.to(device).requires_grad_()
        assert is_learnt(layer._plan, layer._tensors(), there) == (device == DEVICE)
        s = layer(there)
        found.append([t.detach().cpu() for t in (s, *torch.autograd.grad(s.sum(), [there, layer.w]))])
    (s, *expected), (s_gpu, *got) = found
    assert s.any() and torch.equal(s_gpu, s)
    assert all(error(a, b) < 1e-5 for a, b in zip(got, expected, strict=True))


@gpus()
def test_chunks_inside_carry_equal_the_whole():
    net = torch.nn.Sequential(snn.LIF(tau=3.7), snn.ALIF()).to(DEVICE)
    x = drive("LIF", (20, B, C), torch.float32).to(DEVICE)
    with snnkit.carry(net):
        chunks = [net(chunk) for chunk in x.split(6)]
    assert torch.equal(torch.cat(chunks), net(x))


NEURONS = {
    "numbers": lambda: snn.LIF(tau=3.7, v_reset=-0.5),
    "learnt": lambda: snn.ALIF(learn=snn.ALIF.equation.parameter_names, shape=(C,)),
}


@gpus()
@pytest.mark.parametrize("layer", NEURONS)
def test_a_captured_graph_resets_the_samples_that_its_mask_names_at_each_replay(layer):
    net = torch.nn.Sequential(NEURONS[layer]()).to(DEVICE)
    x, mask = torch.zeros(2, T, B, C, device=DEVICE), torch.zeros(B, dtype=torch.bool, device=DEVICE)

    def two_chunks() -> Tensor:
        with torch.no_grad(), snnkit.carry(net) as state:
            net(x[0])
            state.reset(mask)
            return net(x[1])

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        two_chunks()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = two_chunks()
    x.copy_(1.2 * drive("LIF", (2, T, B, C), torch.float32))  # weak: what was carried decides
    found = []
    for which in ([False, False], [True, False], [False, True]):
        mask.copy_(torch.tensor(which))
        graph.replay()
        found.append(captured.clone())
        assert torch.equal(captured, two_chunks())
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])


@gpus()
@pytest.mark.parametrize("half", [False, True], ids=["float32", "autocast"])
def test_a_delay_layer_compiled_in_one_graph_or_computed_again_takes_the_plain_step(half: bool) -> None:
    torch.manual_seed(0)
    layer = snn.DelayLinear(70, 50, max_delay=9).to(DEVICE)
    leaves = [p for p in layer.parameters() if p.requires_grad]
    x = torch.rand(40, 8, 70, device=DEVICE)

    def step(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            y = run(x)
        return [y.detach(), *torch.autograd.grad(y.float().square().sum(), leaves)]

    expected = step(layer)
    for run in (torch.compile(layer, fullgraph=True), lambda x: checkpoint(layer, x, use_reentrant=False)):
        for a, b in zip(step(run), expected, strict=True):
            assert error(a.float(), b.float()) < (3e-2 if half else 1e-5)


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    first, second = snn.LIF(tau=2.0, learn=("tau",), shape=(9,)), snn.PLIF(tau=3.0)
    lines = torch.nn.Linear(6, 9), torch.nn.Linear(9, 5), torch.nn.Linear(5, 3)
    for line in lines:
        torch.nn.init.uniform_(line.weight, 0.0, 1.0)  # strong enough that both neurons fire
    return torch.nn.Sequential(lines[0], first, lines[1], second, lines[2]).double()


def distributed(rank: int, meeting: str) -> None:
    """One of two processes: its half of the batch on its own GPU, beside the whole batch without the other process."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{meeting}", rank=rank, world_size=2)
    model, whole = network().cuda(), network().cuda()
    parallel = DistributedDataParallel(model, device_ids=[rank], find_unused_parameters=False)
    for seed in range(2):
        x = 4.0 * torch.rand(11, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).cuda()
        mine = slice(2 * rank, 2 * rank + 2)
        model.zero_grad()
        whole.zero_grad()
        parallel(x[:, mine]).square().mean().backward()
        whole(x).square().mean().backward()
        for (name, a), b in zip(model.named_parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=name)
            assert b.grad.any(), name
    dist.destroy_process_group()


@gpus(2)
def test_two_gpus_with_half_of_the_batch_each_take_the_step_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(distributed, args=(str(tmp_path / "meeting"),), nprocs=2)
