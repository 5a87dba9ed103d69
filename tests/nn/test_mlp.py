"""The MLP with and without its inner shortcut, and the block."""

import pytest
import torch
from torch import nn

import snnkit
from snnkit.nn import MLP, SSA, Block, Chain, MembraneShortcut, SEWShortcut
from snnkit.nn.attention import PaperLIF
from tests.nn.layers import spikes
from tests.nn.official import NeuronFirst, layers, reproduces
from tests.shared import fixture


def test_the_inner_shortcut_is_the_official_one():
    rows = [("fc1_lif.", "neuron."), ("fc2_lif.", "block.fc1.neuron."), *layers("fc1", "fc2")]
    block = MLP(8, 8, inner_shortcut=True, fires=False)
    reproduces(NeuronFirst(PaperLIF(v_threshold=1.0), block), fixture("ms_mlp_res"), rows)


def stream(channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(4, 2, channels, 3, 5), spikes(4, 2, channels, 3, 5).float()


@pytest.mark.parametrize("inner", [False, True])
def test_the_branch_is_two_layers(inner):
    torch.manual_seed(0)
    mlp = MLP(6, 6, inner_shortcut=inner).eval()
    for norm in (mlp.fc1.norm, mlp.fc2.norm):
        nn.init.uniform_(norm.bias, 0.5, 2.5)
    u, s = stream(6)

    def layer(part, s):
        return part.norm(part.conv(s.flatten(0, 1))).unflatten(0, s.shape[:2])

    first = layer(mlp.fc1, s)
    if inner:
        u_after = u + first + layer(mlp.fc2, mlp.fc1.neuron(u + first))
    else:
        u_after = u + layer(mlp.fc2, mlp.fc1.neuron(first))
    got, fired = mlp(u, s)
    torch.testing.assert_close(got, u_after, rtol=0, atol=1e-6)
    assert torch.equal(fired, mlp.fc2.neuron(got)) and fired.any()


@pytest.mark.parametrize("shortcut", [MembraneShortcut(), SEWShortcut()], ids=repr)
@pytest.mark.parametrize("inner", [False, True])
def test_a_dropped_sample_loses_both_layers_and_a_kept_one_has_both_scaled(inner, shortcut):
    torch.manual_seed(0)
    mlp = MLP(6, 6, inner_shortcut=inner, shortcut=shortcut, drop_path=0.25).double().train()
    for norm in (mlp.fc1.norm, mlp.fc2.norm):
        nn.init.uniform_(norm.bias, 0.5, 2.5)
    u = torch.randint(0, 3, (4, 40, 6, 3, 5)).double()
    s = spikes(4, 40, 6, 3, 5).double()
    got, fired = mlp(u, s)
    plain = MLP(6, 6, inner_shortcut=inner, shortcut=shortcut).double().train()
    plain.load_state_dict(mlp.state_dict())
    whole = plain(u, s)[0] - u
    kept = torch.tensor([not torch.equal(got[:, b], u[:, b]) for b in range(40)])
    assert 20 < kept.sum() < 40
    torch.testing.assert_close((got - u)[:, kept], whole[:, kept] / 0.75, rtol=1e-9, atol=1e-9)
    assert fired is got if isinstance(shortcut, SEWShortcut) else torch.equal(fired, mlp.fc2.neuron(got))


def test_with_spike_shortcuts_the_stream_is_a_whole_number():
    torch.manual_seed(0)
    mlp = MLP(6, 12, shortcut=SEWShortcut())
    _, s = stream(6)
    u, fired = mlp(2 * s, s)
    assert u is fired and set(u.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}


def test_a_block_is_the_mlp_after_the_mixer_and_a_chain_one_after_the_other():
    torch.manual_seed(0)
    mixer, mlp = SSA(6, 2).eval(), MLP(6, 12, fires=False).eval()
    pair = stream(6)
    expected = mlp(*mixer(*pair))
    for whole in (Block(mixer, mlp), Chain(mixer, mlp)):
        for a, b in zip(whole(*pair), expected, strict=True):
            assert torch.equal(a, b)
    assert expected[0] is expected[1], "without a neuron the stream alone goes on"


def test_gradients_equal_finite_differences_of_the_relaxed_block():
    torch.manual_seed(0)
    mlp = MLP(3, 3, inner_shortcut=True).double()
    u, s = (x.double().requires_grad_() for x in stream(3))
    with snnkit.relaxed(mlp):
        assert torch.autograd.gradcheck(mlp, (u, s), fast_mode=True)


def test_the_inner_shortcut_wants_equal_channels():
    with pytest.raises(ValueError, match="inner_shortcut adds 12 to 6 channels: hidden must equal dim"):
        MLP(6, 12, inner_shortcut=True)
