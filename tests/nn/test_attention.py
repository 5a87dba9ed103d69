"""Spike-driven attention: official numbers, our own definitions by hand, gradients, and who may see whom."""

from functools import partial

import pytest
import torch
from torch import nn

import snnkit
from snnkit.nn import (
    PLIF,
    SDSA1,
    SDSA2,
    SDSA3,
    SDSA4,
    SSA,
    ChannelQK,
    ConvNormNeuron,
    MembraneShortcut,
    SEWShortcut,
    SpikeAttention,
    TokenQK,
)
from snnkit.nn.attention import PaperLIF, linear_attention, pointwise
from tests.nn.layers import spikes
from tests.nn.official import Branch, NeuronFirst, layers, reproduces
from tests.shared import fixture

CLASSES = [SSA, SDSA1, SDSA2, SDSA3, SDSA4, TokenQK, ChannelQK]
BY_HEAD = [SSA, SDSA3, SDSA4, TokenQK]
BY_CHANNEL = [SDSA1, SDSA2, ChannelQK]
ATTENTION = [*layers("q", "k", "v", "proj"), ("attn_lif.", "block.neuron.")]
REPCONV = {"0.body.0": "conv.mix", "0.body.1.bn": "conv.mix_norm", "0.body.2.0": "conv.depthwise"} | {
    "0.body.2.1": "conv.pointwise", "0.body.2.2": "conv.norm", "1": "norm"
}  # fmt: skip


def lif(threshold: float = 1.0) -> nn.Module:
    return PaperLIF(v_threshold=threshold)


def test_ssa_is_the_official_one_of_imagenet():
    reproduces(Branch(SSA(16, 2, shortcut=SEWShortcut())), fixture("ssa"), ATTENTION)


def test_ssa_is_the_official_one_of_cifar_with_linear_layers():
    reproduces(
        Branch(SSA(16, 2, bias=True, shortcut=SEWShortcut())),
        fixture("ssa_linear"),
        ATTENTION,
        ours=lambda x: x.mT.unflatten(-1, (3, 3)),
        theirs=lambda y: y.flatten(-2).mT,
    )


def test_ssa_is_the_official_one_of_events_with_another_scale():
    reproduces(
        Branch(SSA(16, 2, scale=0.25, shortcut=SEWShortcut())),
        fixture("ssa_dvs"),
        ATTENTION,
        ours=lambda x: x.unflatten(-1, (3, 3)),
        theirs=lambda y: y.flatten(-2),
    )


@pytest.mark.parametrize(("name", "erode"), [("sdsa1", False), ("sdsa1_dvs", True)])
def test_sdsa1_is_the_official_one(name, erode):
    rows = [("shortcut_lif.", "neuron."), ("talking_heads_lif.", "block.neuron."), *ATTENTION]
    block = SDSA1(16, 2, erode=erode, fires=False)
    reproduces(NeuronFirst(lif(), block), fixture(name), rows, dead=("talking_heads.weight",))


def test_sdsa3_is_the_official_one():
    rows = [("head_lif.", "neuron."), ("attn_lif.", "block.neuron.")]
    for part in ("q", "k", "v", "proj"):
        rows += [(f"{part}_conv.{a}.", f"block.{part}.{b}.") for a, b in REPCONV.items()]
        rows += [(f"{part}_lif.", f"block.{part}.neuron.")]

    class WithoutShortcut(NeuronFirst):
        def forward(self, u):
            return self.block(None, self.neuron(u))[0]

    reproduces(WithoutShortcut(lif(), SDSA3(16, 2, fires=False)), fixture("sdsa3"), rows)


def test_ssa_with_membrane_shortcut_is_the_official_one():
    block = SSA(16, 2, shortcut=MembraneShortcut(), fires=False)
    reproduces(NeuronFirst(lif(), block), fixture("ms_ssa"), [("x_lif.", "neuron."), *ATTENTION])


def test_ssa_with_a_depthwise_convolution_behind_it_is_the_official_one():
    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = SSA(8, 1)
            self.local = ConvNormNeuron(nn.Conv2d(8, 8, 5, padding=2, groups=8))

        def forward(self, u, s):
            return self.local(self.block(None, s)[1], u)

    rows = [("x_lif.", "neuron."), ("dwc_neuron.", "block.block.proj.neuron.")]
    rows += [("dwc.", "block.local.conv."), ("dwc_bn.", "block.local.norm.")]
    rows += [(a, b.replace("block.", "block.block.")) for a, b in ATTENTION]
    reproduces(NeuronFirst(lif(), Local()), fixture("ms_ssa_dwc"), rows)


