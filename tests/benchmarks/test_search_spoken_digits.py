"""The search on spoken digits: no speaker on both sides, the test set unread, frames as the package makes them."""

import json

import numpy as np
import pytest
import torch

from snnkit.data import Bin, SpikeHDF5
from snnkit.models.delay_snn_plus import Local
from tests.shared import shared_path


@pytest.fixture
def search(load_script):
    pytest.importorskip("h5py")
    return load_script("search_spoken_digits")


def write_part(folder, part, samples=48, speakers=(0, 1, 3, 5)):
    """A tiny part in SHD's layout: ten words, told apart by their units."""
    import h5py

    rng = np.random.default_rng(len(part))
    labels = np.arange(samples) % 10
    with h5py.File(folder / f"shd_{part}.h5", "w") as file:
        times = file.create_dataset("spikes/times", (samples,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (samples,), h5py.vlen_dtype(np.uint16))
        for i, label in enumerate(labels):
            times[i] = np.sort(rng.random(60) * rng.uniform(0.05, 0.15)).astype(np.float16)
            units[i] = 70 * label + rng.integers(0, 70, 60)
        file["labels"] = labels.astype(np.uint16)
        file["extra/speaker"] = np.array(speakers)[np.arange(samples) // 10 % len(speakers)].astype(np.uint16)
        file["extra/keys"] = np.array([f"word {c}".encode() for c in range(10)])


def tiny(search):
    return search.CONFIGS["base"].changed(
        hidden=(6, 6), max_delay=3, local=Local(2, 9, 9, 3), epochs=2, batch=16, tail=1, noise=0.01, jitter=2.0,
        time_mask=3, band_mask=80, mix=0.3, blend=0.3, cut=0.3,
    )  # fmt: skip


def test_no_speaker_is_on_both_sides_of_a_fold(search):
    speakers, seen = np.array([0, 1, 3, 5, 5, 3, 0, 1, 1]), []
    for number in range(search.FOLDS):
        chosen, held_out, speaker = search.fold(speakers, number)
        assert set(speakers[held_out]) == {speaker} and speaker not in speakers[chosen]
        assert sorted([*chosen, *held_out]) == list(range(9))
        seen.append(speaker)
    assert seen == [0, 1, 3, 5]


def test_a_search_run_needs_no_test_set_and_a_final_run_scores_its_parts(search, tmp_path):
    write_part(tmp_path, "train")
    run = search.search_run(tmp_path, "cpu", "tiny", tiny(search), 1, 0)
    assert run["speaker"] == 1 and 0 <= run["accuracy"] <= 100
    with pytest.raises(FileNotFoundError):
        search.final_run(tmp_path, "cpu", "tiny", tiny(search), 0, tmp_path)
    write_part(tmp_path, "test", 60, (0, 1, 2, 4, 4, 4))
    run = search.final_run(tmp_path, "cpu", "tiny", tiny(search), 0, tmp_path)
    assert run["all"] == pytest.approx((20 * run["known"] + 40 * run["unheard"]) / 60)
    assert run["bytes"] == (tmp_path / "tiny_seed0.safetensors").stat().st_size


def test_partners_and_samples_of_a_fold_never_come_from_the_speaker_who_is_left_out(search, tmp_path):
    write_part(tmp_path, "train")
    data, recipe = search.spikes(tmp_path, "train", "cpu", 10.0, 5), tiny(search)
    chosen, held_out, _ = search.fold(data.speakers, 2)
    data.times.fill_(0.0)
    for i in held_out:  # whoever reads them gets NaN steps, and an index out of range
        data.last[i] = float("nan")
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, target, lengths = data.augmented(torch.from_numpy(chosen), chosen, recipe.augment, rng)
        assert (lengths > 0).all() and x.isfinite().all()
        torch.testing.assert_close(target.sum(1), torch.ones(len(chosen)))


def test_frames_are_those_of_the_package(search):
    root = shared_path("data/spoken_digits")
    data, frames = search.Spikes(root, "train", torch.device("cpu")), SpikeHDF5(root, "train", Bin(700, 10_000, 5))
    batch = data.batch(torch.tensor([3, 700, 1599]))
    for b, i in enumerate((3, 700, 1599)):
        theirs = torch.as_tensor(frames[i][0]).float()
        assert batch.lengths[b] == len(theirs) and torch.equal(batch.x[: len(theirs), b], theirs)
        assert batch.x[len(theirs) :, b].sum() == 0 and batch.labels[b] == frames[i][1]


def test_every_configuration_builds_a_network_below_300_000_parameters(search):
    for name, recipe in search.CONFIGS.items():
        with torch.device("meta"):
            model = search.snnkit.models.DelaySNNPlus(in_features=700 // recipe.merge, **recipe.model)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) < 300_000, name


def test_the_table_compares_on_the_folds_that_both_have(search, tmp_path):
    def line(config, fold, accuracy):
        return dict(config=config, fold=fold, seed=0, accuracy=accuracy, accuracy_last=accuracy - 1)

    runs = [line("base", 0, 80.0), line("base", 1, 90.0), line("other", 0, 84.0), line("other", 1, 92.0)]
    shown = search.table([*runs, line("other", 2, 40.0)]).splitlines()
    assert shown[1].split()[:2] == ["base", "85.00"]
    assert "+3.00 +- 1.00" in shown[2] and shown[2].split()[-5:] == ["84.0", "92.0", "40.0", "-", "3"]
    (tmp_path / "search.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs))
    assert search.read(tmp_path / "search.jsonl") == runs
