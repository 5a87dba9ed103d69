"""Which way of dividing is exact for which divisor: by the rule, and by trying every significand."""

from __future__ import annotations

import ctypes

import pytest
import torch

from snnkit.ops import cpu
from snnkit.ops.division import Division, division_by
from tests.shared import needs_compiler

_EVERY_SIGNIFICAND = r"""
#include <math.h>
#include <string.h>
extern "C" long wrong(float b) {
  const double inverse = 1.0 / (double)b;
  float hi = (float)inverse;
  if (hi > inverse) hi = nextafterf(hi, 0.0f);
  const float lo = (float)(inverse - hi);
  long found = 0;
  for (unsigned bits = 0x3f800000; bits < 0x40000000; bits++) {
    float a;
    memcpy(&a, &bits, 4);
    const float expected = a / b, got = __builtin_fmaf(a, hi, a * lo);
    found += got != expected;
  }
  return found;
}
"""


@pytest.mark.parametrize("number", [2.0, 0.25, 1.0, -4.0, 2.0**100, 2.0**-100])
def test_a_power_of_two_takes_a_product(number):
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert division_by(number, dtype) is Division.PRODUCT


def test_a_number_counts_as_the_kernel_has_it():
    assert division_by(2.0 + 1e-10, torch.float16) is division_by(2.0 + 1e-10, torch.float32) is Division.PRODUCT
    assert division_by(2.0 + 1e-10, torch.float64) is Division.DOUBLE


@pytest.mark.parametrize("number", [3.0, 20.0, 3.7, 10.0, -5.0, 0.3, 200.0, 100.0])
def test_the_usual_time_constants_take_two(number):
    assert division_by(number, torch.float16) is division_by(number, torch.bfloat16) is Division.TWO_PRODUCTS
    assert division_by(number, torch.float32) is division_by(number, torch.float64) is Division.DOUBLE


@pytest.mark.parametrize("number", [2.0**127, 2.0**-127, 1e30, 1e-30, 1e-39, 1e38, 3.0 * 2.0**60])
def test_what_might_leave_the_range_of_floats_takes_double(number):
    assert division_by(number, torch.float16) is Division.DOUBLE


@needs_compiler
def test_two_products_are_taken_where_they_are_right_for_every_significand():
    wrong = cpu.library(_EVERY_SIGNIFICAND, "-O3").wrong
    wrong.argtypes, wrong.restype = [ctypes.c_float], ctypes.c_long
    noise = torch.Generator().manual_seed(1)
    # About one in thirteen of random divisors is not; those just below two are the hardest.
    drawn = [*(1.0 + torch.rand(300, generator=noise)), *(2.0 - 1e-3 * torch.rand(100, generator=noise))]
    divisors = [*map(float, drawn), 1.9, 2.0 - 2.0**-23, 2.0 - 2.0**-22, 1.0 + 2.0**-23, 3.0, 20.0, 3.7]
    divisors = [float(torch.tensor(b, dtype=torch.float32)) for b in divisors]
    rule = {b: division_by(b, torch.float16) is Division.TWO_PRODUCTS for b in divisors}
    assert rule == {b: wrong(b) == 0 for b in divisors}
    assert 20 <= list(rule.values()).count(False) < len(divisors) // 2
