"""The end of a layer: norm, pool, scale, shortcut, drop path and neuron; still images; other people's neurons."""

import copy

import pytest
import torch
from torch import Tensor, nn

import snnkit
from snnkit.nn import LIF, ConvNormNeuron, MembraneShortcut, NormNeuron, PerStep, SEWShortcut
from tests.nn.layers import spikes

T, B, C, H, W = 4, 3, 2, 5, 6


class Fires(nn.Module):
    """A neuron that is not ours: s[t] = [x[0] + ... + x[t] >= 1]."""

    def forward(self, x: Tensor) -> Tensor:
        """Spikes ``[T, B, ...]``."""
        return (x.cumsum(0) >= 1).to(x)


def filled(layer: NormNeuron) -> NormNeuron:
    """Norms with other numbers than 0 and 1, so that none can be forgotten."""
    for norm in layer.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.uniform_(norm.bias, 0.5, 1.5)
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return layer.double()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def rows(t: int = T) -> Tensor:
    return torch.rand(t, B, C, H, W, dtype=torch.float64)


def test_the_membrane_shortcut_adds_before_the_neuron():
    layer, y, u = NormNeuron(nn.Identity(), Fires()), rows(), rows()
    total, s = layer(y, u)
    assert torch.equal(total, u + y) and torch.equal(s, Fires()(u + y))
    alone, s = layer(y)
    assert torch.equal(alone, y) and torch.equal(s, Fires()(y))


def test_the_spike_shortcut_adds_behind_the_neuron():
    layer, y, u = NormNeuron(nn.Identity(), Fires(), SEWShortcut()), rows(), 2 * spikes(T, B, C, H, W)
    total, s = layer(y, u)
    assert torch.equal(total, u + Fires()(y)) and s is total
    alone, s = layer(y)
    assert torch.equal(alone, Fires()(y)) and s is alone


@pytest.mark.parametrize("shortcut", [MembraneShortcut(), SEWShortcut()], ids=repr)
def test_without_a_neuron_the_sum_goes_on(shortcut):
    y, u = rows(), rows()
    total, s = NormNeuron(nn.Identity(), shortcut=shortcut)(y, u)
    assert torch.equal(total, u + y) and s is total


def test_norm_then_pool_then_scale():
    norm, pool = nn.BatchNorm2d(C), nn.MaxPool2d(3, 2, 1)
    layer = filled(NormNeuron(norm, Fires(), pool=pool, scale=0.25)).eval()
    layer.scale.data[1] = -3  # a negative factor shows that the pool stands before it
    y = rows()
    expected = pool(norm(y.flatten(0, 1))).unflatten(0, (T, B)) * torch.tensor([0.25, -3]).reshape(2, 1, 1)
    assert torch.equal(layer(y)[0], expected)
    layer(y)[0].sum().backward()
    assert layer.scale.shape == (C, 1, 1) and layer.scale.grad.all()


def test_batch_norm_takes_its_statistics_over_time_and_batch():
    layer = filled(NormNeuron(nn.BatchNorm2d(C)))
    nn.init.ones_(layer.norm.weight), nn.init.zeros_(layer.norm.bias)
    z, _ = layer(rows())
    torch.testing.assert_close(z.mean((0, 1, 3, 4)), torch.zeros(C).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(z.var((0, 1, 3, 4), correction=0), torch.ones(C).double(), atol=1e-3, rtol=0)


def test_the_norm_is_that_of_the_last_convolution_unless_it_is_given():
    conv = nn.Sequential(nn.Conv2d(C, 7, 1), nn.Conv2d(7, 4, 3, padding=1))
    assert ConvNormNeuron(conv).norm.num_features == 4
    layer = ConvNormNeuron(nn.Conv2d(C, 4, 1), norm=nn.GroupNorm(2, 4)).double()
    assert layer(rows())[0].shape == (T, B, 4, H, W)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("neuron", [LIF(tau=2.0), Fires(), None], ids=["LIF", "not ours", "none"])
def test_a_still_image_equals_its_repetition(neuron, momentum):
    layer = filled(ConvNormNeuron(nn.Conv2d(C, 4, 3, padding=1), neuron, pool=nn.MaxPool2d(2))).train()
    layer.norm.momentum = momentum
    other = copy.deepcopy(layer)
    for _ in range(3):  # a cumulative mean (momentum None) weighs each call differently
        image = rows(1)
        u, s = layer(image, steps=T)
        u_repeated, s_repeated = other(image.expand(T, -1, -1, -1, -1))
        assert len(u) == 1
        torch.testing.assert_close(u.expand_as(u_repeated), u_repeated, rtol=1e-12, atol=1e-12)
        assert torch.equal(s.expand_as(s_repeated), s_repeated) or neuron is None
        weight = torch.rand_like(u_repeated)
        ((u + s) * weight).sum().backward()
        ((u_repeated + s_repeated) * weight).sum().backward()
    for (name, a), b in zip(layer.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-10, msg=name)
    for (name, a), b in zip(layer.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14, msg=name)


class OfTwo(nn.SyncBatchNorm):
    """A synchronised norm as the first of two processes has it: it sees the second one's rows, too."""

    def forward(self, x: Tensor) -> Tensor:
        """Norm of x by the statistics of both."""
        self.num_batches_tracked.add_(1)
        both = torch.cat([x, self.others])
        y = nn.functional.batch_norm(both, self.running_mean, self.running_var, training=True, momentum=self.momentum)
        return y[: len(x)]


def test_a_still_image_of_a_synchronised_norm_counts_the_rows_of_all_processes(monkeypatch):
    layer, other = NormNeuron(OfTwo(C)).double().train(), NormNeuron(nn.BatchNorm2d(C)).double().train()
    image, layer.norm.others = rows(1), rows(1)[0]
    layer.norm.process_group = "a group"
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: {"a group": 2}[group])
    layer(image, steps=T)
    other(torch.cat([image, layer.norm.others[None]], dim=1).expand(T, -1, -1, -1, -1))
    torch.testing.assert_close(layer.norm.running_var, other.norm.running_var, rtol=1e-12, atol=0)


