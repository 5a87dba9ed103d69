"""DelRec's three samples for one."""

import doctest
import json

import _tripled
import numpy as np
import pytest
from _tripled import Tripled, blend, shifted
from train_shd import main

from snnkit.data import Digits, Part

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def some():
    return Part(Digits("valid", steps=7), range(40))


def test_the_examples_run():
    assert doctest.testmod(_tripled).failed == 0


def test_a_third_is_as_recorded_a_third_shifted_a_third_blended(some):
    tripled = Tripled(some, shift=2, seed=1)
    assert len(tripled) == 120 and (tripled.labels == np.tile(some.labels, 3)).all() and tripled.draws
    for i in range(40):
        x, label = some[i]
        (same, shift, both), labels = zip(*(tripled[i + 40 * third] for third in range(3)), strict=True)
        assert labels == (label,) * 3 and (same == x).all()
        assert shift.shape == x.shape and (shift.sum(0) <= x.sum(0)).all() and (shift != x).any()
        assert len(both) >= len(x) and both.max() <= x.max() + 1


def test_draws_follow_from_seed_epoch_and_sample_alone(some):
    def draw(seed, epoch, index=90):
        return Tripled(some, 2, seed).sample(index, epoch)

    def same(a, b):
        return a.shape == b.shape and (a == b).all()

    assert same(draw(1, 3), draw(1, 3))
    assert not same(draw(1, 3), draw(2, 3)) and not same(draw(1, 3), draw(1, 4))


def test_a_shift_moves_each_input_on_its_own_and_by_no_more_than_said():
    x = np.zeros((11, 400), np.uint8)
    x[5] = 3
    by = RNG(0).integers(-2, 2, 400, endpoint=True)
    y = shifted(x, by)
    assert y.dtype == np.uint8 and (y.argmax(0) == 5 + by).all() and (y.sum(0) == 3).all()
    assert not shifted(x, np.full(400, 6)).any(), "what leaves the sample is lost"


def test_a_blend_meets_at_the_centres_of_mass_and_keeps_half_of_the_spikes():
    early, late = np.zeros((4, 900), np.uint8), np.zeros((9, 900), np.uint8)
    early[1], late[6] = 200, 100
    for a, b in ((early, late), (late, early)):
        y = blend(a, b, 0.5, RNG(1))
        assert y.shape == (9, 900) and y[6].sum() == y.sum()
        assert y.mean(1)[6] == pytest.approx(150, abs=5 * 0.5 * (300 / 900) ** 0.5)  # five standard deviations
    assert not blend(0 * early, late, 1.0, RNG(1))[[0, 1, 2, 3, 4, 5, 7, 8]].any(), "silence has its centre, too"


def test_a_sample_alone_in_its_class_is_shifted_in_place_of_blended(some):
    one = Part(some, [0])
    assert len(Tripled(one, 2)[2][0]) == len(some[0][0])


def test_the_script_trains_on_three_samples_for_each_and_tests_on_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main("--cpu --hidden 5 --steps 4 --max-delay 3 --epochs 1 --batch 512 --triple 2 --folder run".split())
    samples = json.loads((tmp_path / "run" / "result.json").read_text())["samples"]
    assert samples == {"train": 3 * 1293, "validation": 144, "test": 360}
    with pytest.raises(SystemExit, match="--triple must be at least 0, got -1"):
        main("--cpu --triple -1".split())
