"""Patch embeddings with max pools: formulas, sizes, still images."""

import pytest
import torch
from torch.nn import functional as F

from snnkit.nn import (
    FlatStem,
    MaxEmbedding,
    MaxStem,
    PooledStem,
    PoolFirstEmbedding,
    PoolLastEmbedding,
    StridedStem,
)

STEMS = [FlatStem, StridedStem, PooledStem, MaxStem]


def drawn(layer):
    for norm in layer.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.weight, 1, 2)
            torch.nn.init.normal_(norm.bias, 0.7, 0.5)
    return layer.double()


def branch(layer, s):
    """Convolution and norm, one step at a time in eval mode."""
    return torch.stack([layer.norm(layer.conv(step)) for step in s])


def pooled(u):
    return torch.stack([F.max_pool2d(step, 3, 2, 1) for step in u])


@pytest.mark.parametrize("stem", STEMS)
def test_a_still_image_is_a_sequence_of_equal_ones_statistics_included(stem):
    torch.manual_seed(0)
    still = drawn(stem(3, 16))
    moving = drawn(stem(3, 16))
    moving.load_state_dict(still.state_dict())
    x = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    u, s = still(x[None], 5)
    v, z = moving(x.expand(5, *x.shape))
    assert u.shape == s.shape == (5, 2, 16, 16 // stem.stride, 24 // stem.stride)
    torch.testing.assert_close(u, v, rtol=1e-10, atol=1e-10)
    assert torch.equal(s, z) and 0.01 < s.mean() < 0.99
    for key, value in still.state_dict().items():
        torch.testing.assert_close(value, moving.state_dict()[key], rtol=1e-10, atol=1e-10, msg=key)


@pytest.mark.parametrize("embedding", [MaxEmbedding, PoolFirstEmbedding, PoolLastEmbedding])
def test_pools_stand_behind_the_norm_and_before_the_neuron(embedding):
    torch.manual_seed(1)
    layer = drawn(embedding(4, 6)).eval()
    s = (torch.rand(3, 2, 4, 8, 12) < 0.3).double()
    one, two = layer.layers
    short = branch(layer.shortcut, s)
    if embedding is MaxEmbedding:
        short = pooled(short)
    if embedding is PoolLastEmbedding:
        expected = pooled(branch(two, one.neuron(branch(one, s)))) + short
    else:
        expected = branch(two, one.neuron(pooled(branch(one, s)))) + short
    u, fired = layer(torch.zeros_like(s), s)
    torch.testing.assert_close(u, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(fired, two.neuron(u)) and 0 < fired.mean() < 1
    assert u.shape == (3, 2, 6, 4, 6)


def test_a_stems_shortcut_reads_the_spikes_of_the_layer_named():
    torch.manual_seed(2)
    stem = drawn(MaxStem(2, 16)).eval()
    x = torch.rand(3, 2, 2, 16, 24, dtype=torch.float64) * 3
    spikes = [x]
    for layer in stem.layers[:-1]:
        u = branch(layer, spikes[-1])
        spikes.append(layer.neuron(pooled(u) if layer.pool is not None else u))
    expected = pooled(branch(stem.layers[-1], spikes[3])) + branch(stem.shortcut, spikes[2])
    torch.testing.assert_close(stem(x)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stem", STEMS)
def test_every_parameter_of_a_stem_learns(stem):
    torch.manual_seed(3)
    layer = drawn(stem(3, 16))
    u, s = layer(torch.rand(1, 2, 3, 16, 16, dtype=torch.float64), 4)
    ((u * torch.rand_like(u)).sum() + (s * torch.rand_like(s)).sum()).backward()
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
