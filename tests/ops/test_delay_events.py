"""Delayed sums event by event = the dense sum, compiled and in plain PyTorch, wherever a chunk ends."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnkit.ops import delay_events as module
from snnkit.ops.delay_events import columns, delay_line, delayed_events, plain_columns, reference
from snnkit.ops.delayed_sum import delayed_sum


def case(T: int, K: int, groups: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Inputs, of which most are 0, and a kernel, of which half is; B = 2, in = 6, out = 4."""
    random = torch.Generator().manual_seed(100 * T + K)
    x = torch.randn(T, 2, 6, generator=random, dtype=dtype)
    kernel = torch.randn(4, 6 // groups, K, generator=random, dtype=dtype)
    some, half = (torch.rand(like.shape, generator=random) for like in (x, kernel))
    return x * (some < 0.2), kernel * (half < 0.5)


@pytest.fixture(params=["compiled", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(module, "refusal", lambda: "no compiler")
    elif module.refusal() is not None:
        pytest.skip(module.refusal())
    return request.param


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("T", "K"), [(0, 4), (1, 1), (3, 7), (40, 1), (40, 5)])
def test_equals_the_dense_sum_and_holds_what_is_pending(way: str, T: int, K: int, groups: int) -> None:
    x, kernel = case(T, K, groups)
    before = torch.randn(K - 1, 2, 4, dtype=torch.float64)
    whole = delayed_sum(x, kernel, tail=K - 1)
    whole[: K - 1] += before
    line = delay_line(before)
    y = delayed_events(x, columns(kernel, 6), line)
    torch.testing.assert_close(y, whole[:T], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(line.pending(K), whole[T:], rtol=1e-12, atol=1e-12)


@given(cuts=st.lists(st.integers(0, 30), max_size=4), K=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_chunks_give_the_bits_of_the_whole(cuts: list[int], K: int) -> None:
    x, kernel = case(30, K, dtype=torch.float32)
    taps, edges = columns(kernel, 6), [0, *sorted(cuts), 30]
    one, other = (delay_line(torch.zeros(K - 1, 2, 4)) for _ in range(2))
    parts = [delayed_events(x[a:b], taps, one) for a, b in zip(edges, edges[1:], strict=False)]
    assert torch.equal(torch.cat(parts), delayed_events(x, taps, other))
    assert torch.equal(one.pending(K), other.pending(K))


def test_samples_may_stand_at_different_places_of_the_ring(way: str) -> None:
    x, kernel = case(20, 5)
    taps, line = columns(kernel, 6), delay_line(torch.zeros(4, 2, 4, dtype=torch.float64))
    delayed_events(x[:3], taps, line)
    line.sums[1], line.at[1] = 0.0, 0  # a reset
    y = delayed_events(x[3:], taps, line)
    torch.testing.assert_close(y[:, 0], delayed_sum(x, kernel)[3:, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(y[:, 1], delayed_sum(x[3:], kernel)[:, 1], rtol=1e-12, atol=1e-12)


def test_columns_are_sorted_by_input_then_place_and_hold_no_zero(way: str) -> None:
    _, kernel = case(1, 5, groups=2)
    taps, plain = columns(kernel, 6), plain_columns(kernel.movedim(-1, 0), 6)
    assert all(torch.equal(a, b) for a, b in zip(taps[:3], plain[:3], strict=True))
    assert len(taps.weight) == kernel.count_nonzero() and taps.weight.all()
    for a, b in zip(taps.first, taps.first[1:], strict=False):
        assert (taps.place[a:b].diff() > 0).all()


def test_an_infinite_input_reaches_the_taps_that_exist() -> None:
    kernel, x = torch.zeros(2, 1, 3), torch.full((1, 1, 1), float("inf"))
    kernel[1, 0, 0] = 2.0
    line = delay_line(torch.zeros(2, 1, 2))
    assert (delayed_events(x, columns(kernel, 1), line) == 0).all()
    assert line.pending(3).flatten().tolist() == [0.0, 0.0, 0.0, float("inf")]


def test_the_compiled_form_sums_in_the_order_of_the_plain_one() -> None:
    if module.refusal() is not None:
        pytest.skip(module.refusal())
    x, kernel = case(25, 6, dtype=torch.float32)
    one, other = (delay_line(torch.zeros(5, 2, 4)) for _ in range(2))
    assert torch.equal(delayed_events(x, columns(kernel, 6), one), reference(x, columns(kernel, 6), other))
