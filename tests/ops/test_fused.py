"""Which products join a sum: those that serve it alone, and nothing that a state or an output depends on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnkit.equations import LIF, Hard
from snnkit.equations.trace import LANE, PARAMETER, Ref, Trace
from snnkit.ops.fused import fused
from snnkit.ops.program import plan_of
from tests.equations_under_test import EQUATIONS, neuron_of, resets_of, surrogates_of
from tests.ops.test_random_step import neurons
from tests.play_back import NUMPY


def abcd():
    trace = Trace()
    return trace, *(trace.input(name, LANE) for name in "abcd")


def found(trace, *outputs, exact=(), added=()):
    sums = fused(trace, [o.index for o in outputs], [e.index for e in exact], [a.index for a in added])
    return {i: s._replace(a=name_of(trace, s.a), b=name_of(trace, s.b), c=name_of(trace, s.c)) for i, s in sums.items()}


def name_of(trace, argument):
    if not isinstance(argument, Ref):
        return argument
    node = trace.nodes[argument.index]
    return node.arguments[0] if node.operation == "input" else node.operation


@pytest.mark.parametrize(
    ("write", "signs"),
    [
        (lambda a, b, c: a * b + c, (False, False)),
        (lambda a, b, c: c + a * b, (False, False)),
        (lambda a, b, c: a * b - c, (False, True)),
        (lambda a, b, c: c - a * b, (True, False)),
        (lambda a, b, c: c - -(a * b), (False, False)),
        (lambda a, b, c: c + -(a * b), (True, False)),
        (lambda a, b, c: -(a * b) - c, (True, True)),
    ],
)
def test_a_product_in_a_sum_is_taken_in_with_its_sign(write, signs):
    trace, a, b, c, _ = abcd()
    total = write(a, b, c)
    ((index, sum_),) = found(trace, total).items()
    assert index == total.index and (sum_.a, sum_.b, sum_.c) == ("a", "b", "c")
    assert (sum_.minus_product, sum_.minus_c) == signs


def test_an_output_that_is_a_product_joins_the_sum_that_it_is_added_to():
    trace, a, b, c, d = abcd()
    product, negative, total = a * b, -(c * d), a * c + d
    sums = found(trace, product, negative, total, added=(product, negative, total))
    assert {i: (s.a, s.b, s.c, s.minus_product) for i, s in sums.items()} == {
        product.index: ("a", "b", None, False), negative.index: ("c", "d", None, True),
        total.index: ("a", "c", "d", False),
    }  # fmt: skip
    assert not found(trace, product, added=()) and not found(trace, product, exact=(product,), added=(product,))
    other = product + d
    assert product.index not in found(trace, product, other, added=(product,)), "another one reads it"


def test_of_two_products_one_is_taken_in_and_the_other_stays():
    trace, a, b, c, d = abcd()
    (sum_,) = found(trace, a * b + c * d).values()
    assert (sum_.a, sum_.b, sum_.c) == ("c", "d", "mul") and len(sum_.inside) == 1


def test_a_product_that_is_used_twice_or_is_an_output_stays():
    trace, a, b, c, d = abcd()
    product = a * b
    assert not found(trace, product + c, product + d)
    assert not found(trace, product + c, product)
    assert len(found(trace, product + c)) == 1  # counted are uses in what is needed
    negative = -(c * d)
    assert not found(trace, negative + a, negative)


def test_a_square_in_a_sum_and_a_product_added_to_itself():
    trace, a, _, c, _ = abcd()
    (sum_,) = found(trace, a * a + c).values()
    assert (sum_.a, sum_.b) == ("a", "a")
    product = a * c
    assert not found(trace, product + product)


def test_what_must_round_as_it_is_written_stays():
    trace, a, b, c, _ = abcd()
    product = a * b
    total = product + c
    assert not found(trace, total, exact=[total, product]) and not found(trace, total, exact=[product])
    assert not found(trace, total, exact=[total])


def test_what_is_computed_before_the_loop_stays_there():
    trace, a, *_ = abcd()
    p, q = trace.input("p", PARAMETER), trace.input("q", PARAMETER)
    coefficient = p * q
    assert not found(trace, a + coefficient) and not found(trace, coefficient + p)
    (sum_,) = found(trace, a * coefficient + p).values()
    assert (sum_.a, sum_.b, sum_.c) == ("a", "mul", "p")


def test_a_chain_takes_each_product_in_once():
    trace, a, b, c, d = abcd()
    total = a * b + (c * d + a * d)
    sums = found(trace, total)
    inside = [i for s in sums.values() for i in s.inside]
    assert len(sums) == 2 and len(inside) == len(set(inside)) == 2


def check_program(program, case=""):
    """No sum of an output or a state is touched, and what falls away is read by nobody else."""
    trace = program.step.trace
    exact = set(trace.needed(program.forward_outputs))
    assert not fused(trace, program.forward_outputs, exact), case
    sums = fused(trace, program.backward_outputs, exact)
    inside = [i for s in sums.values() for i in s.inside]
    assert len(inside) == len(set(inside)) and not exact & (set(sums) | set(inside)), case
    left = [i for i in trace.needed(program.backward_outputs) if i not in inside and i not in sums]
    read = Counter(a.index for i in left for a in trace.nodes[i].arguments if isinstance(a, Ref))
    read.update(a.index for s in sums.values() for a in (s.a, s.b, s.c) if isinstance(a, Ref))
    assert not set(inside) & (set(read) | set(program.backward_outputs)), case
    return sums


@pytest.mark.parametrize("equation", EQUATIONS)
def test_no_neuron_rounds_a_state_or_an_output_otherwise(equation):
    for surrogate in surrogates_of(equation):
        for reset in resets_of(equation):
            check_program(plan_of(neuron_of(equation, surrogate, reset)).program, f"{surrogate}-{reset}")


def test_a_leak_with_a_reset_to_a_value_fuses_something():
    assert check_program(plan_of(LIF(reset=Hard(-0.25))).program)


@given(drawn=neurons(), seed=st.integers(0, 99))
def test_a_drawn_step_has_the_gradients_that_it_has_without_fusing(drawn, seed):
    program = plan_of(drawn()).program
    sums = check_program(program)
    trace, draw = program.step.trace, np.random.default_rng(seed)
    values, plain = {}, {}
    for index in trace.needed(program.backward_outputs):
        node = trace.nodes[index]
        if node.operation == "input" or node.place != LANE:
            values[index] = plain[index] = draw.uniform(0.5, 1.5, 7) * draw.choice([-1.0, 1.0], 7)
            continue
        for known in (values, plain):
            arguments = [known.get(a.index) if isinstance(a, Ref) else a for a in node.arguments]  # a slope is not read
            if known is values and index in sums:
                a, b, c = (known[t.index] if isinstance(t, Ref) else t for t in sums[index][:3])
                known[index] = (-1) ** sums[index].minus_product * a * b + (-1) ** sums[index].minus_c * c
            else:
                with np.errstate(all="ignore"):
                    known[index] = NUMPY[node.operation](*arguments)
    for index in program.backward_outputs:
        assert np.allclose(values[index], plain[index], rtol=1e-9, atol=1e-9, equal_nan=True)
