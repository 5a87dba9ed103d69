"""What changes whole batches on the device: whole pixels stay whole, draws hang on seed, epoch and sample alone."""

import numpy as np
import pytest
import torch
from _batches import Gathered, batch_loader
from _device_augment import DRAWS, POINTS, Augmented, BatchAugment
from accelerate import Accelerator

from snnkit.data import Dataset, EpochSampler


class Clips(Dataset):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.frames = rng.integers(0, 9, (7, 3, 2, 8, 10)).astype(np.uint8)
        super().__init__(np.arange(7) % 2, ["a", "b"])

    def stored(self, index, epoch=0):
        return self.frames[index].copy()

    def content(self):
        return "clips"


def changed(u=None, mode="nearest", **amounts):
    x = torch.from_numpy(Clips().frames).float().transpose(0, 1)  # [T, B, C, H, W]
    u = torch.rand(7, DRAWS, generator=torch.Generator().manual_seed(1)) if u is None else u
    return x, BatchAugment(**amounts)(x, u, mode)


def test_nothing_asked_for_changes_nothing():
    for mode in ("nearest", "bilinear"):
        x, y = changed(mode=mode)
        torch.testing.assert_close(x, y)


def test_a_flip_is_a_mirror_image_and_a_shift_moves_whole_pixels():
    x, y = changed(flip=1.0)
    torch.testing.assert_close(y, x.flip(-1))
    u = torch.full((7, DRAWS), 0.5)
    u[:, 4], u[:, 5] = 1.0, 0.25  # of a shift by 2: 2 and -1
    x, y = changed(u, shift=2.0)
    expected = torch.zeros_like(x)
    expected[..., 1:, :-2] = x[..., :-1, 2:]
    torch.testing.assert_close(y, expected)


def test_a_turn_by_90_degrees_of_a_square_turns_it():
    u = torch.ones(7, DRAWS)
    x = torch.from_numpy(Clips().frames[..., :8]).float().transpose(0, 1)
    y = BatchAugment(rotate=90)(x, u, "nearest")
    assert torch.equal(y, torch.rot90(x, 1, (-2, -1))) or torch.equal(y, torch.rot90(x, -1, (-2, -1)))


def test_an_elastic_field_that_is_the_same_everywhere_is_a_shift():
    u = torch.full((7, DRAWS + 2 * POINTS**2), 0.5)
    u[:, DRAWS : DRAWS + POINTS**2] = 1.0  # along x by all of it, along y not at all
    x, y = changed(u, elastic=2.0)
    torch.testing.assert_close(y[..., :-2], x[..., 2:])
    assert not y[..., -2:].any()


def test_an_elastic_field_is_smooth_and_within_its_bounds():
    signed = 2 * torch.rand(50, 2 * POINTS**2, generator=torch.Generator().manual_seed(1)) - 1
    pixels = BatchAugment(elastic=3.0)._field(signed, 34, 17) * torch.tensor([17, 34]) / 2
    assert 2.0 < pixels.abs().max() <= 3.0
    for axis, side in ((1, 34), (2, 17)):
        assert pixels.diff(dim=axis).abs().max() <= 2 * 3.0 * (POINTS - 1) / (side - 1) + 1e-5
    assert not torch.equal(pixels[0], pixels[1]), "each sample has its own"


