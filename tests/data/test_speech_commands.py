import numpy as np
import pytest

from snnkit.data import DiskCache, LogMel, SpeechCommands
from snnkit.data.speech_commands import WORDS
from tests.data.words import write_wav, write_words


@pytest.fixture
def root(tmp_path):
    return write_words(tmp_path / "words")


def test_the_lists_tell_the_parts_and_noise_is_no_word(root):
    parts = {split: SpeechCommands(root, split) for split in ("train", "valid", "test")}
    assert [len(part) for part in parts.values()] == [35, 35, 35] and parts["train"].classes == list(WORDS)
    assert [set(part.speakers) for part in parts.values()] == [{0}, {1}, {2}]
    for part, name in zip(parts.values(), ("aa", "bb", "cc"), strict=True):
        assert {path.name for path in part.files} == {f"{name}_nohash_0.wav"}
        assert [part.classes[label] for label in part.labels] == [path.parent.name for path in part.files]


def test_a_short_sound_gets_silence_and_a_long_one_loses_its_end(root):
    write_wav(root / "bed" / "aa_nohash_0.wav", np.arange(20_000) - 8_000)
    train = SpeechCommands(root, "train")
    short, long = train[0][0], train[1][0]
    assert short.shape == long.shape == (16_000,) and short.dtype == np.float32
    assert (short[:800] == np.arange(800) / np.float32(32768)).all() and not short[800:].any()
    assert (long == (np.arange(16_000) - 8_000) / np.float32(32768)).all()


def test_frames_are_cached_and_a_changed_file_is_read_anew(root, tmp_path):
    def cached():
        return DiskCache(SpeechCommands(root, "test", LogMel()), tmp_path / "cache")

    first = cached()
    assert (first[3][0] == LogMel()(SpeechCommands(root, "test")[3][0])).all() and first[3][0].shape == (101, 140)
    assert cached().key == first.key
    write_wav(root / WORDS[3] / "cc_nohash_0.wav", np.arange(900))
    assert (cached()[3][0] != first[3][0]).any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(rate=8_000), "is sampled at 8000 Hz, expected 16000 Hz"),
        (dict(channels=2), "has 2 channels, expected 1"),
        (dict(width=4), "has 32-bit samples, expected 16-bit"),
    ],
)
def test_a_wav_of_another_kind_is_an_error_that_names_it(root, wrong, message):
    write_wav(root / "bed" / "aa_nohash_0.wav", np.arange(800), **wrong)
    with pytest.raises(ValueError, match=f"bed/aa_nohash_0.wav {message}"):
        SpeechCommands(root, "train")[1]


@pytest.mark.parametrize(
    ("kept", "message"),
    [(lambda raw: raw[:-100], "is cut short: 750 of 800 samples"), (lambda raw: raw[:9], "is no wav file"),
     (lambda raw: b"", "is no wav file"), (lambda raw: b"ID3" + raw, "is no wav file")],
)  # fmt: skip
def test_a_damaged_wav_is_an_error_that_names_it(root, kept, message):
    path = root / "bed" / "aa_nohash_0.wav"
    path.write_bytes(kept(path.read_bytes()))
    with pytest.raises(ValueError, match=f"bed/aa_nohash_0.wav {message}"):
        SpeechCommands(root, "train")[1]


def test_an_empty_sound_is_an_error(root):
    write_wav(root / "bed" / "aa_nohash_0.wav", [])
    with pytest.raises(ValueError, match="aa_nohash_0.wav holds no sound"):
        SpeechCommands(root, "train")[1]


def test_a_folder_that_is_not_the_set_is_refused(root):
    with pytest.raises(ValueError, match="split must be one of 'train', 'valid', 'test', got 'validation'"):
        SpeechCommands(root, "validation")
    with pytest.raises(FileNotFoundError, match="No such folder"):
        SpeechCommands(root / "nowhere", "train")
    with pytest.raises(FileNotFoundError, match=r"No testing_list.txt in .*bed"):
        SpeechCommands(root / "bed", "train")
    (root / "wow" / "cc_nohash_0.wav").unlink()
    with pytest.raises(FileNotFoundError, match="testing_list.txt names wow/cc_nohash_0.wav, which is not there"):
        SpeechCommands(root, "train")
    (root / "validation_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match="validation_list.txt is missing"):
        SpeechCommands(root, "train")
    (root / "bed").rename(root / "cot")
    with pytest.raises(ValueError, match="holds the folder cot, which is none of the 35 words"):
        SpeechCommands(root, "train")
    (root / "cot").rename(root / "_cot")
    with pytest.raises(ValueError, match="lacks 1 of the 35 words: bed"):
        SpeechCommands(root, "train")


def test_of_many_words_that_lack_six_are_named_and_the_rest_is_counted(tmp_path):
    (tmp_path / "testing_list.txt").touch()
    for word in ("one", "two", "six", "zero"):
        (tmp_path / word).mkdir()
    with pytest.raises(ValueError, match="lacks 31 of the 35 words: backward, bed, bird, cat, dog, down and 25 more. "):
        SpeechCommands(tmp_path, "train")
