"""Checkpointed blocks give the numbers that they give without, inside carry and outside."""

import contextlib
import copy
import threading

import pytest
import torch
from torch import nn

from snnkit.nn.carry import Stateful, carry
from snnkit.nn.checkpoint import checkpoint, recomputing
from snnkit.nn.neuron import LIF
from snnkit.nn.norm import BatchNorm
from snnkit.nn.time import PerStep, TimeDropout
from tests.nn.layers import Leak, spikes


class Net(nn.Module):
    """Two blocks with state, norms and dropout of all kinds between two linear layers."""

    def __init__(self, neuron=LIF):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(4, 4),
                BatchNorm(4),
                PerStep(nn.BatchNorm1d(4, momentum=None)),
                neuron(),
                TimeDropout(0.3),
                nn.Dropout(0.2),
                nn.Tanh(),
            )
            for _ in range(2)
        )

    def forward(self, x, run):
        x = self.first(x)
        for block in self.blocks:
            x = run(block, x)
        return self.last(x)


def plain(block, x):
    return block(x)


def nested(block, x):
    return checkpoint(lambda x: checkpoint(block[3:], checkpoint(block[:3], x)).sin(), x)


def nested_plain(block, x):
    return block(x).sin()


def train(net, run, inside, detach=False, backward="after"):
    """Three chunks, one or three backward passes; everything that could differ."""
    torch.manual_seed(1)
    x = [spikes(7, 3, 5, seed=seed).requires_grad_() for seed in range(3)]
    ys = []
    with carry(net, detach) if inside else contextlib.nullcontext():
        for chunk in x:
            ys.append(net(chunk, run).square().sum())
            if backward == "each":
                ys[-1].backward()
        if backward == "inside":
            sum(ys).backward()
    if backward == "after":
        sum(ys).backward()
    last = torch.rand(1)
    grads = {name: p.grad for name, p in net.named_parameters()}
    return {"loss": sum(ys), "x": [chunk.grad for chunk in x], "rng": last, **grads, **dict(net.named_buffers())}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("runs", [(plain, checkpoint), (nested_plain, nested)], ids=["blocks", "nested"])
@pytest.mark.parametrize(
    ("inside", "detach", "backward"),
    [
        (False, False, "after"),
        (True, False, "after"),
        (True, False, "inside"),
        (True, True, "after"),
        (True, True, "each"),
        (False, False, "each"),
    ],
)
@pytest.mark.parametrize("neuron", [LIF, lambda: Leak(0.25)], ids=["LIF", "Leak"])
def test_gradients_and_statistics_are_those_without_a_checkpoint(neuron, training, runs, inside, detach, backward):
    torch.manual_seed(0)
    one = Net(neuron).double().train(training)
    two = copy.deepcopy(one)
    expected = train(one, runs[0], inside, detach, backward)
    got = train(two, runs[1], inside, detach, backward)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_a_graph_that_is_retained_is_recomputed_each_time():
    torch.manual_seed(0)
    net = Net().double()
    x, grads = spikes(7, 3, 5).requires_grad_(), []
    with carry(net):
        net(x, checkpoint)
        y = net(x, checkpoint).square().sum()
    after = copy.deepcopy(net.state_dict())
    for _ in range(2):
        grads.append(torch.autograd.grad(y, x, retain_graph=True)[0])
    assert torch.equal(*grads)
    torch.testing.assert_close(dict(net.state_dict()), dict(after), rtol=0, atol=0)


def test_the_next_chunk_starts_where_the_first_run_stopped_not_the_second():
    layer, x = Leak(), spikes(7, 3, 5)
    with carry(layer):
        layer(x)
        whole = layer(x)
    with carry(layer):
        z = x.clone().requires_grad_()
        checkpoint(lambda z: layer(z).exp(), z).sum().backward()
        assert torch.equal(layer(x), whole)


def test_recomputing_says_which_run_it_is():
    seen = []

    def block(x):
        seen.append(recomputing())
        return x.exp()

    checkpoint(block, torch.ones(3, requires_grad=True)).sum().backward()
    assert seen == [False, True]
    assert not recomputing()


def test_other_threads_are_not_recomputing():
    seen = []

    def block(x):
        thread = threading.Thread(target=lambda: seen.append(recomputing()))
        thread.start()
        thread.join()
        return x.exp()

    checkpoint(block, torch.ones(3, requires_grad=True)).sum().backward()
    assert seen == [False, False]


def test_a_norm_of_another_thread_learns_during_a_recomputation():
    norm, x = nn.BatchNorm1d(5), torch.randn(4, 5)

    def block(z):
        if recomputing():
            thread = threading.Thread(target=norm, args=(x,))
            thread.start()
            thread.join()
        return z.exp()

    checkpoint(block, torch.ones(3, requires_grad=True)).sum().backward()
    assert norm.num_batches_tracked == 1


def test_a_layer_outside_a_block_is_told_so_again_when_the_backward_is_inside_one():
    seen = []

    class Asks(Stateful):
        def forward(self, x):
            seen.append((self.in_carry, self.carried(x.shape[1])))
            self.keep({"x": x[-1]}, {"x": 0.0})
            return x.exp()

    layer, x = Asks(), torch.ones(2, 3, 5, requires_grad=True)
    y = checkpoint(layer, x).sum()
    with carry(layer):
        y.backward()
        assert layer._slot.state is None
    with carry(layer):
        y = checkpoint(layer, x).sum()
    y.backward()
    assert seen == [(False, None)] * 2 + [(True, None)] * 2


