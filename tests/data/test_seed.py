from itertools import product

import pytest

from snnkit.data import batch_generator, generator
from snnkit.data.seed import order_generator


def first(rng):
    return rng.integers(2**62)


def test_one_key_gives_the_same_draws_whatever_was_drawn_before():
    before = generator(3, 1, 4).normal(size=5).tolist()
    generator(3, 1, 5).normal(size=100)
    assert generator(3, 1, 4).normal(size=5).tolist() == before


def test_every_key_and_purpose_has_its_own_stream():
    keys = list(product((0, 1, 2**32 - 1), (0, 1, 7), (0, 1, 7)))
    draws = [first(make(*key)) for make in (generator, batch_generator) for key in keys]
    draws += [first(order_generator(seed, epoch)) for seed, epoch in product((0, 1), (0, 1, 7))]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize("key", [(-1, 0, 0), (0, -1, 0), (0, 0, 2**32)])
def test_a_key_that_does_not_fit_is_refused(key):
    with pytest.raises(ValueError, match="must be in"):
        generator(*key)


def test_a_fraction_is_no_key():
    with pytest.raises(TypeError):
        generator(0, 0.5, 0)
