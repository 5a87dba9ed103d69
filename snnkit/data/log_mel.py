"""Log-mel spectrogram of a sound, as the delay networks were published with it on Google Speech Commands.

The sound is resampled by a windowed sinc, cut into overlapping Hann windows, and the power of their spectra is summed
in triangles that are equally wide on the mel scale, in decibel. The formulas are torchaudio's (``Resample``,
``MelSpectrogram``, ``AmplitudeToDB``), without the package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snnkit._suggest import NamedArguments

_ROLLOFF, _ZEROS = 0.99, 6  # of the sinc: its cut-off as a share of the Nyquist frequency, zero crossings a side


@dataclass(frozen=True)
class LogMel(NamedArguments):
    """Transform a sound ``[samples]`` into frames ``[1 + samples' // hop, channels]``, float32 in decibel.

    Args:
        rate: of the sound (Hz).
        new_rate: what it is resampled to first (Hz).
        window: length of a Hann window, and of its Fourier transform (samples at the new rate).
        hop: from one window to the next; window t is centred on sample t hop, the sound is mirrored at its ends.
        channels: number of triangles.
        low, high: frequencies where the first triangle begins and the last one ends (Hz).

    Raises:
        ValueError: a size below 1, frequencies out of order; in the call, no sound ``[samples]``, or one shorter than
            half a window.

    >>> LogMel()(np.zeros(16_000, np.float32)).shape
    (101, 140)

    With the defaults, those of github.com/Thvnvtos/SNN-delays, ``high`` lies beyond the 4 kHz that 8,000 samples a
    second hold: the last 53 of the 140 channels are -100 dB at all times. They are kept, for the published sizes.
    """

    rate: int = 16_000
    new_rate: int = 8_000
    window: int = 256
    hop: int = 80
    channels: int = 140
    low: float = 50.0
    high: float = 14_000.0

    def __post_init__(self) -> None:
        for name in ("rate", "new_rate", "window", "hop", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.low < self.high:
            raise ValueError(f"low must be >= 0 and below high, got low={self.low:g}, high={self.high:g}.")

    def __call__(self, sound: np.ndarray) -> np.ndarray:
        """Frames of one sound.

        Raises:
            ValueError: the sound is not ``[samples]``, or shorter than half a window.
        """
        if sound.ndim != 1:
            raise ValueError(f"LogMel expects a sound [samples], got shape {sound.shape}.")
        x = resample(torch.from_numpy(np.asarray(sound, np.float32)), self.rate, self.new_rate)
        if len(x) <= self.window // 2:
            least = f"{self.window // 2} samples at {self.new_rate} Hz"
            raise ValueError(f"A sound must have more than {least}, got {len(x)}.")
        hann = torch.hann_window(self.window)
        spectrum = torch.stft(x, self.window, self.hop, window=hann, return_complex=True)  # [window // 2 + 1, T]
        triangles = mel_triangles(self.new_rate, self.window, self.channels, self.low, self.high).float()
        power = spectrum.abs().square().T @ triangles
        return (10 * power.clamp(min=1e-10).log10()).numpy()


def mel_triangles(rate: int, window: int, channels: int, low: float, high: float) -> Tensor:
    """Weights ``[window // 2 + 1, channels]`` (float64) of frequency f_k = k rate / window in channel c.

    With edges e_0 .. e_(channels + 1), equally far from one another in ``mel(f) = 2595 log10(1 + f / 700)``,
    ``max(0, min((f_k - e_c) / (e_(c+1) - e_c), (e_(c+2) - f_k) / (e_(c+2) - e_(c+1))))``: height 1, not area 1.
    """
    mels = torch.linspace(_mel(low), _mel(high), channels + 2, dtype=torch.float64)
    edges = 700 * (10 ** (mels / 2595) - 1)
    f = torch.linspace(0, rate // 2, window // 2 + 1, dtype=torch.float64)[:, None]
    width = edges.diff()
    up, down = (f - edges[:-2]) / width[:-1], (edges[2:] - f) / width[1:]
    return torch.minimum(up, down).clamp(min=0)


def _mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)


def resample(sound: Tensor, rate: int, new_rate: int) -> Tensor:
    """A sound ``[samples]`` at another rate, ``ceil(samples new_rate / rate)`` long.

    y_n = (c / rate) sum_m x_m sinc(c u) cos^2(pi c u / 12), u = n / new_rate - m / rate in seconds, over |c u| <= 6,
    where c = 0.99 min(rate, new_rate): a low pass below the lower of the two Nyquist frequencies.
    """
    common = math.gcd(rate, new_rate)
    old, new = rate // common, new_rate // common
    if old == new:
        return sound
    cutoff = _ROLLOFF * min(old, new)
    width = math.ceil(_ZEROS * old / cutoff)
    m = torch.arange(-width, width + old, dtype=torch.float64) / old
    n = torch.arange(new, dtype=torch.float64)[:, None] / new
    u = ((m - n) * cutoff).clamp(-_ZEROS, _ZEROS)  # [new, 2 width + old]
    kernel = torch.sinc(u) * torch.cos(u * math.pi / (2 * _ZEROS)).square() * (cutoff / old)
    padded = torch.nn.functional.pad(sound, (width, width + old))
    y = torch.nn.functional.conv1d(padded[None, None], kernel.to(sound.dtype)[:, None], stride=old)  # [1, new, .]
    return y[0].T.reshape(-1)[: math.ceil(new * len(sound) / old)]
