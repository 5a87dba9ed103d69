"""What the GPU's scan is compiled from: its text, and how each divisor is divided by."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from snnkit.equations import ALIF, LIF, AdLIF, EFAdLIF
from snnkit.ops import cuda, scan_cuda
from snnkit.ops.division import Division, divisions_of
from snnkit.ops.program import plan_of
from snnkit.ops.scan_work import Work


def divisions(neuron, dtype=torch.float16):
    plan = plan_of(neuron)
    return divisions_of(plan.program, plan.constants, dtype)


def test_each_divisor_counts_for_itself_and_one_that_is_learnt_never():
    double, one, two = Division.DOUBLE, Division.PRODUCT, Division.TWO_PRODUCTS
    assert divisions(LIF(tau=4.0)) == (one,) and divisions(LIF(tau=3.0)) == (two,)
    both = [divisions(ALIF(tau=tau, tau_a=tau_a)) for tau, tau_a in ((2.0, 16.0), (2.0, 20.0), (20.0, 2.0), (1.9, 5.0))]
    assert sorted(map(sorted, both)) == [[double, two], [one, one], [one, two], [one, two]]
    assert both[1] != both[2]
    assert divisions(LIF(tau=torch.tensor(2.0))) == (double,), "a learnt tau changes, the kernel does not"


def test_only_half_precision_takes_two_products():
    for dtype in (torch.float32, torch.float64):
        assert divisions(LIF(tau=3.0), dtype) == (Division.DOUBLE,)
        assert divisions(LIF(tau=2.0), dtype) == (Division.PRODUCT,)
    assert divisions(LIF(tau=3.0), torch.bfloat16) == (Division.TWO_PRODUCTS,)


@pytest.mark.parametrize("neuron", [LIF(), ALIF(), AdLIF(), EFAdLIF()], ids=lambda neuron: type(neuron).__name__)
def test_the_text_says_its_cut_and_holds_one_of_both_kernels(neuron):
    program = plan_of(neuron).program
    work = Work(4, 8, 128, 3, stash=True, still=True, bare=True)
    code = scan_cuda.text(program, torch.float16, "", (), work, "BACKWARD")
    numbers = ("Width = 4", "Chunk = 8", "Threads = 128", "Resident = 3")
    for told in (*numbers, "One = 0", "Stash = 1", "Still = 1", "Bare = 1"):
        assert f" k{told}" in code
    assert "typedef half io;" in code and "typedef float real;" in code
    assert "#define SNN_BACKWARD" in code and "#define SNN_FORWARD" not in code
    assert "typedef double real;" in scan_cuda.text(program, torch.float64, "", (), Work(2, 4, 64), "FORWARD")


def test_threads_that_ask_ahead_are_all_there_at_once():
    with mock.patch.object(cuda, "multiprocessors", lambda device: 132):
        assert scan_cuda._most_blocks(Work(2, 16, 64, 4, ahead=True), 0) == 528
        assert scan_cuda._most_blocks(Work(2, 16, 64, 4), 0) == 4096
