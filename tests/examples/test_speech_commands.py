"""``train_shd.py --dataset gsc`` on a few sounds."""

import numpy as np
import pytest
from train_shd import Settings, build_model, load_data

from tests.data.words import write_wav, write_words
from tests.examples.scripts import finish, run, start


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return write_words(tmp_path_factory.mktemp("gsc") / "words")


def test_the_network_of_the_set_is_built_for_its_frames(words, tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path))
    data = load_data(Settings(dataset="gsc", root=str(words)))
    assert [len(part) for part in data] == [35, 35, 35] and data.valid.batch([4, 2]).x.shape == (101, 2, 140)
    model = build_model(Settings(dataset="gsc"), data)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1_230_848


def test_a_run_from_wav_files_to_the_report(words, tmp_path, monkeypatch):
    monkeypatch.setitem(finish.__globals__["ENVIRONMENT"], "SNNKIT_CACHE", str(tmp_path / "cache"))
    options = "--cpu --dataset gsc --epochs 1 --batch 35 --hidden 6 6 --max-delay 5 --folder run --root".split()
    assert "test accuracy" in run(*options, words, cwd=tmp_path).splitlines()[-1]


def test_bad_words_and_options_end_in_one_line(words, tmp_path, monkeypatch):
    monkeypatch.setitem(finish.__globals__["ENVIRONMENT"], "SNNKIT_CACHE", str(tmp_path / "cache"))
    bad = write_words(tmp_path / "bad")
    write_wav(bad / "wow" / "bb_nohash_0.wav", np.arange(800), rate=44_100)
    for options, message in (
        (["--root", bad], "wow/bb_nohash_0.wav is sampled at 44100 Hz, expected 16000 Hz"),
        ([], "--dataset gsc needs --root, the folder with a folder a word"),
        (["--time-mask", 3], "--time-mask is an option of --dataset digits, shd, got gsc"),
    ):
        code, _, err = finish(start("--cpu", "--dataset", "gsc", *options, cwd=tmp_path))
        assert code == 1 and message in err and len(err.strip().splitlines()) == 1, err