def test_token_qk_is_the_official_one_with_either_shortcut():
    original = Branch(TokenQK(8, 2, shortcut=SEWShortcut()))
    reproduces(original, fixture("token_qk_attention"), ATTENTION)
    membrane = NeuronFirst(lif(), TokenQK(8, 2, fires=False))
    reproduces(membrane, fixture("ms_token_qk_attention"), [("proj_lif.", "neuron."), *ATTENTION])


def picture(*channels: list[float]) -> torch.Tensor:
    """One step of one sample: a row of tokens for each channel, ``[1, 1, C, 1, N]``."""
    return torch.tensor(channels)[None, None, :, None]


def test_sdsa2_by_hand():
    # Channel 0 has a query: sum 1, membrane 1 / 2, which fires at 0.5. Channel 1 has none.
    q, v = picture([0.0, 1.0], [0.0, 0.0]), picture([1.0, 1.0], [1.0, 0.0])
    assert torch.equal(SDSA2(2, 1).mix(q, v), picture([1.0, 1.0], [0.0, 0.0]))


def test_channel_qk_by_hand():
    q, k = picture([0.0, 0.0], [1.0, 1.0]), picture([1.0, 0.0], [0.0, 1.0])
    assert torch.equal(ChannelQK(2, 1).mix(q, k), picture([0.0, 0.0], [0.0, 1.0]))


@pytest.mark.parametrize(
    ("threshold", "expected"),
    # The product is 4 in channel 0 and 2 in channel 1, the membranes are half of that.
    [(4.0, [[0.0, 0.0], [0.0, 0.0]]), (1.5, [[1.0, 1.0], [0.0, 0.0]]), (1.0, [[1.0, 1.0], [1.0, 1.0]])],
)
def test_sdsa4_by_hand(threshold, expected):
    attention = SDSA4(2, 1)
    assert attention.neuron.v_threshold.item() == 4.0
    attention.neuron.v_threshold.data.fill_(threshold)
    ones = picture([1.0, 1.0], [1.0, 1.0])
    spiking = attention.mix(ones, ones, picture([1.0, 1.0], [1.0, 0.0]))
    assert torch.equal(spiking, picture(*expected))
    spiking.sum().backward()
    assert attention.neuron.v_threshold.grad < 0


def test_sdsa4_starts_as_sdsa3():
    torch.manual_seed(0)
    a, b = SDSA3(8, 2), SDSA4(8, 2)
    b.load_state_dict({**a.state_dict(), "neuron.v_threshold": torch.tensor(4.0)})
    q, k, v = ((torch.rand(4, 3, 8, 4, 5) < 0.45).float() for _ in range(3))
    assert 0.1 < a.mix(q, k, v).mean() < 0.9
    assert torch.equal(a.mix(q, k, v), b.mix(q, k, v))


@pytest.mark.parametrize(("height", "width"), [(1, 3), (2, 2), (3, 5)], ids=["N<d", "N=d", "N>d"])
def test_either_order_of_the_products_gives_the_formula(height, width):
    torch.manual_seed(0)
    q, k, v = (torch.randint(0, 3, (2, 3, 8, height, width)).double().requires_grad_() for _ in range(3))

    def heads(x):
        return x.flatten(3).unflatten(2, (2, 4))

    expected = torch.einsum("tbhin,tbhim,tbhjm->tbhjn", heads(q), heads(k), heads(v)).reshape(q.shape)
    got = linear_attention(q, k, v, heads=2)
    assert torch.equal(got, expected)
    weight = torch.randint(-3, 4, q.shape).double()
    for a, b in zip(
        torch.autograd.grad(got, (q, k, v), weight), torch.autograd.grad(expected, (q, k, v), weight), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("make", [*CLASSES, partial(SDSA1, erode=True)])
def test_gradients_equal_finite_differences_of_the_relaxed_block(make):
    torch.manual_seed(0)
    block = make(4, 2, projection=pointwise).double().eval()  # RepConv's border has no gradient, as published
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 0.5, 1.5)
    names = [name for name, _ in block.named_parameters()]
    inputs = [torch.rand(3, 2, 4, 1, 3, dtype=torch.float64), spikes(3, 2, 4, 1, 3), *block.parameters()]
    inputs = [x.detach().clone().requires_grad_() for x in inputs]

    def run(u, s, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (u, s))

    with snnkit.relaxed(block):
        assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def mixed(attention: SpikeAttention, projected: list[torch.Tensor]) -> torch.Tensor:
    return attention.mix(*projected[: len(attention.projections)])


