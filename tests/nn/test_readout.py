"""Readouts: formulas, padding, chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from snnkit.nn.carry import carry
from snnkit.nn.readout import LastStep, MaxOverTime, MeanOverTime, Membrane, SumOfSoftmax, SumOverTime
from tests.nn.layers import Leak
from tests.shared import fixture

FORMULAS = {
    SumOverTime: lambda x: x.sum(0),
    MeanOverTime: lambda x: x.mean(0),
    LastStep: lambda x: x[-1],
    MaxOverTime: lambda x: x.amax(0),
    SumOfSoftmax: lambda x: x.softmax(-1).sum(0),
}
readouts = pytest.mark.parametrize("readout", FORMULAS, ids=lambda readout: readout.__name__)


def sequence(steps: int, batch: int = 3, classes: int = 5) -> torch.Tensor:
    """Random answers in float64."""
    return torch.randn(steps, batch, classes, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)


@readouts
@pytest.mark.parametrize("steps", [1, 3, 63])
def test_a_readout_is_its_formula(readout, steps):
    x = sequence(steps)
    torch.testing.assert_close(readout()(x), FORMULAS[readout](x), rtol=1e-14, atol=1e-14)


@readouts
@pytest.mark.parametrize("garbage", [7.0, float("inf"), float("nan")])
def test_padded_steps_do_not_count_whatever_they_hold(readout, garbage):
    x, lengths = sequence(7).requires_grad_(), torch.tensor([7, 1, 4])
    padded = torch.where(torch.arange(7)[:, None, None] < lengths[:, None], x, garbage)
    y = readout()(padded, lengths)
    alone = torch.stack([FORMULAS[readout](x[:n, b : b + 1])[0] for b, n in enumerate(lengths)])
    torch.testing.assert_close(y, alone, rtol=1e-14, atol=1e-14)
    weight = sequence(1)[0]
    grad, of_padded = torch.autograd.grad((y * weight).sum(), (x, padded))
    torch.testing.assert_close(grad, torch.autograd.grad((alone * weight).sum(), x)[0], rtol=1e-13, atol=1e-14)
    assert not of_padded[torch.arange(7)[:, None] >= lengths].any()  # NaN there would spread to what made the padding


@readouts
@given(st.lists(st.integers(0, 9), max_size=4), st.lists(st.integers(0, 12), min_size=3, max_size=3))
@settings(max_examples=30, deadline=None)
def test_the_last_chunks_answer_is_the_wholes(readout, sizes, lengths):
    x, lengths, layer = sequence(12).requires_grad_(), torch.tensor(lengths), readout()
    with carry(layer):
        layer(x[:1], lengths.clamp(0, 1))
        start = 1
        for size in [*sizes, 12]:
            chunk = x[start : start + size]
            y = layer(chunk, (lengths - start).clamp(0, len(chunk)))
            start += len(chunk)
    whole = layer(x, lengths)
    torch.testing.assert_close(y, whole, rtol=1e-13, atol=1e-14, equal_nan=True)
    some = lengths > 0
    grad, expected = (torch.autograd.grad(z[some].square().sum(), x)[0] for z in (y, whole))
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-14)


@readouts
def test_chunks_without_lengths_and_with_a_reset(readout):
    x, layer = sequence(9), readout()
    with carry(layer) as state:
        layer(x[:2])
        y = layer(x[2:4])
        torch.testing.assert_close(y, FORMULAS[readout](x[:4]), rtol=1e-14, atol=1e-14)
        assert torch.equal(layer(x[:0]), y)
        state.reset(torch.tensor([False, True, False]))
        y = layer(x[4:])
    torch.testing.assert_close(y[1], FORMULAS[readout](x[4:])[1], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(y[[0, 2]], FORMULAS[readout](x)[[0, 2]], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("readout", [MeanOverTime, LastStep, MaxOverTime])
def test_no_steps_are_an_error_where_no_answer_exists(readout):
    with pytest.raises(ValueError, match=rf"{readout.__name__} needs at least one step, got a sequence \(0, 3, 5\)"):
        readout()(sequence(0))


@pytest.mark.parametrize("readout", [SumOverTime, SumOfSoftmax])
def test_a_sum_over_no_steps_is_zero(readout):
    assert torch.equal(readout()(sequence(0)), torch.zeros(3, 5, dtype=torch.float64))


@pytest.mark.parametrize(("readout", "value"), [(MeanOverTime, "nan"), (LastStep, "nan"), (MaxOverTime, "-inf")])
def test_a_sample_without_valid_steps_shows(readout, value):
    y = readout()(sequence(4), torch.tensor([4, 0, 2]))
    assert [str(v) for v in y[1].tolist()] == [value] * 5
    assert y[[0, 2]].isfinite().all()


@readouts
def test_a_sample_that_is_reset_has_no_answer_before_its_next_valid_step(readout):
    x, layer, none = sequence(4), readout(), torch.tensor([0, 0, 0])
    with carry(layer) as state:
        before = layer(x)
        state.reset(torch.tensor([False, True, False]))
        y = layer(x, none)
    assert torch.equal(y[[0, 2]], before[[0, 2]])
    empty = SumOverTime()(x, none) if layer.answers_without_steps else readout()(x, none)
    torch.testing.assert_close(y[1], empty[1], equal_nan=True)


@readouts
def test_a_broken_membrane_shows(readout):
    x, layer = sequence(4), readout()
    x[2 if readout is not LastStep else 3, 1, 0] = float("nan")
    assert layer(x)[1, 0].isnan()
    with carry(layer):
        layer(x[:2])
        assert layer(x[2:])[1, 0].isnan()


@readouts
def test_two_axes_are_refused(readout):
    with pytest.raises(ValueError, match=rf"{readout.__name__} expects \[T, B, ...\]"):
        readout()(torch.zeros(3, 5))


@readouts
def test_an_empty_batch_gives_an_empty_answer(readout):
    assert readout()(sequence(3, batch=0)).shape == (0, 5)
    assert readout()(sequence(3, batch=0), torch.zeros(0, dtype=torch.long)).shape == (0, 5)


@pytest.mark.parametrize("readout", [SumOverTime, MeanOverTime, SumOfSoftmax])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(readout, dtype):
    x = (1 + torch.rand(3001, 2, 2)).to(dtype)  # 2049 is no float16
    y = readout()(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, FORMULAS[readout](x.float()))


@pytest.mark.parametrize("readout", [LastStep, MaxOverTime])
def test_what_is_picked_keeps_its_dtype(readout):
    x, layer = sequence(4).to(torch.bfloat16), readout()
    with carry(layer):
        layer(x[:2], torch.tensor([2, 1, 0]))
        assert layer(x[2:]).dtype == torch.bfloat16


def test_the_maximum_is_sent_one_gradient_in_chunks_too():
    x, layer = torch.ones(4, 1, 1, requires_grad=True), MaxOverTime()
    with carry(layer):
        layer(x[:2])
        layer(x[2:]).sum().backward()
    assert sorted(x.grad.flatten().tolist()) == [0.0, 0.0, 0.0, 1.0]


@readouts
def test_a_changed_batch_inside_carry_is_refused(readout):
    layer = readout()
    with carry(layer), pytest.raises(ValueError, match="holds a state for 3 samples, got 2"):
        layer(sequence(4))
        layer(sequence(4, batch=2))


def test_membrane_reads_what_its_neuron_gives_and_carries_both():
    net, x = Membrane(Leak(), MeanOverTime()), sequence(9)
    lengths = torch.tensor([9, 2, 5])
    expected = MeanOverTime()(Leak()(x), lengths)
    torch.testing.assert_close(net(x, lengths), expected)
    with carry(net):
        net(x[:4], lengths.clamp(0, 4))
        torch.testing.assert_close(net(x[4:], (lengths - 4).clamp(0)), expected)


def test_readouts_have_no_keys():
    assert not nn.ModuleList([r() for r in FORMULAS]).state_dict()


def test_sum_of_softmax_equals_the_official_answer():
    numbers = fixture("snn_delays_synfilter")
    v = torch.from_numpy(numbers["output/v_seq"])
    torch.testing.assert_close(SumOfSoftmax()(v), torch.from_numpy(numbers["output/softmax_sum"]), rtol=0, atol=1e-12)
