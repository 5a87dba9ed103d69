"""Mixup and CutMix over clips: labels mix as the clips do, axis 1 is the batch."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkit.data import Batch, CutMix, MixClips, batch_generator, collate

STEPS, CLASSES = 3, 5
seeds = st.integers(0, 1000)


def made_batch(samples=4, lengths=None):
    """Sample i is full of 10^i, so that sums show where pixels come from."""
    steps = lengths or [STEPS] * samples
    return collate([(np.full((k, 2, 12, 17), 10.0**i), i % CLASSES) for i, k in enumerate(steps)])


@given(samples=st.integers(1, 5), seed=seeds, smoothing=st.sampled_from([0.0, 0.1]))
def test_mixup_weighs_labels_as_pixels(samples, seed, smoothing):
    batch = made_batch(samples)
    mixed = MixClips(CLASSES, 0.5, 0.0, 1.0, smoothing=smoothing)(batch, batch_generator(seed, 0, 0))
    plain = MixClips(CLASSES, probability=0.0, smoothing=smoothing)(batch, batch_generator(seed, 0, 0)).labels
    for i in range(samples):
        j = samples - 1 - i
        assert (mixed.x[:, i] == mixed.x[0, i, 0, 0, 0]).all(), "one weight for all steps and pixels"
        if i != j:
            keep = (mixed.x[0, i, 0, 0, 0].double() - 10.0**j) / (10.0**i - 10.0**j)
            wanted = (keep * plain[i] + (1 - keep) * plain[j]).float()
            torch.testing.assert_close(mixed.labels[i], wanted, atol=1e-5, rtol=0)  # q from float32 pixels
    torch.testing.assert_close(mixed.labels.sum(1), torch.ones(samples))
    torch.testing.assert_close(mixed.x.sum(1), batch.x.sum(1))


@given(samples=st.integers(1, 5), seed=seeds, alpha=st.sampled_from([0.1, 1.0]))
def test_cutmix_weighs_labels_as_areas_of_one_box_in_all_steps(samples, seed, alpha):
    batch = made_batch(samples)
    mixed = MixClips(CLASSES, 0.0, alpha, 1.0, smoothing=0.0)(batch, batch_generator(seed, 0, 0))
    for i in range(samples):
        j = samples - 1 - i
        taken = (mixed.x[:, i] != 10.0**i)[0, 0]
        assert ((mixed.x[:, i] != 10.0**i) == taken).all() and (mixed.x[:, i][..., taken] == 10.0**j).all()
        rows, columns = taken.any(1), taken.any(0)
        assert taken.sum() == rows.sum() * columns.sum(), "a box"
        if i != j:
            wanted = torch.zeros(CLASSES)
            wanted[j % CLASSES] += taken.float().mean()
            wanted[i % CLASSES] += 1 - taken.float().mean()
            torch.testing.assert_close(mixed.labels[i], wanted)


def test_draws_are_those_of_seed_epoch_and_batch_and_the_batch_given_is_left_alone():
    batch, mix = made_batch(), MixClips(CLASSES, 1.0, 1.0, 1.0)
    before = batch.x.clone()
    keys = (0, 1, 3), (0, 1, 3), (0, 1, 4), (0, 2, 3), (1, 1, 3)
    first, again, *others = (mix(batch, batch_generator(*key)) for key in keys)
    assert torch.equal(first.x, again.x) and torch.equal(first.labels, again.labels) and torch.equal(batch.x, before)
    assert all(not torch.equal(first.x, other.x) for other in others)


def test_switch_and_probability_are_kept_and_without_mixing_labels_are_smoothed():
    batch = made_batch(2)
    mix = MixClips(CLASSES, 1.0, 1.0, probability=0.5, switch=0.25)
    kinds = []
    for k in range(600):
        x = mix(batch, batch_generator(0, 0, k)).x[:, 0]
        even = bool((x == x.flatten()[0]).all())
        kinds.append("mixup" if even and x.max() not in (1, 10) else "cutmix" if (x == 10).any() else "none")
    assert abs(kinds.count("mixup") - 225) < 40 and abs(kinds.count("cutmix") - 75) < 30
    off = dataclasses.replace(mix, probability=0.0)(batch, batch_generator(0, 0, 0))
    assert torch.equal(off.x, batch.x)
    torch.testing.assert_close(off.labels[0], torch.tensor([0.92, 0.02, 0.02, 0.02, 0.02]))
    assert torch.equal(MixClips(CLASSES, 0.0, 0.0, 1.0)(batch, batch_generator(0, 0, 0)).x, batch.x)


def test_a_mixed_sample_is_as_long_as_the_longer_of_the_two_and_bytes_become_floating():
    batch = made_batch(lengths=[3, 5, 4])
    assert MixClips(CLASSES, 1.0, 0.0, 1.0)(batch, batch_generator(0, 0, 0)).lengths.tolist() == [4, 5, 4]
    counts = Batch((batch.x % 200).byte(), batch.labels, batch.lengths)
    assert MixClips(CLASSES, 1.0, 0.0, 1.0)(counts, batch_generator(0, 0, 0)).x.dtype == torch.float32


def test_wrong_batches_and_arguments_are_refused():
    batch = made_batch()
    with pytest.raises(ValueError, match="made for 3 classes, got the label 3"):
        MixClips(3)(batch, batch_generator(0, 0, 0))
    with pytest.raises(ValueError, match="mixed before"):
        MixClips(CLASSES)(MixClips(CLASSES)(batch, batch_generator(0, 0, 0)), batch_generator(0, 0, 0))
    with pytest.raises(ValueError, match=r"clips \[T, B, C, H, W\]"):
        MixClips(CLASSES)(Batch(batch.x[0], batch.labels, batch.lengths), batch_generator(0, 0, 0))
    for wrong in ({"mixup": -1}, {"cutmix": float("nan")}, {"probability": 2}, {"smoothing": -0.1}):
        with pytest.raises(ValueError, match="MixClips"):
            MixClips(CLASSES, **wrong)


def test_cutmix_along_time_takes_clips_too():
    mixed = CutMix(CLASSES, 1.0)(made_batch(3, lengths=[9, 9, 9]), batch_generator(0, 0, 0))
    assert mixed.x.shape == (9, 3, 2, 12, 17) and mixed.labels.shape == (3, CLASSES)
