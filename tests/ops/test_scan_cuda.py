"""What the GPU's scan is compiled from: its text, and the divisors whose inverse is exact."""

from __future__ import annotations

import pytest
import torch

from snnkit.equations import ALIF, LIF, AdLIF, EFAdLIF
from snnkit.ops import scan_cuda
from snnkit.ops.program import plan_of
from snnkit.ops.scan_work import Work


def powers(neuron):
    plan = plan_of(neuron)
    return scan_cuda._powers(plan.program, plan.constants)


@pytest.mark.parametrize("tau", [2.0, 0.25, 1.0, 1024.0, 2.0**100, 2.0**-100])
def test_a_division_by_a_power_of_two_is_seen(tau):
    assert powers(LIF(tau=tau)) == (True,)


@pytest.mark.parametrize("tau", [3.7, 3.0, 6.0, 2.0 + 1e-15, 2.0**127, 2.0**-127, 2.0**-149, 2.0**200])
def test_others_and_those_whose_inverse_is_no_normal_float_are_divided_by(tau):
    assert powers(LIF(tau=tau)) == (False,)


def test_each_divisor_counts_for_itself_and_one_that_is_learnt_never():
    both = [powers(ALIF(tau=tau, tau_a=tau_a)) for tau, tau_a in ((2.0, 16.0), (2.0, 20.0), (20.0, 2.0), (3.0, 5.0))]
    assert sorted(map(sorted, both)) == [[False, False], [False, True], [False, True], [True, True]]
    assert both[1] != both[2]
    assert powers(LIF(tau=torch.tensor(2.0))) == (False,), "a learnt tau changes, the kernel does not"


@pytest.mark.parametrize("neuron", [LIF(), ALIF(), AdLIF(), EFAdLIF()], ids=lambda neuron: type(neuron).__name__)
def test_the_text_says_its_cut_and_holds_one_of_both_kernels(neuron):
    program = plan_of(neuron).program
    code = scan_cuda.text(program, torch.float16, "", (), Work(4, 8, 128, 3, stash=True, still=True), "BACKWARD")
    for told in ("kWidth = 4", "kChunk = 8", "kThreads = 128", "kResident = 3", "kOne = 0", "kStash = 1", "kStill = 1"):
        assert f" {told}" in code
    assert "typedef half io;" in code and "typedef float real;" in code
    assert "#define SNN_BACKWARD" in code and "#define SNN_FORWARD" not in code
    assert "typedef double real;" in scan_cuda.text(program, torch.float64, "", (), Work(2, 4, 64), "FORWARD")
