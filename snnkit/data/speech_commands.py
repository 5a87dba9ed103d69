"""Google Speech Commands (Warden 2018, arXiv 1804.03209; version 0.02, 35 words) from its folder of wav files.

``validation_list.txt`` and ``testing_list.txt`` name the files of two parts, the rest is for training, and no speaker
is in two parts. ``_background_noise_`` is no word and is left out.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np

from snnkit.data import wav_file
from snnkit.data.compose import Transform
from snnkit.data.dataset import Dataset
from snnkit.data.spike_file import SPLITS
from snnkit.data.wav_file import fit_sound, read_wav

RATE = 16_000  # Hz; a sample is one second
WORDS = tuple(
    "backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one "
    "right seven sheila six stop three tree two up visual wow yes zero".split()
)
_LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
_FOLDERS = ("", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02")  # as given, then as torchaudio has it
_HINT = "Unpack speech_commands_v0.02.tar.gz, which holds a folder for each word and both lists, and give its folder."


class SpeechCommands(Dataset):
    """``dataset[i] -> (sound or transform(sound), label)``: one second of speech, ``[16000]`` float32 in [-1, 1).

    Args:
        root: the folder with a folder for each word, ``validation_list.txt`` and ``testing_list.txt``.
        split: "train", "valid" or "test".
        transform, seed: as of each data set; ``LogMel()`` makes the published frames ``[101, 140]``.

    A shorter file gets silence at its end, a longer one loses its end, as in the published recipe. A file that is
    stereo, cut short, of another rate than 16 kHz, or no wav is an error that names it, when it is read.

    Attributes:
        files: path of each sample, by word and name.
        speakers: a number for each speaker (of the whole set), from the file's name before ``_nohash_``.

    Raises:
        FileNotFoundError: no such folder or list, or a listed file is missing.
        ValueError: another split, folders of other words, words without a folder, a part without a file.

    ``DiskCache(SpeechCommands(root, "train", LogMel()))`` keeps the frames (6 GB for the whole set).
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str, transform: Transform | None = None, seed: int = 0
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}.")
        self.root, self.split = _folder(Path(root).expanduser()), split
        words = _checked_words(self.root)
        every = [path for word in words for path in sorted((self.root / word).glob("*.wav"))]
        named = {part: _listed(self.root / name) for part, name in _LISTS.items()}
        there = {path.relative_to(self.root).as_posix() for path in every}
        for part, names in named.items():
            if names - there:
                raise FileNotFoundError(
                    f"{self.root / _LISTS[part]} names {min(names - there)}, which is not there. {_HINT}"
                )
        people = {name: number for number, name in enumerate(sorted({_speaker(path) for path in every}))}
        part_of = {name: part for part, names in named.items() for name in names}
        self.files = [p for p in every if part_of.get(p.relative_to(self.root).as_posix(), "train") == split]
        if not self.files:
            raise ValueError(f"{self.root} holds no wav file of the {split} part. {_HINT}")
        number = {word: index for index, word in enumerate(words)}
        labels = np.array([number[path.parent.name] for path in self.files], np.int64)
        speakers = np.array([people[_speaker(path)] for path in self.files], np.int64)
        super().__init__(labels, words, transform, seed, speakers)

    def stored(self, index: int, epoch: int = 0) -> np.ndarray:
        """One second of sound, ``[16000]``.

        Raises:
            ValueError: the file is not what it should be; names it.
        """
        return fit_sound(read_wav(self.files[index], RATE), RATE)

    def content(self) -> str:
        """SHA-256 of the files' names, sizes and times of change, and of the reader."""
        digest = hashlib.sha256(inspect.getsource(wav_file).encode())
        for path in self.files:
            stat = path.stat()
            digest.update(f"{path.relative_to(self.root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def record(self) -> dict[str, Any]:
        """What the set was, see :func:`snnkit.data.provenance`."""
        return {"reader": type(self).__name__, "split": self.split, "content": self.content()}


def _folder(root: Path) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"No such folder: {root.absolute()}. {_HINT}")
    for folder in (root / name for name in _FOLDERS):
        if (folder / _LISTS["test"]).is_file():
            return folder
    raise FileNotFoundError(f"No {_LISTS['test']} in {root.absolute()}: its test part is not known. {_HINT}")


def _checked_words(root: Path) -> list[str]:
    there = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))}
    foreign, missing = sorted(there - set(WORDS)), [word for word in WORDS if word not in there]
    if foreign:
        raise ValueError(f"{root} holds the folder {foreign[0]}, which is none of the 35 words. Move it away.")
    if missing:
        more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
        raise ValueError(f"{root} lacks {len(missing)} of the 35 words: {', '.join(missing[:6])}{more}. {_HINT}")
    return list(WORDS)


def _listed(path: Path) -> set[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {_HINT}")
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line and not line.startswith("_background_noise_")}


def _speaker(path: Path) -> str:
    return path.stem.split("_nohash_")[0]
