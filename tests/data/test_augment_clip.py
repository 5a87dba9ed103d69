"""Laws of the augmentations of clips [T, 2, H, W]: one draw for all frames, counts stay counts, kinds are kept."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import (
    ClipCutout,
    ClipFlip,
    ClipRoll,
    ClipRotate,
    ClipShear,
    ClipTranslate,
    Compose,
    OneOf,
    generator,
    snn_augment_wide,
    spike_driven_recipe,
    spikformer_recipe,
)

SHAPE = (5, 2, 20, 31)
ELEMENTARY = [
    ClipFlip(0.5),
    ClipRoll(5),
    ClipShear(0.3),
    ClipTranslate(5),
    ClipTranslate(5, vertical=True),
    ClipRotate(30),
    ClipCutout(),
]
EVERY = [*ELEMENTARY, snn_augment_wide(), spikformer_recipe(flip=True), spike_driven_recipe(flip=True)]
every = pytest.mark.parametrize("augment", EVERY, ids=lambda each: type(each).__name__)
seeds = st.integers(0, 1000)


def a_clip(seed=0, dtype="uint8", top=9):
    return np.random.default_rng(seed).integers(0, top, SHAPE).astype(dtype)


@every
@given(seed=seeds, dtype=st.sampled_from(["uint8", "uint16", "int32", "float32", "float64"]))
def test_same_seed_same_clip_of_the_same_kind_and_the_input_is_left_alone(augment, seed, dtype):
    clip = a_clip(seed, dtype)
    before = clip.copy()
    once, again = augment(clip, generator(seed, 1, 2)), augment(clip, generator(seed, 1, 2))
    assert (clip == before).all() and (once == again).all()
    assert isinstance(once, np.ndarray) and once.dtype == clip.dtype and once.shape == SHAPE
    assert np.isin(once, np.append(clip, 0)).all(), "nearest neighbour: no new value"


@every
@given(seed=seeds)
def test_tensors_and_arrays_give_the_same(augment, seed):
    clip = a_clip(seed)
    given_tensor = torch.from_numpy(clip)
    changed = augment(given_tensor, generator(seed, 0, 0))
    assert isinstance(changed, torch.Tensor) and changed.dtype == torch.uint8
    assert (changed.numpy() == augment(clip, generator(seed, 0, 0))).all() and (given_tensor.numpy() == clip).all()


@every
@given(seed=seeds)
def test_all_frames_and_both_polarities_see_one_draw(augment, seed):
    one = a_clip(seed)[:1, :1]
    changed = augment(np.tile(one, (5, 2, 1, 1)), generator(seed, 0, 0))
    assert (changed == changed[:1, :1]).all()


@pytest.mark.parametrize("augment", [ClipFlip(1.0), ClipRoll(7)], ids=["flip", "roll"])
@given(seed=seeds)
def test_flip_and_roll_keep_every_count(augment, seed):
    clip = a_clip(seed, "uint16", top=60_000)
    changed = augment(clip, generator(seed, 0, 0))
    assert (np.sort(changed.reshape(5, 2, -1)) == np.sort(clip.reshape(5, 2, -1))).all()


def test_a_flip_mirrors_left_and_right_as_often_as_said():
    clip = a_clip()
    assert (ClipFlip(1.0)(clip, generator(0, 0, 0)) == clip[..., ::-1]).all()
    flipped = [(ClipFlip(0.3)(clip, generator(0, 0, i)) != clip).any() for i in range(600)]
    assert abs(np.mean(flipped) - 0.3) < 0.06


def test_a_roll_wraps_and_reaches_each_shift_of_both_axes():
    clip = np.zeros(SHAPE, np.uint8)
    clip[..., 0, 0] = 1
    places = set()
    for i in range(300):
        (y,), (x,) = np.nonzero(ClipRoll(2)(clip, generator(0, 0, i))[0, 0])
        places.add((int(y + 10) % 20 - 10, int(x + 15) % 31 - 15))
    assert places == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_a_translation_moves_by_at_most_its_pixels_along_its_axis_and_loses_what_leaves():
    clip = np.zeros(SHAPE, np.uint8)
    clip[..., 10, 15] = 3
    for vertical in (False, True):
        places = set()
        for i in range(400):
            (y,), (x,) = np.nonzero(ClipTranslate(5, vertical)(clip, generator(0, 0, i))[2, 1])
            places.add((int(y) - 10, int(x) - 15))
        assert places == {(k, 0) if vertical else (0, k) for k in range(-5, 6)}
    edge = np.zeros(SHAPE, np.uint8)
    edge[..., 0] = 1
    sums = {int(ClipTranslate(5)(edge, generator(0, 0, i)).sum()) for i in range(100)}
    assert sums == {0, int(edge.sum())}


def test_shear_and_rotation_are_about_the_middle_and_reach_their_angle():
    line = np.zeros((1, 2, 41, 41), np.uint8)
    line[..., 20] = 1  # upright, through the middle
    for augment, largest in ((ClipShear(0.3), 0.3), (ClipRotate(30), math.radians(30))):
        angles = []
        for i in range(200):
            y, x = np.nonzero(augment(line, generator(0, 0, i))[0, 0])
            assert abs(x[y == 20] - 20).max() == 0, "the middle stays"
            angles.append(math.atan(np.polyfit(y - 20, x - 20, 1)[0]))
        assert max(angles) == pytest.approx(largest, abs=0.02) and min(angles) == pytest.approx(-largest, abs=0.02)


@given(seed=seeds, low=st.floats(0, 1), high=st.floats(0, 1))
def test_cutout_is_one_square_inside_with_its_share_of_the_area(seed, low, high):
    low, high = sorted((low, high))
    hole = (ClipCutout(low, high)(np.ones(SHAPE, np.uint8), generator(seed, 0, 0)) == 0)[3, 1]
    rows, columns = np.nonzero(hole.any(1))[0], np.nonzero(hole.any(0))[0]
    side = len(rows)
    assert hole.sum() == side * len(columns) and len(columns) == side
    assert side == 0 or (rows[-1] - rows[0] == side - 1 and columns[-1] - columns[0] == side - 1)
    smallest, largest = (min(round(math.sqrt(share * 20 * 31)), 20) for share in (low, high))
    assert smallest <= side <= largest


def test_cutout_of_a_side_has_this_side():
    holes = [(ClipCutout.of_side(16, 64)(np.ones((3, 2, 64, 64)), generator(0, 0, i)) == 0)[0, 0] for i in range(50)]
    assert all(hole.sum() == 256 for hole in holes) and len({hole.tobytes() for hole in holes}) > 40


def test_the_recipe_draws_each_operation_equally_often():
    counts = np.zeros(6)
    recorders = [lambda sample, i=i: counts.__setitem__(i, counts[i] + 1) or sample for i in range(6)]
    wide = snn_augment_wide()
    assert wide.transforms[0] is None and len(wide.transforms) == 6
    for i in range(1200):
        OneOf(*recorders)(0, generator(0, 0, i))
    assert abs(counts - 200).max() < 55
    clip = a_clip(top=200)
    same = np.mean([(wide(clip, generator(0, 0, i)) == clip).all() for i in range(400)])
    # Nothing, and 1 or 5 of the 31 magnitudes of each geometric operation: they are cut to no change.
    assert same == pytest.approx((1 + 1 / 31 + 5 / 31 + 5 / 31 + 1 / 31) / 6, abs=0.06)


def test_a_recipe_without_flip_has_none():
    assert not any(isinstance(each, ClipFlip) for each in spikformer_recipe(flip=False).transforms)
    assert isinstance(spikformer_recipe(flip=True).transforms[0], ClipFlip)
    assert Compose(spike_driven_recipe(flip=False)).draws


@every
@pytest.mark.parametrize("wrong", [np.zeros((4, 5)), [[1]], np.zeros(3, [("t", "i8"), ("x", "i8")])])
def test_what_is_no_clip_is_refused(augment, wrong):
    if type(augment) in (OneOf, Compose):
        return
    with pytest.raises((TypeError, ValueError), match=rf"{type(augment).__name__} expects a clip \[T, C, H, W\]"):
        augment(wrong, generator(0, 0, 0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClipFlip(1.5),
        lambda: ClipRoll(-1),
        lambda: ClipShear(-0.1),
        lambda: ClipTranslate(float("inf")),
        lambda: ClipRotate(float("nan")),
        lambda: ClipCutout(0.5, 0.2),
        lambda: OneOf(),
    ],
)
def test_impossible_magnitudes_are_refused(make):
    with pytest.raises(ValueError, match="Clip|OneOf"):
        make()
