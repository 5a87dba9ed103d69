"""Q-SDSA alone: its mix by hand, its quantised projections, and its neurons."""

import math

import pytest
import torch
from torch import nn

from snnkit.nn import IELIF, LIF, QSDSA, LSQConv2d, RepConv
from snnkit.nn.quantised_attention import integer_neuron, quantised_pointwise, quantised_repconv


def test_the_mix_by_hand():
    # Two channels, one head, tokens a and b. q = [[1, .5], [0, .25]], k = [[1, 0], [.5, 1]], v = [[1, .75], [0, 1]],
    # rows are tokens: k^T v = [[1, 1.25], [0, 1]], q (k^T v) = [[1, 1.75], [0, .25]], rounded, halves up: 1 2 0 0.
    q, k, v = (
        torch.tensor(rows, dtype=torch.float64).T.reshape(1, 1, 2, 1, 2)
        for rows in ([[1, 0.5], [0, 0.25]], [[1, 0], [0.5, 1]], [[1, 0.75], [0, 1]])
    )
    block = QSDSA(2, heads=1)
    assert block.mix(q, k, v).reshape(2, 2).T.tolist() == [[0.5, 1.0], [0.0, 0.0]]
    assert block.mix(q * 2, k, v).reshape(2, 2).T.tolist() == [[1.0, 2.0], [0.0, 0.5]]  # 2, 3.5 -> 4, 0, 0.5 -> 1
    assert block.mix(q * 9, k, v).max() == 2, "no more than D spikes"


def test_its_gradient_is_twice_that_of_the_product_inside_the_range():
    block = QSDSA(2, heads=1)
    q, k, v = (torch.rand(1, 1, 2, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(3))
    weight = torch.randn(1, 1, 2, 2, 2, dtype=torch.float64)
    got = torch.autograd.grad((block.mix(q, k, v) * weight).sum(), (q, k, v))
    qh, kh, vh = (x.flatten(3).mT for x in (q, k, v))
    product = 0.25 * (qh @ (kh.mT @ vh)).mT.reshape(q.shape)
    inside = (product > 0) & (product < 1)
    expected = torch.autograd.grad((2 * product * inside * weight).sum(), (q, k, v))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("bits", [2, 8])
def test_all_projections_are_quantised_repconvs(bits):
    block = QSDSA(6, heads=2, bits=bits)
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 4 * 3 and all(type(m) is LSQConv2d and m.bits == bits for m in convs)
    assert all(isinstance(getattr(block, name).conv, RepConv) for name in ("q", "k", "v", "proj"))
    u = torch.randn(3, 2, 6, 4, 5)
    out, s = block(u, IELIF()(u))
    (out.sum() + s.sum()).backward()
    assert out.shape == s.shape == u.shape
    assert all(p.grad is not None for p in block.parameters())


def test_other_neurons_levels_and_projections_by_keyword():
    neuron = QSDSA(4, heads=2, neuron=LIF).neuron
    assert repr(neuron).startswith("LIF(v_threshold=0.5")
    block = QSDSA(4, heads=2, projection=quantised_pointwise, scale=0.5)
    assert type(block.q.conv) is LSQConv2d and block.scale == 0.5
    neuron = integer_neuron(0.5, D=8)
    assert (neuron.D, neuron.gain, neuron.divisor) == (8, 8.0, 4.0)


def test_quantised_layers_have_a_bias_where_they_can():
    assert quantised_pointwise(4, 6, True).bias is not None and quantised_pointwise(4, 6).bias is None
    layer = quantised_repconv(4, 6, bits=3)
    layer(torch.randn(2, 4, 5, 5))
    start = 2 * layer.mix.weight.abs().mean().item() / math.sqrt(3)
    assert layer.mix.alpha.tolist() == pytest.approx([start] * 4)
    with pytest.raises(ValueError, match="RepConv has no bias, got bias=True"):
        quantised_repconv(4, 6, True)
