"""Surrogates: the formulas of the papers, primitives with that derivative, and one of your own."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit.equations import (
    IF,
    SLAYER,
    ATan,
    Custom,
    FastSigmoid,
    Gaussian,
    MultiGaussian,
    Rectangle,
    Sigmoid,
    StraightThrough,
    Surrogate,
    Triangle,
)
from snnkit.equations.symbols import atan, exp, where
from snnkit.ops import scan
from tests.equations_under_test import SURROGATES, by_reference

D = [-3.0, -0.5, -0.25, -1e-3, 0.0, 1e-3, 0.25, 0.5, 3.0]


def normal(d, mean, deviation):
    return math.exp(-(((d - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))


def multi_gaussian(d, sigma=0.5, h=0.15, s=6.0, gamma=0.5):
    sides = normal(d, sigma, s * sigma) + normal(d, -sigma, s * sigma)
    return gamma * ((1 + h) * normal(d, 0, sigma) - h * sides)


def logistic(z):
    return 1 / (1 + math.exp(-z))


FORMULAS = {
    "Sigmoid": (Sigmoid(3.0), lambda d: 3 * logistic(3 * d) * (1 - logistic(3 * d))),
    "ATan": (ATan(3.0), lambda d: 1.5 / (1 + (math.pi * 3 * d / 2) ** 2)),
    "Triangle": (Triangle(1.5), lambda d: 1.5 * max(0, 1 - 1.5 * abs(d))),
    "Rectangle": (Rectangle(2.0), lambda d: 2.0 if -0.25 < d <= 0.25 else 0.0),
    "FastSigmoid": (FastSigmoid(5.0), lambda d: 1 / (1 + 5 * abs(d)) ** 2),
    "Gaussian": (Gaussian(0.4), lambda d: normal(d, 0, 0.4)),
    "MultiGaussian": (MultiGaussian(), multi_gaussian),
    "SLAYER": (SLAYER(5.0, 0.4), lambda d: 0.4 * math.exp(-5 * abs(d))),
    "StraightThrough": (StraightThrough(), lambda d: 1.0),
}


def gradient(surrogate, distances):
    """ds/dx of an IF whose membrane stands at these distances from the threshold."""
    x = (torch.tensor(distances, dtype=torch.float64) + 1.0).reshape(1, 1, -1).requires_grad_()
    s, *_ = by_reference(IF(surrogate=surrogate), x)
    (g,) = torch.autograd.grad(s.sum(), x)
    return g.flatten().tolist()


def test_every_surrogate_has_its_formula_here():
    assert set(FORMULAS) == set(SURROGATES) - {"Custom"}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_gradient_of_a_spike_is_the_papers_formula(name):
    surrogate, formula = FORMULAS[name]
    for d in D:  # one at a time: 1 + d rounds
        exact = (d + 1.0) - 1.0
        assert gradient(surrogate, [d]) == pytest.approx([formula(exact)], rel=1e-12)


@pytest.mark.parametrize("name", SURROGATES)
def test_numbers_and_tensors_give_one_derivative(name):
    assert [SURROGATES[name].derivative(d) for d in D] == pytest.approx(
        [gradient(SURROGATES[name], [d])[0] for d in D], rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("name", SURROGATES)
@settings(deadline=None, max_examples=30)
@given(d=st.floats(-2.0, 2.0))
def test_the_primitive_has_the_surrogate_as_its_derivative(name, d):
    surrogate, step = SURROGATES[name], 1e-6
    borders = {"Rectangle": [-0.5, 0.5], "Triangle": [-1.0, 0.0, 1.0]}.get(name, [0.0])
    if any(abs(d - border) < 1e-4 for border in borders):
        return  # a corner
    slope = (surrogate.primitive(d + step) - surrogate.primitive(d - step)) / (2 * step)
    assert slope == pytest.approx(surrogate.derivative(d), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["Sigmoid", "ATan", "Triangle", "Rectangle", "Gaussian"])
def test_where_the_surrogate_is_a_density_the_smooth_spike_goes_from_zero_to_one(name):
    primitive = SURROGATES[name].primitive
    assert primitive(-1e6) == pytest.approx(0.0, abs=1e-6) and primitive(1e6) == pytest.approx(1.0, abs=1e-6)
    assert primitive(0.0) == pytest.approx(0.5)


@pytest.mark.parametrize("name", SURROGATES)
def test_a_spike_far_from_the_threshold_has_a_finite_gradient(name):
    assert all(math.isfinite(g) for g in gradient(SURROGATES[name], [-1e30, 1e30, -700.0, 700.0]))


WITH_A_WIDTH = [type(s) for s in SURROGATES.values() if s.positive]


@pytest.mark.parametrize("surrogate", WITH_A_WIDTH, ids=lambda s: s.__name__)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_width_must_be_positive(surrogate, value):
    for name in surrogate.positive:
        with pytest.raises(ValueError, match=f"{name} must be > 0, got {value}"):
            surrogate(**{name: value})


def test_your_own_is_one_function_of_d():
    own = Custom(lambda d: exp(-3.0 * abs(d)), lambda d: where(d < 0.0, exp(3.0 * d), 2.0 - exp(-3.0 * d)) / 3.0)
    assert gradient(own, [0.5]) == pytest.approx([math.exp(-1.5)])
    x = torch.full((1, 1, 1), 1.5, dtype=torch.float64)
    s, *_ = scan(IF(surrogate=own).as_relaxed(), x)
    assert s.item() == pytest.approx((2.0 - math.exp(-1.5)) / 3.0)


def test_your_own_class_has_parameters_that_can_be_annealed():
    class Own(Surrogate):
        """alpha / (1 + |alpha d|)."""

        alpha = 2.0

        def derivative(self, d):
            return self.alpha / (1.0 + abs(self.alpha * d))

    neuron = IF(surrogate=Own(3.0))
    assert neuron.parameters()["surrogate.alpha"] == 3.0
    assert gradient(neuron.bind({"surrogate.alpha": 4.0}).surrogate, [0.5]) == pytest.approx([4 / 3])


def test_relaxed_mode_without_a_primitive_says_what_is_missing():
    for surrogate in (Custom(lambda d: 1.0 / (1.0 + d * d)), Surrogate()):
        with pytest.raises(TypeError, match=r"has no primitive\(self, d\), which relaxed mode needs"):
            scan(IF(surrogate=surrogate).as_relaxed(), torch.ones(1, 1, 1))


def test_two_functions_are_two_surrogates_and_one_is_one():
    def derivative(d):
        return 1.0 / (1.0 + d * d)

    assert Custom(derivative).structure() == Custom(derivative).structure()
    assert Custom(derivative).structure() != Custom(derivative, atan).structure()
    assert Custom(derivative, atan).structure() != Custom(derivative, lambda d: atan(d)).structure()


@pytest.mark.parametrize("name", [n for n in SURROGATES if n != "Custom"])
def test_a_surrogate_as_functions_passes_the_comparison_and_a_scaled_one_does_not(name):
    surrogate = SURROGATES[name]
    Custom(surrogate.derivative, surrogate.primitive)
    with pytest.raises(ValueError, match=r"Custom: at d = -?\d\.\d+ the derivative is .*, but the slope"):
        Custom(surrogate.derivative, lambda d: 1.1 * surrogate.primitive(d))


def test_a_primitive_of_another_surrogate_is_refused_with_the_point_both_values_and_the_remedy():
    message = r"at d = -1\.371 the derivative is 0\.\d+, but the slope of the primitive is 1\. Give the function whose"
    with pytest.raises(ValueError, match=message):
        Custom(lambda d: 1.0 / (1.0 + d * d), lambda d: d)
    assert Sigmoid(1.0).structure() == Sigmoid(2.0).structure()  # numbers compile nothing new
