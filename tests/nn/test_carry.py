"""State lives in carry blocks and nowhere else."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.testing import CompileCounter

from snnkit.nn.carry import Stateful, carry
from snnkit.nn.neuron import LIF
from snnkit.nn.readout import SumOverTime
from tests.nn.layers import Leak, network, spikes


def chunks(x: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    """Pieces of these sizes, and the rest."""
    return [*x[: sum(sizes)].split(sizes), x[sum(sizes) :]]


@given(st.lists(st.integers(1, 20), max_size=3))
@settings(max_examples=20, deadline=None)
def test_chunk_by_chunk_equals_the_whole(sizes):
    net, x = network(0.25), spikes(63, 3, 5)
    with carry(net):
        parts = [net(chunk) for chunk in chunks(x, sizes) if len(chunk)]
    assert torch.equal(torch.cat(parts), net(x))


def test_nothing_is_kept_outside_a_block():
    net, x = network(), spikes(7, 3, 5)
    first = net(x)
    with carry(net):
        net(x)
        assert not torch.equal(net(x), first)
    assert torch.equal(net(x), first)
    assert torch.equal(net(x[:, :2]), first[:, :2])
    assert all("_slot" not in layer.__dict__ for layer in net.modules())
    assert not net._forward_hooks and not net._forward_pre_hooks


def test_an_exception_leaves_nothing_behind():
    net, x = network(), spikes(7, 3, 5)
    first = net(x)
    with pytest.raises(ZeroDivisionError), carry(net):
        net(x)
        raise ZeroDivisionError
    assert torch.equal(net(x), first)
    assert not net._forward_hooks and not net._forward_pre_hooks
    with carry(net):
        assert torch.equal(net(x), first)


def test_a_block_can_be_entered_again_and_starts_anew():
    net, x = network(), spikes(7, 3, 5)
    block = carry(net)
    with block:
        first = net(x)
    with block:
        assert torch.equal(net(x), first)


def test_nested_blocks_are_an_error_at_the_inner_with():
    net = network()
    with carry(net):
        with pytest.raises(RuntimeError, match=r"carry: 1 is already in a carry block"), carry(net):
            raise AssertionError("entered")
        net(spikes(7, 3, 5))
    with carry(net):
        pass


def test_blocks_that_share_a_layer_are_an_error_and_touch_no_other_layer():
    shared = Leak()
    one, two = nn.Sequential(shared), nn.Sequential(Leak(), shared)
    with carry(one):
        with pytest.raises(RuntimeError, match=r"carry: 1 is already"), carry(two):
            raise AssertionError("entered")
        assert "_slot" not in two[0].__dict__
        assert not two._forward_hooks


def test_detach_cuts_the_graph_at_each_call():
    net = network()
    for detach in (True, False):
        x1, x2 = spikes(3, 2, 5).requires_grad_(), spikes(3, 2, 5, seed=1).requires_grad_()
        with carry(net, detach=detach):
            net(x1)
            y = net(x2).sum()
        g1, g2 = torch.autograd.grad(y, [x1, x2], allow_unused=True)
        assert (g1 is None) == detach
        assert g2.abs().sum() > 0


def test_reset_restarts_single_samples_from_the_initial_value():
    net, x = network(0.25), spikes(7, 3, 5)
    with carry(net) as state:
        net(x)
        state.reset(torch.tensor([False, True, False]))
        y = net(x)
    with carry(net):
        net(x)
        on = net(x)
    assert torch.equal(y[:, 1], net(x)[:, 1])
    assert torch.equal(y[:, [0, 2]], on[:, [0, 2]])
    assert not torch.equal(y[:, 1], on[:, 1])


def test_reset_with_an_initial_value_for_each_neuron():
    class Wide(Leak):
        def keep(self, state, initial):
            super().keep(state, {"v": torch.arange(5.0)})

    net, x = Wide(), torch.zeros(1, 3, 5)
    with carry(net) as state:
        net(x)
        state.reset(torch.tensor([True, False, False]))
        assert net(x)[0].tolist() == [[0.0, 0.5, 1.0, 1.5, 2.0], [0.0] * 5, [0.0] * 5]


@pytest.mark.parametrize("mask", [torch.ones(3), torch.ones(3, 1, dtype=torch.bool), torch.ones(2, dtype=torch.bool)])
def test_reset_refuses_a_mask_that_is_not_one_bool_a_sample(mask):
    net = network()
    with carry(net) as state:
        net(spikes(2, 3, 5))
        with pytest.raises(ValueError, match="carry: reset"):
            state.reset(mask)
        with pytest.raises(TypeError, match=r"a tensor \[B\] of bool, got \[True, False, True\]. Write torch.tensor"):
            state.reset([True, False, True])


def test_reset_before_the_first_call_does_nothing():
    net, x = network(0.25), spikes(2, 3, 5)
    whole = net(x)
    with carry(net) as state:
        state.reset(torch.tensor([True, True, True]))
        assert torch.equal(net(x), whole)


def test_a_changed_batch_names_the_layer_and_the_remedy():
    net = nn.ModuleDict({"blocks": nn.Sequential(nn.ModuleDict({"lif": Leak()}))})
    layer = net["blocks"][0]["lif"]
    with carry(net):
        layer(torch.zeros(2, 64, 3))
        with pytest.raises(ValueError) as error:
            layer(torch.zeros(2, 32, 3))
    assert str(error.value) == (
        "carry: blocks.0.lif holds a state for 64 samples, got 32. Start a new carry block when the batch changes."
    )


def test_changed_features_name_both_shapes():
    layer = Leak()
    with carry(layer):
        layer(torch.zeros(2, 4, 3, 8))
        with pytest.raises(ValueError, match=r"Leak holds a state for inputs \[T, B, 3, 8\], got \[T, B, 1, 8\]"):
            layer(torch.zeros(2, 4, 1, 8))


def test_state_is_not_in_state_dict_nor_in_copies():
    net, x = network(), spikes(7, 3, 5)
    keys, first = list(net.state_dict()), net(x)
    with carry(net):
        net(x)
        assert list(net.state_dict()) == keys
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        for other in (
            copy.deepcopy(net),
            pickle.loads(pickle.dumps(net)),
            torch.load(file, weights_only=False),
        ):
            assert torch.equal(other(x), first)
            assert all("_slot" not in layer.__dict__ for layer in other.modules())
            assert all(
                hook.owner is None for hook in other._forward_pre_hooks.values()
            )  # holds neither block nor model
            with carry(other):
                assert torch.equal(other(x), first)
        assert copy.copy(net[1])._slot is None


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"carry expects a model, got 3. Write: with carry\(model\)"):
        carry(3)


def test_a_model_without_state_is_fine():
    net = nn.Linear(5, 2)
    with carry(net) as state:
        net(torch.zeros(3, 2, 5))
        state.reset(torch.tensor([True, False]))


def test_a_layer_that_runs_twice_in_one_forward_is_an_error_in_a_block_only():
    layer = Leak()
    net, x = nn.Sequential(layer, nn.Identity(), layer), spikes(7, 3, 5)
    net(x)
    with carry(net), pytest.raises(RuntimeError, match="carry: 0 runs twice in one forward pass"):
        net(x)
    with carry(net):
        layer(x)
        layer(x)  # called by itself: two chunks


def test_a_forward_that_failed_does_not_count():
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.leak = Leak()
            self.good = False

        def forward(self, x):
            y = self.leak(x)
            if not self.good:
                raise OSError
            return y

    net, x = Moody(), spikes(7, 3, 5)
    with carry(net):
        with pytest.raises(OSError):
            net(x)
        net.leak(x)
        net.leak(x)
        net.good = True
        net(x)


def test_the_state_is_not_changed_through_the_input_or_the_output():
    class Newest(Stateful):
        """The last step before this chunk."""

        def forward(self, x):
            state = self.carried(x.shape[1])
            self.keep({"x": x[-1]}, {"x": 0.0})
            return x if state is None else state["x"] + 0 * x

    layer, x = Newest(), torch.ones(2, 3, 5)
    with carry(layer):
        layer(x)
        x.zero_()
        assert layer(torch.ones(1, 3, 5)).sum() == 15


def test_memory_of_a_sequence_is_not_held_by_its_last_step():
    layer, x = Leak(), torch.zeros(100, 3, 5)
    with torch.no_grad(), carry(layer):
        layer(x)
        assert layer._slot.state["v"].untyped_storage().nbytes() == 3 * 5 * 4


def test_data_parallel_is_refused_with_the_remedy():
    from torch.nn.parallel import replicate

    assert "_replicate_for_data_parallel" in replicate.__code__.co_names  # torch still asks each module
    with pytest.raises(RuntimeError, match="Leak under DataParallel: it cuts axis 0, which is time here.*Distributed"):
        Leak()._replicate_for_data_parallel()


@pytest.mark.parametrize("compiled_inside", [True, False])
def test_a_compiled_network_carries_its_state(compiled_inside):
    torch._dynamo.reset()
    net, x = network(0.25), spikes(7, 3, 5)
    whole = net(x)
    fast = torch.compile(net, backend="aot_eager", fullgraph=True)
    if not compiled_inside:
        fast(x)
    for _ in range(2):
        with carry(net) as state:
            assert torch.equal(torch.cat([fast(x[:3]), fast(x[3:])]), whole)
            state.reset(torch.tensor([True, False, True]))
            assert torch.equal(fast(x[:3])[:, [0, 2]], whole[:3, [0, 2]])
        assert torch.equal(fast(x), whole)


@pytest.mark.parametrize("grad", [True, False])
def test_a_compiled_network_compiles_twice_however_many_calls_and_blocks(grad):
    torch._dynamo.reset()
    counter = CompileCounter()
    net, x = nn.Sequential(nn.Linear(5, 4), LIF(), nn.Linear(4, 3), LIF(), SumOverTime()), spikes(7, 3, 5).float()
    fast = torch.compile(net, backend=counter, fullgraph=True)
    for _ in range(2):
        with torch.set_grad_enabled(grad), carry(net, detach=True):
            for chunk in [*x[:5].split(1), x[5:6]]:
                fast(chunk)
    assert counter.frame_count == 2


def test_a_layer_alone_is_called_without_hooks_and_a_model_with_one_of_each_kind():
    alone, model = LIF(), nn.Sequential(LIF())
    with carry(alone), carry(model):
        assert not alone._forward_pre_hooks and not alone._forward_hooks
        assert len(model._forward_pre_hooks) == len(model._forward_hooks) == 1
        x = torch.rand(6, 2, 3)
        for layer in (alone, model):
            assert torch.equal(torch.cat([layer(x[:2]), layer(x[2:4]), layer(x[4:])]), LIF()(x))
    assert not model._forward_pre_hooks and not model._forward_hooks


def test_export_inside_a_block_is_refused_and_leaves_the_state():
    net, x = torch.nn.Sequential(torch.nn.Linear(4, 4), LIF()).eval(), torch.rand(3, 2, 4)
    with carry(net), torch.no_grad():
        net(x)
        with pytest.raises(Exception, match="inside a carry block would leave its own tensors"):
            torch.export.export(net, (x,))
        assert net(x).shape == x.shape
    assert torch.export.export(net, (x,)) is not None
