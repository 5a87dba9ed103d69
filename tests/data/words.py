"""Small copies of Google Speech Commands."""

import wave

import numpy as np

from snnkit.data.speech_commands import WORDS


def write_wav(path, samples, rate=16_000, channels=1, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, f"<i{width}").tobytes())


def write_words(folder):
    """Three files a word, of 800 samples: one speaker a part."""
    for number, word in enumerate(WORDS):
        for name in ("aa", "bb", "cc"):
            write_wav(folder / word / f"{name}_nohash_0.wav", np.arange(800) * (number + 1) % 3000)
    write_wav(folder / "_background_noise_" / "pink.wav", range(9))
    (folder / "validation_list.txt").write_text("".join(f"{word}/bb_nohash_0.wav\n" for word in WORDS))
    (folder / "testing_list.txt").write_text("".join(f"{word}/cc_nohash_0.wav\n" for word in WORDS))
    return folder
