"""``scan`` on inputs that lie in memory in other ways: same values, and outputs that lie as x does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snnkit.equations import ALIF
from snnkit.ops import scan
from snnkit.ops.layout import Layout, feature_order, like, row_like
from tests.closeness import error
from tests.equations_under_test import drive

T, B, C, H, W = 7, 2, 3, 4, 5


def sequence(*shape: int) -> Tensor:
    return drive("ALIF", shape, torch.float32)


# Each makes an x that lies otherwise than a contiguous one.
LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "contiguous": lambda: sequence(T, B, C, H, W),
    "no features": lambda: sequence(T, B),
    "batch first": lambda: sequence(B, T, C).transpose(0, 1),
    "batch first image": lambda: sequence(B, T, C, H, W).transpose(0, 1),
    "channels last": lambda: sequence(T, B, H, W, C).permute(0, 1, 4, 2, 3),
    "channels last of one channel": lambda: sequence(T, B, H, W, 1).permute(0, 1, 4, 2, 3),
    "channels last batch first": lambda: sequence(B, T, H, W, C).permute(1, 0, 4, 2, 3),
    "channels before tokens": lambda: sequence(T, B, W, C).transpose(2, 3),
    "time innermost": lambda: sequence(B, C, T).permute(2, 0, 1),
    "batch innermost": lambda: sequence(T, C, B).transpose(1, 2),
    "every second step": lambda: sequence(2 * T, B, C)[::2],
    "every second sample": lambda: sequence(T, 2 * B, C)[:, ::2],
    "every second channel": lambda: sequence(T, B, 2 * C)[..., ::2],
    "some channels": lambda: sequence(T, B, 2 * C)[..., 1 : 1 + C],
    "some rows of an image": lambda: sequence(T, B, C, 2 * H, W)[..., 1 : 1 + H, :],
    "one sample of many": lambda: sequence(T, 5, C)[:, 3:4],
    "one step of many": lambda: sequence(5, B, C)[2:3],
    "one channel of many": lambda: sequence(T, B, 5)[..., 2:3],
    "expanded over time": lambda: sequence(1, B, C).expand(T, B, C),
    "expanded over the batch": lambda: sequence(T, 1, C).expand(T, B, C),
    "expanded over channels": lambda: sequence(T, B, 1).expand(T, B, C),
    "expanded over all": lambda: sequence(1, 1, 1).expand(T, B, C),
    "expanded image": lambda: sequence(T, B, C, 1, 1).expand(T, B, C, H, W),
    "backwards in time": lambda: sequence(T, B, C).flip(0),
    "offset": lambda: sequence(T * B * C + 1)[1:].view(T, B, C),
    "sizes of one": lambda: sequence(T, 1, 1, C, 1).transpose(1, 2),
    "odd strides on sizes of one": lambda: sequence(T * 17).as_strided((T, 1, C), (17, 5, 1)),
}


def results(x: Tensor, g: Tensor | None, learn: bool) -> dict[str, Tensor]:
    """Everything that a scan of x gives, forwards and backwards."""
    x = x.detach().requires_grad_()
    tau = torch.linspace(1.5, 3.0, x.shape[2] if x.ndim > 2 else 1)
    tau = tau.reshape(-1, *[1] * (x.ndim - 3)) if x.ndim > 2 else tau[0]
    tau.requires_grad_(learn)
    neuron = ALIF().bind({"tau": tau}) if learn else ALIF()
    noise = torch.Generator().manual_seed(6)
    start = {n: torch.rand(x.shape[1:], generator=noise).requires_grad_() for n in neuron.states}
    s, state, traces = scan(neuron, x, start, record=("a",))
    g = torch.ones_like(s) if g is None else g
    total = (s * g).sum() + (traces["a"] * g).sum() + sum(v.sum() for v in state.values())
    total.backward()
    found = {"s": s, "a": traces["a"]} | {f"last {n}": v for n, v in state.items()} | {"gradient of x": x.grad}
    found |= {f"gradient of {n}": v.grad for n, v in start.items()}
    return found | ({"gradient of tau": tau.grad} if learn else {})


@pytest.mark.parametrize("learn", [False, True], ids=["numbers", "learnt per channel"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_changes_no_value(layout, learn):
    x = LAYOUTS[layout]()
    contiguous = torch.empty(x.shape).copy_(x)
    g = torch.rand(x.shape, generator=torch.Generator().manual_seed(3))
    got, expected = results(x, g, learn), results(contiguous, g, learn)
    for name, value in expected.items():
        if name == "gradient of tau":  # summed in another order where the lanes lie in another order
            assert error(got[name], value) < 1e-6
        else:
            assert torch.equal(got[name], value), name


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "batch first", "channels before tokens"])
@pytest.mark.parametrize(
    "gradient",
    [
        lambda g: g.sum().expand(g.shape),  # of .sum()
        lambda g: g[:1].expand(g.shape),  # of .mean(0)
        lambda g: g[:, :1].expand(g.shape),
        lambda g: g.transpose(0, 1).contiguous().transpose(0, 1),
        lambda g: g.movedim(-1, 2).contiguous().movedim(2, -1),
        lambda g: g.movedim(2, -1).contiguous().movedim(-1, 2),
        lambda g: torch.stack([g, g], -1)[..., 0],
    ],
    ids=["scalar", "one step", "one sample", "batch first", "last axis first", "channels last", "strided"],
)
def test_a_gradient_may_lie_otherwise_than_x(layout, gradient):
    x = LAYOUTS[layout]().requires_grad_()
    g = gradient(torch.rand(x.shape, generator=torch.Generator().manual_seed(3)))
    found = []
    for arriving in (g, torch.empty(g.shape).copy_(g)):
        s, state, traces = scan(ALIF(), x, record=("v",))
        found.append(torch.autograd.grad([s, traces["v"], state["a"]], x, [arriving, arriving, arriving[0]])[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_lie_time_first_with_the_features_in_the_order_of_x(layout):
    x = LAYOUTS[layout]()
    s, state, traces = scan(ALIF(), x, record=("v",))
    order = feature_order(x)
    for result, lead in ((s, 2), (traces["v"], 2), (state["v"], 1)):
        axes = [*range(lead), *(a - 2 + lead for a in order)] if order else list(range(result.ndim))
        assert result.permute(axes).is_contiguous()


def test_a_channels_last_image_stays_channels_last():
    x = sequence(T, B, H, W, C).permute(0, 1, 4, 2, 3)
    s = scan(ALIF(), x).output
    assert s.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_a_start_state_may_lie_otherwise_than_x():
    x, v = LAYOUTS["channels last"](), torch.rand(B, C, H, W)
    a = torch.rand(1).expand(B, C, H, W)
    expected = scan(ALIF(), x, {"v": v, "a": a.contiguous()})
    for other in (
        v.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        v.transpose(0, 1).contiguous().transpose(0, 1),
    ):
        got = scan(ALIF(), x, {"v": other, "a": a})
        assert torch.equal(got.output, expected.output) and torch.equal(got.state["v"], expected.state["v"])


def test_an_input_that_is_not_dense_in_its_lanes_is_copied_once_and_others_not():
    assert Layout.of(LAYOUTS["every second channel"]()).x.is_contiguous()
    for name in ("batch first", "channels last", "every second sample", "expanded over time", "some channels"):
        x = LAYOUTS[name]()
        assert Layout.of(x).x.data_ptr() == x.data_ptr(), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_output_of_a_real_and_of_a_fake_tensor_lie_alike(layout):
    x = LAYOUTS[layout]()
    fake = torch.empty_strided(x.shape, x.stride(), device="meta")
    for make in (lambda t: like(t, 4, torch.float32), lambda t: row_like(t, torch.float32)):
        assert make(x).stride() == make(fake).stride()
    s, state, traces = scan(ALIF(), x, record=("v",))
    s_meta, state_meta, traces_meta = scan(ALIF(), fake, record=("v",))
    for real, meta in ((s, s_meta), (state["v"], state_meta["v"]), (traces["v"], traces_meta["v"])):
        assert real.shape == meta.shape and real.dtype == meta.dtype
