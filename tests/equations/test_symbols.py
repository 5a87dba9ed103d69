"""The closed set of functions: numbers, tensors and symbols mean the same by them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkit.equations import symbols
from snnkit.equations.symbols import OPERATIONS, apply, clamp, exp, where
from snnkit.equations.trace import Trace
from snnkit.ops.reference import TORCH, TensorValue

NUMBERS = [0.0, -0.0, 0.5, -0.5, 1.0, 1.5, 2.5, -2.5, -3.0, 700.0, -700.0, 1e6, 1e300, math.inf, -math.inf, math.nan]
PLAIN = sorted(set(TORCH) - {"where", "detach"})


def on_tensors(name, *arguments):
    return apply(name, *(TensorValue(torch.tensor(a, dtype=torch.float64), torch.float64) for a in arguments)).tensor


@pytest.mark.parametrize("name", PLAIN)
def test_numbers_answer_as_tensors_do_where_python_would_raise(name):
    arity = OPERATIONS[name].arity
    for a in NUMBERS:
        for b in NUMBERS if arity == 2 else [None]:
            arguments = (a,) if b is None else (a, b)
            number, tensor = apply(name, *arguments), on_tensors(name, *arguments)
            if OPERATIONS[name].is_condition:
                assert isinstance(number, bool) and number == tensor.item(), arguments
            else:
                assert number == pytest.approx(tensor.item(), rel=1e-15, nan_ok=True), arguments


def test_every_operation_has_a_form_on_tensors():
    assert set(TORCH) | {"straight_through"} == set(OPERATIONS)


def test_an_exponential_beyond_the_largest_number_is_infinite():
    assert exp(1000) == math.inf and exp(-1000) == 0.0


def test_rounding_is_half_to_even_and_floor_goes_down():
    assert [symbols.round(v) for v in (0.5, 1.5, 2.5, -0.5)] == [0.0, 2.0, 2.0, 0.0]
    assert [symbols.floor(v) for v in (0.5, -0.5)] == [0.0, -1.0]


@given(st.floats(-5, 5), st.floats(-3, 0), st.floats(0, 3))
def test_clamp_keeps_inside(a, low, high):
    assert clamp(a, low, high) == min(max(a, low), high)


def test_where_takes_an_option_of_the_neuron():
    x = Trace().input("x")
    assert where(True, x, 0.0) is x and where(False, x, 0.0) == 0.0


@pytest.mark.parametrize("exponent", [1, 2, 3, 4, 5, 7])
def test_whole_powers_are_products(exponent):
    value = TensorValue(torch.tensor([1.5, -2.0], dtype=torch.float64), torch.float64)
    assert (value**exponent).tensor.tolist() == [1.5**exponent, (-2.0) ** exponent]


@pytest.mark.parametrize("exponent", [0.5, 0, -1, True])
def test_other_powers_name_the_way_round(exponent):
    with pytest.raises(TypeError, match=r"whole n >= 1.*exp\(n \* log\(v\)\)"):
        Trace().input("x") ** exponent


def test_python_operators_reach_every_side():
    a, b = 1.75, 0.5
    value = TensorValue(torch.tensor(a, dtype=torch.float64), torch.float64)
    pairs = [
        (value + b, a + b), (b + value, b + a), (value - b, a - b), (b - value, b - a), (value * b, a * b),
        (b * value, b * a), (value / b, a / b), (b / value, b / a), (-value, -a), (+value, a), (abs(-value), a),
        (value >= b, True), (value > b, True), (value <= b, False), (value < b, False), (b < value, True),
    ]  # fmt: skip
    assert [got.tensor.item() for got, _ in pairs] == [expected for _, expected in pairs]


def test_numbers_of_numpy_are_numbers():
    x = Trace().input("x")
    assert repr(np.float64(2.0) * x) == repr(np.float32(2.0) * x) == repr(2.0 * x)


@pytest.mark.parametrize(
    "branch",
    [lambda v: 1 if v > 0 else 0, lambda v: max(v, 0.0), lambda v: v > 0 and v < 1, lambda v: not v],
    ids=["if", "max", "and", "not"],
)
def test_a_branch_on_a_membrane_is_refused_with_the_way_round(branch):
    with pytest.raises(TypeError, match=r"cannot branch .*where\(condition, a, b\)"):
        branch(Trace().input("v"))


def test_equality_on_a_membrane_is_refused():
    # Python would answer False without a word.
    v = Trace().input("v")
    for question in (lambda: v == 1.0, lambda: v != 1.0, lambda: 1.0 == v):
        with pytest.raises(TypeError, match="== or !="):
            question()