def test_an_elastic_field_and_rounds_have_numbers_of_their_own():
    steps, lanes = 8, DRAWS + 2 * POINTS**2
    augment = BatchAugment(elastic=1e-6, loop=4)
    assert augment.columns(steps) == lanes + steps
    u = torch.rand(5, lanes + steps, generator=torch.Generator().manual_seed(2))
    x = torch.rand(steps, 5, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    expected = BatchAugment(loop=4)(x, torch.cat([u[:, :DRAWS], u[:, lanes:]], 1), "bilinear")
    torch.testing.assert_close(augment(x, u, "bilinear"), expected, atol=1e-5, rtol=0)


def test_with_an_elastic_field_a_shift_is_no_whole_number():
    u = torch.full((7, DRAWS + 2 * POINTS**2), 0.5)
    u[:, 4] = 0.7  # of a shift by 1: 0.4
    rigid, elastic = (BatchAugment(shift=1.0, elastic=e)._affine(u, 2 * u - 1, 8, 10)[0, 0, 2] for e in (0.0, 1.0))
    assert rigid == 0 and elastic == pytest.approx(2 * 0.4 / 10)


def test_all_steps_of_a_clip_lose_the_same_rectangle():
    x, y = changed(erase=1.0)
    lost = (x > 0) & (y == 0)
    for b in range(7):
        places = lost[:, b].flatten(0, 1).any(0).nonzero()
        (top, left), (bottom, right) = places.min(0).values, places.max(0).values + 1
        assert (y[:, b, :, top:bottom, left:right] == 0).all() and 0 < (bottom - top) * (right - left) <= 0.45 * 80
    assert torch.equal(y[~lost], x[~lost])


def test_a_frame_of_a_closed_path_becomes_one_of_the_same_or_of_the_opposite_place():
    x = torch.arange(8.0)[:, None, None, None, None] + torch.tensor([0.0, 0.5])[:, None, None]  # frame and polarity
    x = x.expand(8, 400, 2, 1, 1)
    u = torch.rand(400, DRAWS + 8, generator=torch.Generator().manual_seed(1))
    y = BatchAugment(loop=4)(x, u, "nearest")[..., 0, 0]  # [T, B, 2]
    for t in range(8):
        seen = {tuple(pair) for pair in y[t].tolist()}
        same, back = [t % 4, t % 4 + 4], [(t + 2) % 4, (t + 2) % 4 + 4]
        assert seen == {(f, f + 0.5) for f in same} | {(f + 0.5, f) for f in back}
        assert 250 > (y[t, :, 0] < y[t, :, 1]).sum() > 150, "the four are equally likely"


@pytest.mark.parametrize("change", [BatchAugment(shift=2, rotate=20, erase=0.5), BatchAugment(loop=2, shift=1)])
def test_batches_are_functions_of_seed_epoch_and_sample(change):
    clips = Clips()
    clips.frames = np.concatenate([clips.frames, clips.frames[::-1]], 1)  # 6 of them
    augmented = Augmented(clips, torch.device("cpu"), change, 3, "nearest")
    sampler = EpochSampler(7, 3, seed=1)
    loader = batch_loader(augmented, sampler, 0, Accelerator(cpu=True))
    assert isinstance(loader, Gathered) and augmented.draws
    epochs = {}
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        batches = [batch.x for batch in loader]
        if epoch in epochs:
            assert all(torch.equal(a, b) for a, b in zip(batches, epochs[epoch], strict=True))
        epochs[epoch] = batches
    augmented.set_epoch(1)
    one, both = augmented.batch([5]), augmented.batch([2, 5])
    assert torch.equal(one.x[:, 0], both.x[:, 1])
    augmented.set_epoch(0)
    assert not torch.equal(one.x, augmented.batch([5]).x)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shft=3", "Near: shift"), ("shift", "expects shift=VALUE, a"), ("zoom=-1", "zoom must be >= 0 and finite"),
        ("flip=2", "flip must be at most 1, got 2"), ("zoom=1", "zoom must be at most 0.9, got 1"),
        ("loop=3", "loop must be even, with an opposite to each frame, got 3"), ("loop=2.5", "must be even"),
    ],
)  # fmt: skip
def test_an_amount_that_cannot_be_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        BatchAugment.parsed([text])


def test_an_amount_given_twice_is_refused():
    with pytest.raises(ValueError, match="--on-device has elastic twice, got 'elastic=3', too"):
        BatchAugment.parsed(["elastic=2", "flip=0.5", "elastic=3"])


def test_frames_that_are_no_whole_rounds_are_refused():
    with pytest.raises(ValueError, match=r"loop=4 needs .* that it divides, of two polarities, got 3 of 2"):
        Augmented(Clips(), torch.device("cpu"), BatchAugment(loop=4), 3, "nearest")
