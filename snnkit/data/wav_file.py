"""One wav file as a sound: 16-bit PCM, one channel, at the rate that is expected; anything else is an error.

The standard library reads it. A file of another rate is refused and not resampled: mixed rates in one set are nearly
always a mistake of its making, and the spectrogram of a wrong rate trains without a word.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np


def read_wav(path: Path, rate: int) -> np.ndarray:
    """Sound ``[samples]``, float32 in [-1, 1): the file's 16-bit numbers / 32768.

    Raises:
        ValueError: no wav file, damaged or cut short, empty, stereo, of another rate or width; names the file.
        OSError: it cannot be opened.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, got, count = file.getparams()[:4]
            raw = file.readframes(count)
    except (wave.Error, EOFError) as error:
        why = str(error) or "it ends in its header"
        raise ValueError(f"{path} is no wav file of 16-bit PCM ({why}). Delete it and unpack it again.") from error
    if channels != 1:
        raise ValueError(f"{path} has {channels} channels, expected 1. Mix them down to mono first.")
    if width != 2:
        raise ValueError(f"{path} has {8 * width}-bit samples, expected 16-bit PCM. Convert it first.")
    if got != rate:
        raise ValueError(f"{path} is sampled at {got} Hz, expected {rate} Hz. Resample it first.")
    if not count:
        raise ValueError(f"{path} holds no sound (0 samples). Delete it and unpack it again.")
    if len(raw) < count * width:
        raise ValueError(
            f"{path} is cut short: {len(raw) // width} of {count} samples. Delete it and unpack it again."
        )
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768


def fit_sound(sound: np.ndarray, samples: int) -> np.ndarray:
    """Exactly so many samples: a longer sound loses its end, a shorter one gets silence there.

    >>> fit_sound(np.array([1.0, 2.0, 3.0]), 2).tolist(), fit_sound(np.array([1.0]), 3).tolist()
    ([1.0, 2.0], [1.0, 0.0, 0.0])
    """
    return np.pad(sound[:samples], (0, max(samples - len(sound), 0)))