@pytest.mark.parametrize("cls", CLASSES)
def test_a_sample_does_not_see_its_batch_mates(cls):
    torch.manual_seed(0)
    block = cls(8, 2).eval()
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 0.5, 2.5)
    u, s = torch.rand(4, 3, 8, 2, 5), spikes(4, 3, 8, 2, 5).float()
    before = block(u, s)
    s[:, 1] = 1 - s[:, 1]
    after = block(u, s)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[:, [0, 2]], new[:, [0, 2]])
    assert not torch.equal(before[0][:, 1], after[0][:, 1])


@pytest.mark.parametrize("cls", CLASSES)
def test_a_head_or_channel_does_not_see_the_others(cls):
    torch.manual_seed(0)
    projected = [(torch.rand(4, 2, 12, 2, 3) < 0.7).float() for _ in range(3)]
    attention = cls(12, 3)
    before = mixed(attention, projected)
    # One head of three where products or sums stay within heads; one channel where they stay within channels.
    seen = slice(4, 8) if cls in BY_HEAD else slice(4, 5)
    for x in projected:
        x[:, :, seen] = 0
    after = mixed(attention, projected)
    rest = torch.ones(12, dtype=torch.bool)
    rest[seen] = False
    assert torch.equal(before[:, :, rest], after[:, :, rest]) and before[:, :, rest].any()
    assert before[:, :, seen].any() and not after[:, :, seen].any()
    assert cls in BY_HEAD or cls in BY_CHANNEL


def test_erosion_looks_at_neighbouring_channels_of_the_same_head_only():
    attention = SDSA1(8, 2, erode=True)
    q, kv = torch.zeros(1, 1, 8, 1, 5), torch.ones(1, 1, 8, 1, 5)
    q[:, :, 3, :, 2] = 1  # the last channel of head 0, token 2
    reached = attention.mix(q, kv, kv)[0, 0, :, 0]
    expected = torch.zeros(8, 5)
    expected[2:4, 1:4] = 1
    assert torch.equal(reached, expected)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_neuron_is_observed_and_every_parameter_learns(cls):
    torch.manual_seed(0)
    block = cls(8, 2)
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, 0.5, 2.5)
    with snnkit.firing_rates(block) as rates:
        u, s = block(torch.rand(4, 2, 8, 3, 5), spikes(4, 2, 8, 3, 5).float())
    assert set(rates) == {*(f"{name}.neuron" for name in (*cls.projections, "proj")), "neuron"}
    (u * torch.rand_like(u) + s * torch.rand_like(s)).sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_other_neurons_and_shortcuts_by_keyword():
    block = SSA(8, 2, neuron=PLIF, shortcut=SEWShortcut(), fires=False)
    assert isinstance(block.proj.neuron, PLIF), "a SEW block ends in a neuron whatever fires says"
    assert block.neuron.neuron.parameters()["v_threshold"] == 0.5
    assert SSA(8, 2, fires=False).proj.neuron is None


def test_an_attention_of_ones_own_is_its_mix():
    class Gate(SpikeAttention):
        projections = ("q",)
        mix_threshold = 1.0

        def mix(self, q):
            return self.neuron(2 * q)

    block = Gate(4, 2).eval()
    s = spikes(3, 2, 4, 2, 5).float()
    u, _ = block(torch.ones(1, 2, 4, 2, 5), s)
    assert torch.equal(u, 1 + block.proj(block.neuron(2 * block.q(s)[1]))[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SSA(10, 4), "heads must divide dim=10, got heads=4."),
        (lambda: SSA(8, 4, neuron=snnkit.nn.LIF()), r"be a class, .* got the layer LIF\(\)\. .*functools\.partial"),
        (lambda: SDSA3(8, 2, bias=True), "RepConv has no bias, got bias=True"),
        (lambda: SSA(8, 2, scales=0.25), "scale"),
    ],
)
def test_errors_say_what_was_got(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
    assert SDSA3(8, 2, projection=pointwise, bias=True).q.conv.bias is not None
