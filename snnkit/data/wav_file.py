"""One wav file as a sound: 16-bit PCM, one channel, at the rate that is expected; anything else is an error.

Its chunks are read here: the standard library knows the extensible header, which many programs write for plain 16-bit
PCM, too, from Python 3.12 on. A file of another rate is refused and not resampled: mixed rates in one set are nearly
always a mistake of its making, and the spectrogram of a wrong rate trains without a word.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
SAME_AS_TAG = bytes.fromhex("000000001000800000aa00389b71")  # a sub-format's end, if its start is one of the old tags
DAMAGED = "Delete it and unpack it again."


def read_wav(path: Path, rate: int) -> np.ndarray:
    """Sound ``[samples]``, float32 in [-1, 1): the file's 16-bit numbers / 32768.

    Raises:
        ValueError: no wav file, damaged or cut short, empty, stereo, of another rate, width or kind; names the file.
        OSError: it cannot be opened.
    """
    header, size, raw = _header_and_data(path)
    tag, channels, got, _, _, bits = struct.unpack_from("<HHIIHH", header)
    if tag == EXTENSIBLE and header[26:40] == SAME_AS_TAG:
        (tag,) = struct.unpack_from("<H", header, 24)
    if tag != PCM:
        what = "floating samples" if tag == FLOAT else f"samples of format {tag:#06x}"
        raise ValueError(f"{path} has {what}, expected 16-bit PCM. Convert it first.")
    if channels != 1:
        raise ValueError(f"{path} has {channels} channels, expected 1. Mix them down to mono first.")
    if bits != 16:
        raise ValueError(f"{path} has {bits}-bit samples, expected 16-bit PCM. Convert it first.")
    if got != rate:
        raise ValueError(f"{path} is sampled at {got} Hz, expected {rate} Hz. Resample it first.")
    if size < 2:
        raise ValueError(f"{path} holds no sound (0 samples). {DAMAGED}")
    if len(raw) < size:
        raise ValueError(f"{path} is cut short: {len(raw) // 2} of {size // 2} samples. {DAMAGED}")
    return np.frombuffer(raw, "<i2", count=size // 2).astype(np.float32) / 32768


def _header_and_data(path: Path) -> tuple[bytes, int, bytes]:
    """The chunk ``fmt``, and the size that ``data`` should have, and what there is of it."""
    file, header = path.read_bytes(), b""
    if file[:4] != b"RIFF" or file[8:12] != b"WAVE":
        raise ValueError(f"{path} is no wav file: it does not begin as one. {DAMAGED}")
    at = 12
    while at + 8 <= len(file):
        name, (size,) = file[at : at + 4], struct.unpack_from("<I", file, at + 4)
        body = file[at + 8 : at + 8 + size]
        if name == b"fmt ":
            header = body
        if name == b"data" and len(header) >= 16:
            return header, size, body
        at += 8 + size + size % 2  # chunks begin at even places
    raise ValueError(f"{path} is no wav file: it ends before its sound. {DAMAGED}")


def fit_sound(sound: np.ndarray, samples: int) -> np.ndarray:
    """Exactly so many samples: a longer sound loses its end, a shorter one gets silence there.

    >>> fit_sound(np.array([1.0, 2.0, 3.0]), 2).tolist(), fit_sound(np.array([1.0]), 3).tolist()
    ([1.0, 2.0], [1.0, 0.0, 0.0])
    """
    return np.pad(sound[:samples], (0, max(samples - len(sound), 0)))
