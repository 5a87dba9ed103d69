"""The plain reference: what it computes in which dtype, and that it equals loops written by hand."""

from __future__ import annotations

import math

import pytest
import torch

from snnkit.equations import ALIF, LIF, Equation, Hard, Soft
from snnkit.equations.symbols import OPERATIONS, exp
from snnkit.ops.reference import TORCH, StraightThrough, TensorValue
from tests.equations_under_test import by_reference, drive

T, B, C = 7, 2, 3


class Decay(Equation):
    """A coefficient that float32 cannot hold: exp(-1 / tau)."""

    tau = 3.0
    states = {"v": 0.0}

    def step(self, x, v):
        v = v * exp(-1 / self.tau) + x
        return v, {"v": v}


@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
def test_lif_equals_a_loop_by_hand(v_reset):
    x = drive("LIF", (63, B, C))
    rest = 0.0 if v_reset is None else v_reset
    v, expected = torch.full((B, C), rest, dtype=torch.float64), []
    for row in x:
        v = v + (row - (v - rest)) / 3.0
        s = (v >= 0.75).double()
        v = v - s * 0.75 if v_reset is None else (1 - s) * v + s * v_reset
        expected.append(s)
    s, state, _ = by_reference(LIF(tau=3.0, v_threshold=0.75, v_reset=v_reset), x)
    assert torch.equal(s, torch.stack(expected)) and torch.equal(state["v"], v)
    assert 0 < s.mean() < 1


def test_the_surrogate_shapes_the_gradient_and_a_detached_reset_cuts_its_path():
    # Two steps by hand: v1 = x1 / 2, s1 = [v1 >= 1], v2 = (v1 (1 - s1) + x2) / 2 with s1 = 1 through the reset.
    for reset, through in ((Hard(), 1.0), (Hard(detach=True), 0.0)):
        x = torch.tensor([[[2.5]], [[1.0]]], dtype=torch.float64, requires_grad=True)
        s, *_ = by_reference(LIF(tau=2.0, reset=reset), x)
        gradient = torch.autograd.grad(s[1].sum(), x)[0].flatten()

        def surrogate(d: float) -> float:
            return 1.0 / (1.0 + (math.pi * d) ** 2)

        v1, v2 = 1.25, 0.5
        by_x2 = surrogate(v2 - 1.0) / 2
        by_x1 = surrogate(v2 - 1.0) * 0.5 * (-v1 * surrogate(v1 - 1.0) * through + 0.0) * 0.5
        assert torch.allclose(gradient, torch.tensor([by_x1, by_x2], dtype=torch.float64), rtol=1e-12)


def test_coefficients_are_computed_in_float64_and_rounded_once():
    x = torch.ones(2, 1, 1)
    expected = torch.tensor(math.exp(-1 / 3.0)).float() * 1.0 + 1.0
    assert by_reference(Decay(), x)[1]["v"].item() == expected.item()
    learnt = Decay().bind({"tau": torch.tensor(3.0)})
    assert by_reference(learnt, x)[1]["v"].item() == expected.item()


def test_numbers_are_folded_by_python_so_that_both_forms_take_the_same():
    # torch's exp may differ from Python's in the last bit; as a power of the decay the difference shows.
    x = torch.zeros(63, 1, 1, dtype=torch.float64)
    x[0] = 1.0
    expected = 1.0
    for _ in range(62):
        expected *= math.exp(-1 / 3.0)
    assert by_reference(Decay(), x)[1]["v"].item() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtypes(dtype):
    s, state, traces = by_reference(ALIF(), drive("ALIF", (T, B, C), dtype), record=("a",))
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    assert (s.dtype, state["v"].dtype, traces["a"].dtype) == (dtype, compute, compute)


def test_steps_and_lengths_and_records():
    x = drive("ALIF", (1, B, C))
    repeated, single = by_reference(ALIF(), x.expand(5, B, C)), by_reference(ALIF(), x, steps=5)
    assert torch.equal(repeated[0], single[0]) and list(single[1]) == ["v", "a"]
    s, state, traces = by_reference(ALIF(), x[:0], record=("v",))
    assert s.shape == traces["v"].shape == (0, B, C) and not state["v"].any()
    assert list(by_reference(ALIF(), x, record=("a", "v"))[2]) == ["a", "v"]


def test_every_operation_of_the_closed_set_has_its_torch_function():
    assert set(TORCH) | {"straight_through"} == set(OPERATIONS)


def test_a_number_divides_as_a_tensor():
    # x * (1 / 3) is not x / 3: some of these differ in their last bit.
    x = torch.rand(1000)
    got = (TensorValue(x, torch.float32) / 3.0).tensor
    assert torch.equal(got, x / torch.tensor(3.0)) and not torch.equal(got, x * (1 / torch.tensor(3.0)))


def test_straight_through_under_vmap():
    along, slope = torch.rand(4, 3), torch.rand(4, 3)

    def f(along: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        return StraightThrough.apply((along > 0.5).float(), along, slope).sum()

    assert torch.equal(torch.func.vmap(torch.func.grad(f))(along, slope), slope)


def test_a_soft_reset_subtracts_the_threshold_of_each_channel():
    thresholds = torch.tensor([0.5, 1.0, 2.0])
    _, _, traces = by_reference(
        LIF(reset=Soft()).bind({"v_threshold": thresholds}), torch.full((1, 1, 3), 4.0), record=("v",)
    )
    assert traces["v"].flatten().tolist() == [1.5, 1.0, 0.0]