def test_an_error_in_a_block_leaves_no_run_open():
    def broken(x):
        if recomputing() or x.sum() > 0:
            raise ZeroDivisionError
        return x.exp()

    with pytest.raises(ZeroDivisionError):
        checkpoint(broken, torch.ones(2, requires_grad=True))
    y = checkpoint(broken, torch.zeros(2, requires_grad=True)).sum()
    with pytest.raises(ZeroDivisionError):
        y.backward()
    assert not recomputing()
    assert not nn.modules.module._global_forward_pre_hooks
    layer = Leak()
    with carry(layer):
        layer(spikes(2, 3, 5))
        assert layer._slot.state is not None


def test_norms_get_their_own_statistics_back():
    norm, x = nn.BatchNorm1d(5), torch.randn(4, 5, requires_grad=True)
    mean = norm.running_mean
    checkpoint(norm, x).sum().backward()
    assert norm.running_mean is mean
    assert norm.num_batches_tracked == 1


def test_it_keeps_the_arguments_only():
    kept = []

    def pack(tensor):
        kept.append(tensor.shape)
        return tensor

    x = torch.randn(7, 3, 5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        checkpoint(lambda x: x.exp().sin().exp(), x)
    assert len([shape for shape in kept if shape.numel()]) <= 1  # torch 2.11 also keeps an empty one


def test_without_gradients_and_with_several_arguments():
    with torch.no_grad():
        a, b = checkpoint(lambda a, b: (a + b, a * b), torch.ones(2), torch.full((2,), 3.0))
    assert a.tolist() == [4.0, 4.0]
    assert b.tolist() == [3.0, 3.0]


def test_it_compiles_without_a_break_outside_carry():
    torch._dynamo.reset()
    net = nn.Sequential(nn.Linear(5, 4), Leak(), nn.Tanh()).double()
    x = spikes(7, 3, 5).requires_grad_()
    fast = torch.compile(lambda x: checkpoint(net, x).square().sum(), backend="aot_eager", fullgraph=True)
    expected, got = (torch.autograd.grad(y, x)[0] for y in (net(x).square().sum(), fast(x)))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


class Break(nn.Module):
    """The compiler cannot trace it in one piece."""

    def forward(self, x):
        torch._dynamo.graph_break()
        return x.exp()


@pytest.mark.parametrize("last", [nn.Tanh(), Break()], ids=["traceable", "break"])
@pytest.mark.parametrize("inside", [True, False])
def test_compiled_it_has_the_same_gradients_and_statistics_inside_carry_too(inside, last):
    torch._dynamo.reset()
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(5, 4), BatchNorm(4), Leak(), last).double()
    two = copy.deepcopy(one)
    fast = torch.compile(lambda x: checkpoint(two, x), backend="aot_eager")
    # Two calls of a graph with a norm before one backward: torch says that the running statistics changed in place.
    x = [spikes(7, 3, 5, seed=seed).requires_grad_() for seed in range(2 if inside else 1)]
    for net, run in ((one, one), (two, fast)):
        with carry(net) if inside else contextlib.nullcontext():
            y = sum(run(chunk).square().sum() for chunk in x)
        for chunk in x:
            chunk.grad = None
        y.backward()
        net.grads = [chunk.grad for chunk in x] + [p.grad for p in net.parameters()] + list(net.buffers())
    torch.testing.assert_close(two.grads, one.grads, rtol=1e-12, atol=1e-13)


def test_compiled_inside_carry_a_full_graph_is_refused():
    torch._dynamo.reset()
    net = Leak()
    fast = torch.compile(lambda x: checkpoint(net, x), backend="aot_eager", fullgraph=True)
    with carry(net), pytest.raises(torch._dynamo.exc.Unsupported, match="(?i)side ?effect"):
        fast(spikes(7, 3, 5).requires_grad_())


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("ended", [True, False], ids=["after the block", "in the block"])
@pytest.mark.parametrize("layer", [LIF(), Leak(), TimeDropout()], ids=lambda layer: type(layer).__name__)
def test_torchs_own_checkpoint_is_refused_in_carry_and_works_outside(layer, ended, reentrant):
    def backward(run):
        z = spikes(7, 3, 5).requires_grad_()
        y = run(lambda z: layer(z).exp(), z).sum()
        return z, y

    def theirs(block, z):
        return torch.utils.checkpoint.checkpoint(block, z, use_reentrant=reentrant)

    with pytest.raises(RuntimeError, match=rf"{type(layer).__name__} is run again .* Use snnkit.nn.checkpoint"):
        with carry(layer):
            layer(spikes(7, 3, 5))
            _, y = backward(theirs)
            if not ended:
                y.backward()
        y.backward()
    torch.manual_seed(0)
    for _ in range(2):
        z, y = backward(theirs)
        y.backward()
    torch.manual_seed(0)
    for _ in range(2):
        expected, y = backward(plain)
        y.backward()
    assert torch.equal(z.grad, expected.grad)


def test_our_checkpoint_after_a_block_leaves_the_way_to_torchs_open():
    layer, z = LIF(), spikes(7, 3, 5).requires_grad_()
    with carry(layer):
        y = checkpoint(lambda z: layer(z).exp(), z).sum()
    y.backward()
    with torch.no_grad(), carry(layer):
        torch.utils.checkpoint.checkpoint(layer, z, use_reentrant=False)
    torch.utils.checkpoint.checkpoint(lambda z: layer(z).exp(), z, use_reentrant=False).sum().backward()