@pytest.mark.parametrize("neuron", [LIF(tau=2.0), Fires()], ids=["LIF", "not ours"])
def test_a_still_branch_meets_a_stream_that_moves_and_one_that_does_not(neuron):
    layer = NormNeuron(nn.Identity(), neuron)
    y = rows(1)
    for u in (rows(), rows(1)):
        total, s = layer(y, u, steps=T)
        assert len(total) == len(u) and len(s) == T
        assert torch.equal(s, neuron((u + y).expand(T, -1, -1, -1, -1)))


def test_statistics_stay_in_eval_mode_and_without_tracking():
    layer = filled(NormNeuron(nn.BatchNorm2d(C))).eval()
    before = copy.deepcopy(layer.norm.state_dict())
    layer(rows(1), steps=T)
    assert all(torch.equal(value, before[name]) for name, value in layer.norm.state_dict().items())
    NormNeuron(nn.BatchNorm2d(C, track_running_stats=False)).double()(rows(1), steps=T)


@pytest.mark.parametrize("shortcut", [MembraneShortcut(), SEWShortcut()], ids=repr)
def test_drop_path_takes_the_branch_of_a_sample_at_all_steps_alike(shortcut):
    layer = NormNeuron(nn.Identity(), Fires(), shortcut, drop_path=0.25).train()
    u, y = torch.zeros(T, 200, 1, 2, 3), torch.full((T, 200, 1, 2, 3), 0.75)
    branch = Fires()(y) if isinstance(shortcut, SEWShortcut) else y
    share = layer(y, u)[0] / branch.clamp(min=0.1)
    kept = share[-1].flatten(1)[:, 0] > 0
    assert 0.6 < kept.float().mean() < 0.9
    torch.testing.assert_close(share[:, ~kept], torch.zeros_like(share[:, ~kept]))
    torch.testing.assert_close(share[:, kept], (branch > 0)[:, kept] / 0.75)
    assert torch.equal(layer.eval()(y, u)[0], branch), "eval mode drops nothing"
    assert torch.equal(layer.train()(y)[0], branch), "without a stream there is nothing else to keep"


def test_our_neurons_are_observed_and_get_the_gradient_of_one_row():
    layer = filled(ConvNormNeuron(nn.Conv2d(C, 4, 1), LIF(tau=2.0)))
    image = rows(1).requires_grad_()
    with snnkit.firing_rates(layer) as rates:
        _, s = layer(image, steps=T)
    assert rates["neuron"] == pytest.approx(s.mean().item()) and 0 < rates["neuron"] < 1
    s.sum().backward()
    assert image.grad.shape == image.shape and image.grad.any()


def test_carry_in_chunks_equals_the_whole():
    layer = filled(ConvNormNeuron(nn.Conv2d(C, 4, 1), LIF(tau=2.0))).eval()
    x, u = rows(7), torch.rand(7, B, 4, H, W, dtype=torch.float64)
    whole = layer(x, u)
    with snnkit.carry(layer):
        parts = [layer(x[a:b], u[a:b]) for a, b in ((0, 2), (2, 3), (3, 7))]
    for i in range(2):
        assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])


def test_errors_say_what_was_got():
    layer = NormNeuron(nn.Identity(), Fires())
    with pytest.raises(ValueError, match=r"steps=3 wants one row \[1, B, ...\] that is read 3 times, got 4 rows."):
        layer(rows(), steps=3)
    with pytest.raises(TypeError, match="drop_path"):
        NormNeuron(nn.Identity(), drop_paths=0.1)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\), got 1.5"):
        NormNeuron(nn.Identity(), drop_path=1.5)
    with pytest.raises(TypeError, match="PerStep takes modules without time"):
        PerStep(NormNeuron(nn.Identity(), LIF()))


def test_the_shortcut_is_printed():
    assert "shortcut=SEWShortcut()" in repr(NormNeuron(nn.Identity(), shortcut=SEWShortcut()))
