"""How the GPU's scan cuts its work: a rule of shapes alone, within what a block may hold."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkit.ops.division import Division
from snnkit.ops.scan_cuda import IO
from snnkit.ops.scan_work import backward_work, forward_work

MOST_SHARED = 48 << 10  # bytes of a block that every GPU grants unasked
STEPS = [1, 3, 4, 5, 8, 9, 16, 17, 33, 150, 1000]
MANY = 1 << 24
RULES = [forward_work, backward_work]


def bare_sums(*call):
    return backward_work(*call, letters="ss", bare=True)


calls = st.tuples(
    st.sampled_from(list(IO)),
    st.integers(1, 4),  # states
    st.sampled_from(STEPS) | st.integers(1, 2000),
    st.integers(1, 1 << 26),  # lanes
    st.integers(0, 64),  # strides and addresses, or-ed
)


@given(calls)
def test_every_cut_is_one_that_the_kernels_can_do(call):
    dtype, states, steps, lanes, places = call
    for rule in (*RULES, bare_sums):
        work = rule(dtype, states, steps, lanes, lanes | places)
        assert work.width in (1, 2, 4, 8) and work.width * dtype.itemsize <= 16
        assert lanes % work.width == 0 and places % work.width == 0, "a load that is not aligned is a crash"
        assert not work.one or work.chunk == steps, "one chunk must hold all steps, and no step beyond"
        assert not (work.one and work.stash)
        assert work.threads % 32 == 0 and work.threads * work.resident <= 2048
        assert work.shared(dtype, states, steps) <= MOST_SHARED


@given(calls)
def test_the_states_before_each_chunk_but_those_of_one_have_a_place(call):
    dtype, states, steps, lanes, places = call
    work = backward_work(dtype, states, steps, lanes, lanes | places)
    earlier = -(-steps // work.chunk) - 1
    if work.one:
        assert earlier == work.shared(dtype, states, steps) == work.starts(states, steps, lanes) == 0
    elif work.stash:
        kept = work.chunk * dtype.itemsize + states * max(dtype.itemsize, 4)
        assert work.shared(dtype, states, steps) == work.threads * work.width * earlier * kept
    else:
        assert work.starts(states, steps, lanes) >= earlier * states * lanes


@pytest.mark.parametrize("rule", RULES)
def test_few_lanes_take_a_thread_each_and_many_share_one(rule):
    for dtype, states, steps in itertools.product(IO, (1, 3), STEPS):
        pairs = dtype.itemsize == 2 and steps > 64
        assert rule(dtype, states, steps, 1000, 1000).width == (2 if pairs else 1)
        assert rule(dtype, states, steps, 999, 999).width == 1
    for dtype in IO:
        if dtype != torch.float64:
            assert rule(dtype, 1, 4, MANY, MANY).width * dtype.itemsize >= 8
    assert {forward_work(d, 1, 4, MANY, MANY).width * d.itemsize for d in IO} == {16}


@pytest.mark.parametrize("rule", RULES)
def test_an_odd_address_or_stride_narrows_the_loads(rule):
    widest = rule(torch.float16, 1, 4, MANY, MANY).width
    widths = [rule(torch.float16, 1, 4, MANY, MANY | odd).width for odd in (0, 16, 8, 4, 2, 1, 3, 6, 12)]
    assert widths == [min(widest, width) for width in (8, 8, 8, 4, 2, 1, 1, 2, 4)]


def test_the_parts_of_an_inverse_have_registers_of_their_own():
    for divisions, resident in (((Division.PRODUCT,), 8), ((Division.TWO_PRODUCTS,), 7), ((Division.DOUBLE,), 8)):
        work = backward_work(torch.float16, 1, 4, MANY, MANY, divisions=divisions)
        assert (work.resident, work.divisions) == (resident, divisions)
    assert backward_work(torch.float16, 1, 16, MANY, MANY, divisions=(Division.TWO_PRODUCTS,)).resident == 8


def test_who_sums_over_all_lanes_and_has_nothing_else_to_read_asks_for_the_next_place():
    for dtype, states, steps in itertools.product(IO, (1, 2, 3), (1, 4, 5, 8, 9, 16, 17)):
        work = bare_sums(dtype, states, steps, MANY, MANY)
        short = steps <= 16 and dtype != torch.float64
        assert work.ahead == (short and (states > 1 or dtype.itemsize == 2)) and work.bare
        assert not work.ahead or work.one, "the kernel asks for all steps of a place"
        assert not bare_sums(dtype, states, steps, 1000, 1000).ahead, "few lanes have one place a thread"
        for letters, bare in (("", True), ("s", False), ("sl", True), ("l", True)):
            other = backward_work(dtype, states, steps, MANY, MANY, letters, bare=bare)
            assert not other.ahead and other.bare == bare


def test_few_lanes_take_longer_chunks_where_their_registers_allow_it():
    for rule, states, division, chunk in (
        (backward_work, 1, Division.PRODUCT, 32), (backward_work, 1, Division.DOUBLE, 16),
        (backward_work, 2, Division.PRODUCT, 16), (forward_work, 2, Division.PRODUCT, 32),
        (forward_work, 1, Division.DOUBLE, 16),
    ):  # fmt: skip
        work = rule(torch.float32, states, 1000, 999, 999, divisions=(division,))
        assert (work.width, work.chunk) == (1, chunk)
        assert rule(torch.float32, states, 64, 999, 999, divisions=(division,)).chunk == 16
        assert rule(torch.float16, states, 1000, 1000, 1000, divisions=(division,)).width == 2


def test_without_steps_the_states_pass():
    for rule in RULES:
        work = rule(torch.float32, 2, 0, MANY, MANY)
        assert work.starts(2, 0, MANY) == work.shared(torch.float32, 2, 0) == 0 and work.chunk >= 1


def test_few_kernels_serve_all_long_sequences():
    # Each is compiled when it is first needed: 0.3 s that a training over many lengths should not meet often.
    sizes = (1, 63, 64, 1000, 1 << 15, 1 << 20, MANY)
    for dtype, states, rule in itertools.product(IO, (1, 2), RULES):
        assert len({rule(dtype, states, t, n, n) for t in range(17, 400) for n in sizes}) <= 12
