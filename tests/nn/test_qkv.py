"""Queries, keys and values of attention layers: layout, order, checkpointing, and what is left behind."""

import pytest
import torch
from torch import nn

from snnkit.nn import LIF, SDSA2, SSA, checkpoint, queries_keys_values


def stream(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    u = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1
    return u, (u > 1).double()


def test_the_product_of_what_is_found_is_that_of_the_block():
    block = SSA(6, heads=3).double()
    u, s = stream(4, 2, 6, 3, 5)
    with queries_keys_values(block) as found:
        block(u, s)
    assert list(found) == ["q", "k", "v"] and found["q"].shape == (4, 2, 3, 15, 2)
    a = found["q"] @ found["k"].mT @ found["v"] * block.scale
    by_channels = a.mT.reshape(s.shape)
    q, k, v = (getattr(block, name).eval()(s)[1] for name in "qkv")
    block.train()
    with queries_keys_values(block) as found:
        block(u, s)
    again = found["q"] @ found["k"].mT @ found["v"] * block.scale
    torch.testing.assert_close(again.mT.reshape(s.shape), by_channels)
    assert {q.shape, k.shape, v.shape} == {s.shape}


def test_names_are_those_of_the_layers_and_another_call_replaces_them():
    model = nn.ModuleDict({"a": SSA(4, heads=2), "b": SDSA2(4, heads=2)}).double()
    with queries_keys_values(model) as found:
        for seed in range(2):
            u, s = stream(3, 2, 4, 2, 2, seed=seed)
            model["b"](*model["a"](u, s))
    assert list(found) == ["a.q", "a.k", "a.v", "b.q", "b.v"]
    assert {f.shape for f in found.values()} == {(3, 2, 2, 4, 2)}
    model["a"](*stream(5, 1, 4, 2, 2))
    assert found["a.q"].shape[0] == 3, "outside of the block nothing is kept"


def test_gradients_pass_through_a_checkpointed_block():
    gradients = []
    for wrapped in (False, True):
        torch.manual_seed(0)
        block = SSA(4, heads=2).double()
        u, s = stream(3, 2, 4, 2, 3)
        s.requires_grad_()
        with queries_keys_values(block) as found:
            u, _ = checkpoint(block, u, s) if wrapped else block(u, s)
            kept = dict(found)
            (sum(f.square().sum() for f in found.values()) + u.square().sum()).backward()
            assert all(found[name] is f for name, f in kept.items()), "the second run is not looked at"
        gradients.append([s.grad, *(p.grad for p in block.parameters() if p.grad is not None)])
    assert len(gradients[0]) > 8
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-12, atol=1e-12)


def test_a_network_without_attention_is_refused():
    with pytest.raises(ValueError, match="LIF has no layer of SpikeAttention"), queries_keys_values(LIF()):
        pass
