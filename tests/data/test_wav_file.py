"""Headers of wav files beside the plain one, which the tests of the set that reads them write."""

import struct

import numpy as np
import pytest

from snnkit.data.wav_file import SAME_AS_TAG, read_wav

NUMBERS = np.array([-32768, -1, 0, 3, 32767], "<i2")


def write(path, tag=1, bits=16, sub=None, before=b"", after=b"", numbers=NUMBERS):
    """A file whose header names this format, with the extension of a sub-format if there is one."""
    header = struct.pack("<HHIIHH", tag, 1, 16_000, 16_000 * bits // 8, bits // 8, bits)
    if sub is not None:
        header += struct.pack("<HHIH", 22, bits, 4, sub) + SAME_AS_TAG
    raw = numbers.tobytes()
    body = b"WAVE" + before + chunk(b"fmt ", header) + chunk(b"data", raw) + after
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


@pytest.mark.parametrize(
    "header",
    [{}, dict(tag=0xFFFE, sub=1), dict(before=chunk(b"LIST", b"odd")), dict(after=chunk(b"LIST", b"a title"))],
    ids=["plain", "extensible", "chunk of odd size before", "chunk after"],
)
def test_the_same_sound_is_read_whatever_the_header(header, tmp_path):
    sound = read_wav(write(tmp_path / "a.wav", **header), 16_000)
    assert sound.dtype == np.float32 and (sound * 32768 == NUMBERS).all()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (dict(tag=3, bits=32), "a.wav has floating samples, expected 16-bit PCM. Convert it first."),
        (dict(tag=0xFFFE, sub=3, bits=32), "a.wav has floating samples, expected 16-bit PCM. Convert it first."),
        (dict(tag=6, bits=8), "a.wav has samples of format 0x0006, expected 16-bit PCM. Convert it first."),
        (dict(tag=0xFFFE), "a.wav has samples of format 0xfffe, expected 16-bit PCM. Convert it first."),
        (dict(tag=0xFFFE, sub=1, bits=24), "a.wav has 24-bit samples, expected 16-bit PCM. Convert it first."),
    ],
)
def test_a_sound_of_another_kind_is_to_be_converted_not_unpacked_again(header, message, tmp_path):
    with pytest.raises(ValueError) as error:
        read_wav(write(tmp_path / "a.wav", **header), 16_000)
    assert str(error.value) == f"{tmp_path}/{message}"


def test_a_file_without_a_sound_is_damaged(tmp_path):
    path = write(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes().replace(b"data", b"date"))
    with pytest.raises(ValueError, match=r"a.wav is no wav file: it ends before its sound. Delete it"):
        read_wav(path, 16_000)


def test_the_standard_library_agrees(tmp_path):
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(NUMBERS.tobytes())
    assert (read_wav(tmp_path / "a.wav", 16_000) * 32768 == NUMBERS).all()
