"""Local delays against a plain sum over places, taps and channels, and what they promise: the same at every place."""

import pytest
import torch
from torch import nn

import snnkit
from snnkit.nn import _delay_stream
from snnkit.nn.delay import DelayLinear
from snnkit.nn.local_delay import LocalDelayLinear
from snnkit.ops.delay import Triangle


def layer(**keywords):
    torch.manual_seed(0)
    sizes = dict(channels=11, out_features=3, window=5, stride=2, max_delay=4, profile=Triangle())
    return LocalDelayLinear(**sizes | keywords).double()


def test_a_place_hears_its_window_after_the_delays():
    local, x = layer(bias=True), torch.randn(9, 2, 11, dtype=torch.float64)
    y, kernel = local(x, tail=2), local.kernel()
    assert y.shape == (11, 2, 6, 3)
    wide = nn.functional.pad(x, (2, 2, 0, 0, 0, 2))  # (6 - 1) 2 + 5 channels, and two steps behind
    for t, place, out in ((0, 0, 0), (5, 3, 1), (10, 5, 2)):
        total = local.bias[out] + sum(
            kernel[out, i, 3 - d] * wide[t - d, :, 2 * place + i] for d in range(min(t, 3) + 1) for i in range(5)
        )
        torch.testing.assert_close(y[t, :, place, out], total, rtol=1e-12, atol=1e-12)


def test_a_pattern_that_is_a_stride_higher_moves_one_place():
    local, x = layer(), torch.zeros(6, 1, 11, dtype=torch.float64)
    x[1, 0, 4], x[2, 0, 5] = 1.0, 2.0
    torch.testing.assert_close(local(x.roll(2, 2))[:, :, 1:], local(x)[:, :, :-1], rtol=1e-12, atol=1e-12)


def test_one_place_that_hears_all_is_a_delay_linear():
    local = layer(channels=5, window=5, stride=5)
    full = DelayLinear(5, 3, 4, profile=Triangle()).double()
    full.load_state_dict(local.state_dict())
    x = torch.randn(7, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(local(x)[:, :, 0], full(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_delay", [1, 4])
def test_chunks_in_carry_are_the_whole(max_delay):
    local, x = layer(max_delay=max_delay), torch.randn(9, 2, 11, dtype=torch.float64)
    with snnkit.carry(local):
        parts = torch.cat([local(part) for part in x.split((1, 5, 3))])
    torch.testing.assert_close(parts, local(x), rtol=1e-12, atol=1e-12)


def test_a_stream_goes_event_by_event_where_path_says_so_and_a_reset_sample_forgets():
    local, x = layer(bias=True).discretize(), torch.eye(11, dtype=torch.float64).repeat(2, 1)[:20, None].repeat(1, 2, 1)
    x[:, 1] = x[:, 1].roll(4, 1)  # one spike a step and sample
    x[7:9] = torch.randn(2, 2, 11, dtype=torch.float64)
    said = []
    with torch.no_grad(), snnkit.carry(local) as state:
        parts = []
        for part in x.split([1] * 7 + [2] + [1] * 11):
            said.append(local.path(part).split()[0])
            parts.append(local(part))
        state.reset(torch.tensor([True, False]))
        later = local(x[:3])
    assert said == ["events"] * 7 + ["conv1d;"] + ["events"] * 11
    torch.testing.assert_close(torch.cat(parts), local(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(later[:, 0], local(x)[:3, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(later[:, 1], local(torch.cat([x, x[:3]]))[20:, 1], rtol=1e-12, atol=1e-12)


def test_events_are_taken_as_the_path_says(monkeypatch):
    local, calls = layer().discretize(), []
    taken = _delay_stream._by_events
    monkeypatch.setattr(_delay_stream, "_by_events", lambda *given: calls.append(1) or taken(*given))
    with torch.no_grad(), snnkit.carry(local):
        for step in torch.eye(11, dtype=torch.float64)[:, None].split(1):
            assert local.path(step).startswith("events")
            local(step)
    assert len(calls) == 11


def test_a_stream_of_another_batch_is_refused_by_the_number_of_samples():
    local = layer()
    with snnkit.carry(local):
        local(torch.zeros(4, 2, 11, dtype=torch.float64))
        with pytest.raises(ValueError, match="holds a state for 2 samples, got 3"):
            local(torch.zeros(4, 3, 11, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(0, 2, 11), (4, 0, 11)])
def test_empty_inputs_stream_too(shape):
    local = layer()
    with snnkit.carry(local):
        for _ in range(2):
            assert local(torch.zeros(shape, dtype=torch.float64)).shape == (*shape[:2], 6, 3)


def test_rounded_delays_take_whole_steps():
    kernel = layer().discretize().kernel()
    assert ((kernel != 0).sum(-1) == 1).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="stride must be <= window, else channels go unheard, got 6 > 5"):
        layer(stride=6)
    with pytest.raises(ValueError, match=r"LocalDelayLinear expects \[T, B, 11\], got \(4, 2, 10\)"):
        layer()(torch.zeros(4, 2, 10))
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        layer(channels=0)
    local = layer()
    with snnkit.carry(local), pytest.raises(ValueError, match="tail must be 0 inside"):
        local(torch.zeros(4, 2, 11, dtype=torch.float64), tail=1)
