import math

import numpy as np
import pytest
import torch

from snnkit.data import LogMel
from snnkit.data.log_mel import mel_triangles, resample


def sound(samples=16_000, seed=0):
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def test_a_triangle_weight_is_its_formula():
    weights = mel_triangles(8000, 256, 140, 50.0, 14_000.0)
    mel = lambda f: 2595 * math.log10(1 + f / 700)  # noqa: E731
    edge = [700 * (10 ** ((mel(50) + i * (mel(14_000) - mel(50)) / 141) / 2595) - 1) for i in range(142)]
    for k, c in ((40, 50), (41, 51), (60, 60), (100, 78), (3, 0)):
        f = k * 8000 / 256
        by_hand = max(
            0.0, min((f - edge[c]) / (edge[c + 1] - edge[c]), (edge[c + 2] - f) / (edge[c + 2] - edge[c + 1]))
        )
        assert weights[k, c].item() == pytest.approx(by_hand, abs=1e-12)
    assert weights.shape == (129, 140) and 0.5 < weights.max() <= 1


def test_the_published_recipe_leaves_53_channels_silent_for_good():
    frames = LogMel()(sound())
    assert frames.shape == (101, 140) and frames.dtype == np.float32
    assert (frames[:, 87:] == -100).all() and (frames[:, :87] > -100).any(0)[-1]


def test_half_the_rate_keeps_a_low_tone_and_drops_a_high_one():
    t = torch.arange(1000, dtype=torch.float64) / 16_000
    low, high = (resample(torch.sin(2 * math.pi * f * t), 16_000, 8_000) for f in (500, 6_000))
    assert len(low) == 500 and (low - torch.sin(2 * math.pi * 500 * t[::2]))[20:-20].abs().max() < 0.01
    assert high[20:-20].abs().max() < 0.01


@pytest.mark.parametrize(("rate", "new"), [(16_000, 8_000), (8_000, 12_000), (16_000, 16_000)])
def test_frames_and_resampling_equal_torchaudios(rate, new):
    torchaudio = pytest.importorskip("torchaudio")
    x = torch.from_numpy(sound(1601))
    theirs = torchaudio.transforms.Resample(rate, new)(x)
    assert torch.allclose(resample(x, rate, new), theirs, atol=1e-6)
    mel = torchaudio.transforms.MelSpectrogram(new, 256, hop_length=80, f_min=50, f_max=14_000, n_mels=140)
    frames = torchaudio.transforms.AmplitudeToDB()(mel(theirs)).T.numpy()
    assert np.abs(LogMel(rate, new)(x.numpy()) - frames).max() < 1e-2  # dB


def test_bad_arguments_and_sounds_are_refused():
    with pytest.raises(ValueError, match="below high, got low=9, high=2"):
        LogMel(low=9, high=2)
    with pytest.raises(ValueError, match="hop must be at least 1, got 0"):
        LogMel(hop=0)
    with pytest.raises(ValueError, match=r"expects a sound \[samples\], got shape \(2, 500\)"):
        LogMel()(np.zeros((2, 500), np.float32))
    with pytest.raises(ValueError, match="more than 128 samples at 8000 Hz, got 100"):
        LogMel()(np.zeros(200, np.float32))
