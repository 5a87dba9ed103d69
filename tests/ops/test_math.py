"""``cuda/math.h``: how many units in the last place its functions are off, and what they do at the ends."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
import torch

from snnkit.equations.symbols import OPERATIONS
from snnkit.ops import cpu, scan_cpu
from snnkit.ops.sources import source

# Largest error in units in the last place, with a little room over what was measured; 0.5 is correct rounding.
BOUNDS = {
    ("exp", "float"): 1.5, ("exp", "double"): 1.5, ("log", "float"): 2.0, ("log", "double"): 2.0,
    ("tanh", "float"): 3.0, ("tanh", "double"): 3.0, ("sigmoid", "float"): 3.0, ("sigmoid", "double"): 3.0,
    ("sqrt", "float"): 0.5, ("sqrt", "double"): 0.5, ("erf", "float"): 2.0, ("erf", "double"): 2.0,
    ("atan", "float"): 2.0, ("atan", "double"): 2.0,
}  # fmt: skip
UNARY = ["exp", "log", "tanh", "sigmoid", "sqrt", "erf", "atan", "abs", "sign", "floor", "round"]
BINARY = ["minimum", "maximum"]
TYPES = {"float": np.float32, "double": np.float64}


def text() -> str:
    lines = [source("math.h")]
    for real in TYPES:
        for name in UNARY:
            lines.append(
                f'extern "C" void {name}_{real}(long n, const {real} *a, {real} *out) '
                f"{{ for (long i = 0; i < n; i++) out[i] = snn_{name}(a[i]); }}"
            )
        for name in BINARY:
            lines.append(
                f'extern "C" void {name}_{real}(long n, const {real} *a, const {real} *b, {real} *out) '
                f"{{ for (long i = 0; i < n; i++) out[i] = snn_{name}(a[i], b[i]); }}"
            )
    return "\n".join(lines)


def computed(name: str, real: str, *arguments: np.ndarray, optimise: str = "-O3") -> np.ndarray:
    """The function over arrays, by the compiled text."""
    arrays = [np.ascontiguousarray(a, TYPES[real]) for a in arguments]
    out = np.full_like(arrays[0], np.nan)
    function = getattr(cpu.library(text(), optimise), f"{name}_{real}")
    function.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * (len(arrays) + 1)
    function.restype = None
    function(out.size, *(a.ctypes.data for a in arrays), out.ctypes.data)
    return out


def exact(name: str, a: np.ndarray) -> np.ndarray:
    """The function in the widest numbers there are."""
    wide = a.astype(np.longdouble)
    if name in ("erf", "atan"):
        return np.array([getattr(math, name)(v) for v in a.astype(np.float64)])
    return {
        "exp": np.exp, "log": np.log, "tanh": np.tanh, "sqrt": np.sqrt, "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    }[name](wide)  # fmt: skip


def ulps(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Difference in units in the last place of the expected value."""
    spacing = np.spacing(np.abs(expected.astype(got.dtype)))
    return np.abs((got.astype(np.longdouble) - expected) / spacing.astype(np.longdouble)).astype(np.float64)


def arguments(name: str, real: str) -> np.ndarray:
    """Values over the whole range where the result is a normal number."""
    draw = np.random.default_rng(0)
    largest = 88.0 if real == "float" else 709.0
    if name in ("log", "sqrt"):
        tiniest = -126 if real == "float" else -1022
        values = np.exp2(draw.uniform(tiniest, -tiniest, 100_000))
        return np.concatenate([values, 1 + draw.uniform(-0.5, 1.5, 100_000), np.exp2(np.arange(tiniest, -tiniest))])
    low, high = {"exp": (-0.98 * largest, largest), "sigmoid": (-0.98 * largest, 40.0), "tanh": (-20.0, 20.0)}.get(
        name, (-6.0, 6.0)
    )
    tiny = draw.choice([-1, 1], 50_000) * np.exp2(draw.uniform(-20, 0, 50_000))
    return np.concatenate([draw.uniform(low, high, 200_000), tiny, [0.625, -0.625, 0.0]])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="no number here is wider than float64")
@pytest.mark.parametrize("real", TYPES)
@pytest.mark.parametrize("name", [n for n in UNARY if (n, "float") in BOUNDS])
def test_errors_stay_below_their_bound(name, real):
    a = arguments(name, real).astype(TYPES[real])
    off = ulps(computed(name, real, a), exact(name, a))
    worst = off.argmax()
    assert off[worst] <= BOUNDS[name, real], f"{off[worst]:.3f} units at {a[worst]!r}"


@pytest.mark.parametrize("real", TYPES)
@pytest.mark.parametrize("name", UNARY)
def test_ends_and_oddities(name, real):
    kind = TYPES[real]
    least = np.finfo(kind).smallest_subnormal
    a = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, least, -least, 1.0, -1.0, 2.5, -2.5, 0.5, 1e5, -1e5], kind)
    expected = getattr(torch, name)(torch.tensor(a)).numpy()  # torch.sign(nan) is 0
    np.testing.assert_allclose(computed(name, real, a), expected, rtol=4 * np.finfo(kind).eps, atol=2 * least)


@pytest.mark.parametrize("real", TYPES)
@pytest.mark.parametrize("name", BINARY)
def test_minimum_and_maximum_pass_nan_on_and_order_infinities(name, real):
    values = np.array([0.0, 1.0, -2.5, np.inf, -np.inf, np.nan])
    a, b = (v.ravel() for v in np.meshgrid(values, values))
    expected = getattr(torch, name)(torch.tensor(a), torch.tensor(b)).numpy()
    assert np.array_equal(computed(name, real, a, b), expected, equal_nan=True)


@pytest.mark.parametrize("real", TYPES)
def test_subnormal_results_of_exp_are_right_to_their_last_digit(real):
    kind, low = TYPES[real], {"float": (-103.5, -87.0), "double": (-745.0, -708.0)}[real]
    a = np.linspace(*low, 5001).astype(kind)
    least = np.finfo(kind).smallest_subnormal
    off = np.abs(computed("exp", real, a).astype(np.longdouble) - np.exp(a.astype(np.longdouble))) / np.longdouble(
        least
    )
    assert ((off <= 1.01) | (off * least < 4 * np.finfo(kind).eps * np.exp(a.astype(np.longdouble)))).all()


def test_exp_never_falls():
    for real, kind in TYPES.items():
        a = np.sort(np.random.default_rng(1).uniform(-5, 5, 100_000).astype(kind))
        y = computed("exp", real, a).astype(np.longdouble)
        # Neighbours may change places by a rounding, no more.
        assert (np.diff(y) >= -2 * np.finfo(kind).eps * y[1:]).all()


@pytest.mark.parametrize("real", TYPES)
@pytest.mark.parametrize("name", [n for n in UNARY if n not in ("erf", "atan")])
def test_bits_do_not_depend_on_the_optimisation(name, real):
    a = np.concatenate([arguments(name, real)[::7], [np.nan, np.inf, -np.inf, -1.0, -0.0]])
    bits = [computed(name, real, a, optimise=level).tobytes() for level in ("-O0", "-O1", "-O2", "-O3")]
    assert len(set(bits)) == 1


def test_every_function_of_the_closed_set_is_in_the_header():
    header = source("math.h")
    wanted = {o.text.split("(")[0] for o in OPERATIONS.values() if o.text.startswith("snn_")}
    assert all(f" {name}(" in header for name in wanted)
    assert wanted == {f"snn_{n}" for n in UNARY + BINARY} and scan_cpu.source is source
