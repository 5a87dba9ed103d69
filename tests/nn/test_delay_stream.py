"""A delay layer as a stream: whole, in chunks and event by event it says the same, and follows its parameters."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit import create_model
from snnkit.nn import _delay_stream, carry
from snnkit.nn.delay import DelayConv1d, DelayLinear
from snnkit.ops import delay_events
from snnkit.ops.delay import Bilinear, Gauss, Triangle


def spikes(T: int, B: int, C: int, dtype: torch.dtype = torch.float64, rate: float = 0.1) -> torch.Tensor:
    return (torch.rand(T, B, C) < rate).to(dtype)


def streamed(layer: torch.nn.Module, x: torch.Tensor, edges: list[int]) -> torch.Tensor:
    with torch.no_grad(), carry(layer):
        return torch.cat([layer(x[a:b]) for a, b in zip(edges, edges[1:], strict=False)])


def ways(layer: DelayLinear, x: torch.Tensor, edges: list[int]) -> list[str]:
    found = []
    with torch.no_grad(), carry(layer):
        for a, b in zip(edges, edges[1:], strict=False):
            found.append(layer.path(x[a:b]))
            layer(x[a:b])
    return found


@pytest.mark.parametrize("profile", [Triangle(), Gauss(), Bilinear()], ids=["triangle", "gauss", "bilinear"])
@pytest.mark.parametrize("values", ["spikes", "currents"])
@pytest.mark.parametrize("options", [{}, {"groups": 2, "kernel_count": 2, "bias": True}], ids=["plain", "groups"])
def test_whole_chunks_and_events_agree_to_1e12(profile: object, values: str, options: dict[str, int]) -> None:
    layer = DelayLinear(18, 20, 9, profile=profile, dtype=torch.float64, **options)
    for each in (layer, layer.discretize()):
        x = spikes(40, 2, 18)
        if values == "currents":
            x = x * torch.randn_like(x)
        whole = each(x).detach()
        for edges in ([0, 40], list(range(41)), [0, 1, 2, 30, 31, 32, 40], [0, 3, 20, 24, 25, 40]):
            torch.testing.assert_close(streamed(each, x, edges), whole, rtol=1e-12, atol=1e-12)
    assert all(way.startswith("events") for way in ways(layer.discretize(), x, list(range(41))))


@given(cuts=st.lists(st.integers(0, 30), max_size=6), size=st.sampled_from([1, 2, 7, 40]))
@settings(max_examples=25, deadline=None)
def test_every_mixture_of_chunks_and_events_gives_the_same_bits(cuts: list[int], size: int) -> None:
    layer = DelayLinear(32, 16, size, profile=Bilinear(), learn_delay=False)
    with torch.no_grad():
        layer.weight.copy_((layer.weight * 64).round() / 64)  # exact in any order
    x = spikes(30, 2, 32, torch.float32)
    assert torch.equal(streamed(layer, x, [0, *sorted(cuts), 30]), layer(x))


def test_a_long_dense_chunk_between_events_takes_and_leaves_what_is_pending() -> None:
    layer = DelayLinear(18, 20, 9, dtype=torch.float64).discretize()
    x = spikes(60, 2, 18)
    x[10:50] = torch.randn(40, 2, 18, dtype=torch.float64)
    edges = [0, 2, 5, 10, 50, 51, 53, 60]
    said = ways(layer, x, edges)
    assert [way.split()[0] == "events" for way in said] == [True, True, True, False, True, True, True]
    assert "not by events: events touch" in said[3]
    torch.testing.assert_close(streamed(layer, x, edges), layer(x), rtol=1e-12, atol=1e-12)


def test_gradients_take_the_dense_way_and_reach_back_through_what_was_summed_densely() -> None:
    layer, x = DelayLinear(18, 20, 9, dtype=torch.float64).discretize(), spikes(12, 2, 18)
    with carry(layer):
        assert "gradients are on" in layer.path(x[:1])
        with torch.no_grad():
            head = torch.cat([layer(x[t : t + 1]) for t in range(4)])
        tail = torch.cat([layer(x[4:8]), layer(x[8:])])
    torch.testing.assert_close(torch.cat([head, tail]), layer(x), rtol=1e-12, atol=1e-12)
    tail.square().sum().backward()
    got, layer.weight.grad = layer.weight.grad, None
    past = layer(x[:4], tail=8).detach()[4:]
    (layer(x[4:]) + past).square().sum().backward()
    torch.testing.assert_close(got, layer.weight.grad, rtol=1e-10, atol=1e-10)


def test_a_reset_sample_forgets_its_past_alone() -> None:
    layer, x = DelayLinear(18, 20, 9, dtype=torch.float64).discretize(), spikes(30, 3, 18)
    with torch.no_grad(), carry(layer) as state:
        for t in range(12):
            layer(x[t : t + 1])
        state.reset(torch.tensor([False, True, False]))
        y = torch.cat([layer(x[t : t + 1]) for t in range(12, 30)])
    torch.testing.assert_close(y[:, [0, 2]], layer(x)[12:, [0, 2]], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(y[:, 1], layer(x[12:])[:, 1], rtol=1e-12, atol=1e-12)


def change_weight(layer: DelayLinear) -> None:
    layer.weight.mul_(2.0)


def change_delay(layer: DelayLinear) -> None:
    layer.delay = 3.0


def change_data(layer: DelayLinear) -> None:
    layer.weight.data = layer.weight * 3.0


def change_parameter(layer: DelayLinear) -> None:
    layer.P = torch.nn.Parameter(torch.zeros_like(layer.P), requires_grad=False)


def change_profile(layer: DelayLinear) -> None:
    layer.profile = Bilinear()


@pytest.mark.parametrize("change", [change_weight, change_delay, change_data, change_parameter, change_profile])
@pytest.mark.parametrize("rate", [0.05, 1.0], ids=["events", "dense"])
def test_a_changed_parameter_is_heard_at_once(change: object, rate: float) -> None:
    layer, x = DelayLinear(18, 20, 9, dtype=torch.float64).discretize(), spikes(10, 2, 18, rate=rate)
    with torch.no_grad(), carry(layer):
        layer(x[:4])
        before = layer._slot.prepared
        layer(torch.zeros_like(x))
        assert layer._slot.prepared is before  # 10 steps of nothing: the line is empty
        change(layer)
        torch.testing.assert_close(layer(x), fresh(layer, x), rtol=1e-12, atol=1e-12)
        assert layer._slot.prepared is not before


def fresh(layer: DelayLinear, x: torch.Tensor) -> torch.Tensor:
    """What a copy outside the block says."""
    return copy.deepcopy(layer)(x)


def test_the_kernel_is_made_once_for_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = DelayLinear(18, 20, 9).discretize()
    calls = []
    kernel = DelayLinear.kernel
    monkeypatch.setattr(DelayLinear, "kernel", lambda self: calls.append(1) or kernel(self))
    streamed(layer, spikes(50, 1, 18, torch.float32), list(range(51)))
    assert len(calls) == 1
    calls.clear()
    streamed(layer, torch.randn(50, 10, 18), list(range(0, 51, 5)))  # dense
    assert len(calls) == 1


def test_copies_within_a_block_and_layers_after_it_hold_nothing() -> None:
    layer, x = DelayLinear(18, 20, 9).discretize(), spikes(6, 2, 18, torch.float32)
    with torch.no_grad(), carry(layer):
        layer(x[:1])
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert other._slot is None and torch.equal(other(x), fresh(layer, x))
    assert not any(isinstance(value, _delay_stream.Prepared) for value in vars(layer).values())


def test_weights_of_a_parametrization_and_of_inference_mode_stream_right() -> None:
    layer, x = DelayLinear(18, 20, 9, dtype=torch.float64).discretize(), spikes(12, 2, 18)
    torch.nn.utils.parametrizations.weight_norm(layer)
    torch.testing.assert_close(streamed(layer, x, list(range(13))), layer(x), rtol=1e-12, atol=1e-12)
    with torch.inference_mode():
        layer = DelayLinear(18, 20, 9, dtype=torch.float64).discretize()
        torch.testing.assert_close(streamed(layer, x, list(range(13))), layer(x), rtol=1e-12, atol=1e-12)
        with carry(layer):
            assert "inference mode" in layer.path(x[:1])


def test_without_a_compiler_the_plain_form_runs_and_path_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delay_events, "refusal", lambda: "no C++ compiler works")
    layer, x = DelayLinear(18, 20, 9, dtype=torch.float64).discretize(), spikes(12, 2, 18)
    torch.testing.assert_close(streamed(layer, x, list(range(13))), layer(x), rtol=1e-12, atol=1e-12)
    assert ways(layer, x, [0, 1]) == ["events (reference: no C++ compiler works)"]


def test_a_delay_longer_than_the_sequence_comes_out_of_the_next_chunk_or_not_at_all() -> None:
    layer = DelayLinear(1, 1, 50, profile=Bilinear(), learn_delay=False)
    torch.nn.init.ones_(layer.weight)
    layer.delay = 45
    x = torch.zeros(60, 1, 1)
    x[0] = 1.0
    assert layer(x[:10]).count_nonzero() == 0
    for edges in ([0, 10, 20, 60], list(range(61))):
        assert streamed(layer, x, edges).flatten().nonzero().tolist() == [[45]]


def test_a_chunk_of_another_width_or_batch_within_a_stream_is_named_and_changes_nothing() -> None:
    layer, x = DelayLinear(18, 20, 9, dtype=torch.float64).discretize(), spikes(6, 2, 18)
    with torch.no_grad(), carry(layer):
        first = layer(x[:1])
        with pytest.raises(ValueError, match=r"DelayLinear expects \[T, B, 18\], got \(1, 2, 17\)"):
            layer(x[1:2, :, :17])
        with pytest.raises(ValueError, match="holds a state for 2 samples, got 1"):
            layer(x[1:2, :1])
        rest = [layer(x[t : t + 1]) for t in range(1, 6)]
    torch.testing.assert_close(torch.cat([first, *rest]), layer(x), rtol=1e-12, atol=1e-12)


def test_a_layer_that_runs_twice_in_one_pass_is_refused_event_by_event_too() -> None:
    layer = DelayLinear(18, 18, 9).discretize()
    model, x = torch.nn.Sequential(layer, layer), torch.zeros(1, 1, 18)
    with torch.no_grad(), carry(model):
        layer(x)
        layer(x)
        with pytest.raises(RuntimeError, match="runs twice in one forward pass"):
            model(x)


def test_other_dtypes_and_a_changed_one_go_on() -> None:
    layer, x = DelayLinear(18, 20, 9).discretize(), spikes(9, 2, 18, torch.float32)
    with torch.no_grad(), carry(layer):
        assert "torch.float16 with weights of torch.float32" in layer.path(x.half())
        y = [layer(x[:1]), layer(x[1:2].half()).float(), layer(x[2:3])]
        layer.double()
        y += [layer(x[t : t + 1].double()).float() for t in range(3, 9)]
    torch.testing.assert_close(torch.cat(y), fresh(layer.float(), x), rtol=1e-3, atol=1e-3)


def test_path_says_that_a_call_outside_a_block_is_dense() -> None:
    layer, x = DelayLinear(64, 32, 9).discretize(), torch.zeros(1, 1, 64)
    with torch.no_grad():
        assert layer.path(x) == "products over time (one a delay); not by events: outside snnkit.carry"


def test_the_layout_of_dcls_streams_too() -> None:
    layer, x = DelayConv1d(18, 20, 9, dtype=torch.float64).discretize(), spikes(12, 2, 18).permute(1, 2, 0)
    with torch.no_grad(), carry(layer):
        y = torch.cat([layer(x[..., t : t + 1]) for t in range(12)], -1)
    torch.testing.assert_close(y, layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_network_as_a_stream_gives_the_class_of_the_sequence_and_in_float64_its_spikes(batch: int) -> None:
    torch.manual_seed(0)
    model = create_model("delay_snn_digits").double().discretize()
    x, layers = spikes(40, batch, 64) * 3.0, list(model.delay_layers())
    with torch.no_grad():
        with carry(model):
            whole = model.forward_features(x)
        with carry(model):
            parts = torch.cat([model.forward_features(step) for step in x.split(1)])
        with carry(model):
            expected = model(x)
        with carry(model):
            for step in x.split(1):
                assert all(layer.path(step.new_ones(1, batch, layer.in_features))[:6] == "events" for layer in layers)
                answer = model(step)
    assert torch.equal(parts, whole) and 0.01 < whole.mean() < 0.99
    torch.testing.assert_close(answer, expected, rtol=1e-10, atol=1e-10)
