"""Delays per channel: the dense form by hand, gradients, streams, whole delays, before a 2-d convolution."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from snnkit.nn import AxonalDelay, PerStep, SigmaSchedule, carry
from snnkit.ops.delay import Bilinear, Gauss, Profile, Triangle

PROFILES = [(Bilinear(), None), (Triangle(), None), (Triangle(), 1.5), (Gauss(), 0.4)]


def by_hand(x: Tensor, position: Tensor, width: Tensor | None, K: int, profile: Profile, tail: int) -> Tensor:
    """The formula, a channel and a tap at a time."""
    steps = []
    s = None if width is None else width.abs() + profile.base
    for t in range(len(x) + tail):
        channels = []
        for c in range(x.shape[2]):
            u = torch.arange(K, dtype=x.dtype) - (position[c] + K // 2)
            r = profile.taps(u, profile.base if s is None else s[c])
            phi = r / (r.sum() + 1e-7) if profile.normalised else r
            heard = [phi[k] * x[t - (K - 1 - k), :, c] for k in range(K) if 0 <= t - (K - 1 - k) < len(x)]
            channels.append(sum(heard, torch.zeros_like(x[0, :, c])))
        steps.append(torch.stack(channels, 1))
    return torch.stack(steps)


@pytest.mark.parametrize("shape", [(), (3, 2)], ids=["features", "maps"])
@pytest.mark.parametrize(("profile", "width"), PROFILES, ids=lambda v: str(v))
def test_values_and_gradients_are_those_of_the_formula(profile: Profile, width: float | None, shape: tuple) -> None:
    layer = AxonalDelay(5, 6, profile, learn_width=width is not None, width=width, dtype=torch.float64)
    x = torch.randn(7, 2, 5, *shape, dtype=torch.float64, requires_grad=True)
    y = layer(x, tail=3)
    expected = by_hand(x, layer.P[0], None if width is None else layer.SIG[0], 6, profile, 3)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    g, leaves = torch.randn_like(y), [x, *layer.parameters()]
    for a, b in zip(torch.autograd.grad(y, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True):
        assert a.shape == b.shape and b.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_finite_differences_agree() -> None:
    layer = AxonalDelay(3, 5, Gauss(), learn_width=True, dtype=torch.float64)
    x = torch.randn(4, 2, 3, 2, dtype=torch.float64, requires_grad=True)

    def call(x: Tensor, position: Tensor, width: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"P": position, "SIG": width}, x)

    start = [p.detach().clone().requires_grad_() for p in (layer.P, layer.SIG)]
    assert torch.autograd.gradcheck(call, (x, *start))


def test_whole_delays_move_spikes_and_keep_their_bits() -> None:
    layer = AxonalDelay(4, 7).discretize()
    assert layer.discrete and not layer.training and list(layer.state_dict()) == ["P"]
    layer.delay = torch.tensor([0.0, 1.0, 4.0, 6.0])
    x = (torch.rand(9, 2, 4, 3, 3) < 0.3).float()
    y = layer(x)
    for c, d in enumerate((0, 1, 4, 6)):
        assert torch.equal(y[d:, :, c], x[: 9 - d, :, c]) and not y[:d, :, c].any()


@pytest.mark.parametrize("edges", [[0, 12], list(range(13)), [0, 0, 5, 7, 12]], ids=["whole", "steps", "chunks"])
def test_chunks_equal_the_whole(edges: list[int]) -> None:
    layer, x = AxonalDelay(5, 6, dtype=torch.float64), torch.randn(12, 2, 5, 3, 2, dtype=torch.float64)
    with carry(layer) as state:
        y = torch.cat([layer(x[a:b]) for a, b in zip(edges, edges[1:], strict=False)])
        torch.testing.assert_close(y, copy.deepcopy(layer)(x), rtol=0, atol=1e-12)
        state.reset(torch.tensor([True, False]))
        later = layer(x)
    torch.testing.assert_close(later[:, 0], y[:, 0], rtol=0, atol=1e-12)
    assert not torch.allclose(later[:, 1], y[:, 1])


def test_it_learns_the_delay_that_a_convolution_behind_it_needs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(AxonalDelay(2, 9, width=1.0), PerStep(nn.Conv2d(2, 1, 3, padding=1)))
    x = (torch.rand(30, 2, 2, 6, 6) < 0.2).float()
    target = nn.functional.pad(x[:, :, :1], (0, 0) * 4 + (5, 0))[:30] + x[:, :, 1:]  # channel 0 five steps later
    model[0].delay = torch.tensor([3.0, 1.0])
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters()}]
    optimizer = torch.optim.Adam(groups, lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        (model(x) - target).square().mean().backward()
        optimizer.step()
        model[0].clamp_()
    assert model[0].discretize().delay.tolist() == [5.0, 0.0]


def test_a_sigma_schedule_narrows_it() -> None:
    layer = AxonalDelay(3, 9)
    schedule = SigmaSchedule(nn.Sequential(layer), final_epoch=2)
    assert (layer.SIG == 4).all()
    schedule.step()
    assert (layer.SIG < 4).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_comes_out_as_it_goes_in(dtype: torch.dtype) -> None:
    layer, x = AxonalDelay(3, 5), torch.randn(6, 2, 3, 4).to(dtype)
    assert torch.equal(layer(x), layer(x.float()).to(dtype))
    assert layer.to(dtype)(x).dtype == dtype


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3, 2, 2), (1, 2, 3), (4, 2, 3, 0)])
def test_lengths_and_empty_inputs(shape: tuple[int, ...]) -> None:
    y = AxonalDelay(3, 5)(torch.zeros(shape), tail=2)
    assert y.shape == (shape[0] + 2, *shape[1:])
    y.sum().backward()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        AxonalDelay(0, 5)
    with pytest.raises(TypeError, match="max_delay must be a whole number, got 2.5"):
        AxonalDelay(3, 2.5)
    with pytest.raises(TypeError, match=r"AxonalDelay has no 'max_dely'. Near: max_delay"):
        AxonalDelay(3, max_dely=5)
    layer = AxonalDelay(3, 5)
    with pytest.raises(ValueError, match=r"AxonalDelay expects \[T, B, 3, ...\], got \(7, 2, 4, 5, 5\)"):
        layer(torch.zeros(7, 2, 4, 5, 5))
    with pytest.raises(ValueError, match=r"expects \[T, B, ...\], at least 3 axes, got \(7, 3\). A single step"):
        layer(torch.zeros(7, 3))
    with pytest.raises(TypeError, match=r"expects a floating x, got torch.bool.*x.float\(\)"):
        layer(torch.zeros(7, 2, 3, dtype=torch.bool))
    with carry(layer):
        with pytest.raises(ValueError, match="tail must be >= 0, and 0 inside snnkit.carry, got 2"):
            layer(torch.zeros(7, 2, 3), tail=2)
        layer(torch.zeros(1, 2, 3, 4, 4))
        with pytest.raises(ValueError, match=r"state for inputs \[T, B, 3, 4, 4\], got \[T, B, 3, 4, 5\]"):
            layer(torch.zeros(1, 2, 3, 4, 5))
    with pytest.raises(RuntimeError, match="P is of max_delay=5, the layer has max_delay=7"):
        nn.Sequential(AxonalDelay(3, 7)).load_state_dict(nn.Sequential(layer).state_dict())


def test_it_compiles_in_one_graph() -> None:
    torch.compiler.reset()
    layer, x = AxonalDelay(3, 5), torch.randn(6, 2, 3, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
