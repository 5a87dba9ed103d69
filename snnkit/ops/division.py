"""How floats are divided by a number that stays the same: to the last bit, in as few operations as the number allows.

A division costs a GPU ten operations, a product in double two slow conversions. With hi + lo = 1 / b, hi rounded
towards zero, fma(a, hi, a lo) is a / b to the last bit for most divisors b and every a (Brisebarre, Muller and Raina
2004, IEEE Trans. Computers 53:1069). Whether b is one of them is a finite question: only quotients near the middle
between two floats could come out wrong, and they are few. Below 1e-30 a lo loses bits, and so may the quotient, its
last one. Calls in float32 have to be exact there, too; those in half precision take it: they wait for the divisions.
On a CPU the scan multiplies where all its divisors are powers of two, and divides otherwise.
"""

from __future__ import annotations

import enum
import functools
import math
from fractions import Fraction

import numpy as np
import torch

from snnkit.ops.codegen import divisors
from snnkit.ops.program import Program

_DIGITS = 24  # bits of a float's significand
# Two products are off by less than 2^-46.4 of the quotient. A 2^24 or A 2^25 = B n + k for an odd n, the middle between
# two floats, is off by k 2^-49 or more: k beyond 6 is too far away.
_NEAR = 8
_LEAST, _MOST = 2.0**-60, 2.0**60  # beyond, a product with a part of the inverse might leave the range of floats


class Division(enum.IntEnum):
    """The way to a quotient; ``cuda/divide.cuh`` knows them by these numbers."""

    DOUBLE = 0
    """A product in double, or a correction by the remainder."""
    PRODUCT = 1
    """By a power of two: its inverse is exact."""
    TWO_PRODUCTS = 2
    """By most numbers; exact from quotients of 1e-30 on."""


@functools.lru_cache(maxsize=1024)
def division_by(number: float, dtype: torch.dtype) -> Division:
    """The shortest way for calls of a dtype to divide by a number: exact, in half precision from quotients of 1e-30 on.

    >>> [division_by(tau, torch.float16).name for tau in (2.0, 3.0, 1.9)]
    ['PRODUCT', 'TWO_PRODUCTS', 'DOUBLE']
    """
    if dtype != torch.float64:
        with np.errstate(over="ignore"):
            number = float(np.float32(number))  # as the kernel has it
    fraction, exponent = math.frexp(number)
    if abs(fraction) == 0.5 and abs(exponent) < 126:  # its inverse is a normal float, too
        return Division.PRODUCT
    if dtype.itemsize == 2 and _LEAST <= abs(number) <= _MOST and _two_products_divide(abs(number)):
        return Division.TWO_PRODUCTS
    return Division.DOUBLE


@functools.lru_cache(maxsize=1024)
def divisions_of(program: Program, numbers: tuple[float, ...], dtype: torch.dtype) -> tuple[Division, ...]:
    """How each divisor is divided by. One that is learnt changes, and the kernel does not: in double."""
    values = dict(zip(program.number_coefficients, numbers, strict=False))
    return tuple(division_by(values[i], dtype) if i in values else Division.DOUBLE for i in divisors(program))


def _two_products_divide(b: float) -> bool:
    """Whether all quotients by b that come near the middle between two floats are rounded to the right side."""
    divisor = int(math.frexp(b)[0] * 2**_DIGITS)  # B in [2^23, 2^24); powers of two change nothing
    inverse = 1.0 / divisor
    hi = np.float32(inverse)
    if float(hi) > inverse:
        hi = np.nextafter(hi, np.float32(0.0))
    lo = np.float32(inverse - float(hi))
    for a in _near_the_middle(divisor):
        found = a * Fraction(float(hi)) + Fraction(float(np.float32(a) * lo))
        if _rounded(found) != _rounded(Fraction(a, divisor)):
            return False
    return True


def _near_the_middle(divisor: int) -> list[int]:
    """Each A in [2^23, 2^24) whose quotient by B is all but the middle between two floats: A 2^s = B n + k, n odd."""
    found = []
    zeros = (divisor & -divisor).bit_length() - 1
    for k in range(-_NEAR, _NEAR + 1):
        if k == 0 or k % (1 << zeros):
            continue
        for s in (_DIGITS, _DIGITS + 1):  # A >= B, A < B: the quotient has its first bit there
            period = 1 << (s - zeros)
            first = -(k >> zeros) * pow(divisor >> zeros, -1, period) % period
            for n in range(first + (1 << 24) // period * period, 1 << 25, period):
                a, rest = divmod(divisor * n + k, 1 << s)
                if n >= 1 << 24 and n % 2 and not rest and 1 << 23 <= a < 1 << 24 and (a >= divisor) == (s == _DIGITS):
                    found.append(a)
    return found


def _rounded(value: Fraction) -> Fraction:
    """A positive number rounded to a float's significand, ties to even, whatever its exponent."""
    exponent = math.frexp(float(value))[1] - _DIGITS
    unit = Fraction(2) ** exponent
    return round(value / unit) * unit
