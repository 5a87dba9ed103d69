import os
import pickle
import shutil
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snnkit.data import CIFAR10DVS, NMNIST, DiskCache, EventFolder, FramesByNumber, NCaltech101, drop_outside
from snnkit.data.split_rule import split_rule
from tests.data.event_bytes import aedat2_bytes, as_rows, atis_bytes, made_rows, npz_bytes
from tests.shared import shared_path

CLASSES = CIFAR10DVS.known_classes


def file_name(label, number):
    return f"{label}/cifar10_{label}_{number}.aedat"


def content(label, number):
    return aedat2_bytes(made_rows(1000 * CLASSES.index(label) + number, count=9))


def write_set(root, numbers=range(12), how="zip"):
    """The public layout in small: class archives, or folders, or one archive of all."""
    root.mkdir(exist_ok=True)
    numbers = list(numbers)[::-1]  # the listing order of an archive is that of writing
    if how == "folders":
        for label in CLASSES:
            (root / label).mkdir()
            for number in numbers:
                (root / file_name(label, number)).write_bytes(content(label, number))
    elif how == "zip":
        for label in CLASSES:
            with zipfile.ZipFile(root / f"{label}.zip", "w", zipfile.ZIP_LZMA) as archive:
                for number in numbers:
                    archive.writestr(file_name(label, number), content(label, number))
    else:
        write_set(root.parent / "loose", numbers, "folders")
        with tarfile.open(root / f"all.{how}", "w:gz" if how == "tar.gz" else "w") as archive:
            for label in CLASSES[::-1]:
                archive.add(root.parent / "loose" / label, label)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "snnkit-cache"))


@pytest.fixture
def small(tmp_path):
    return write_set(tmp_path / "set")


@pytest.mark.parametrize("how", ["zip", "folders", "tar", "tar.gz"])
def test_a_set_reads_the_same_from_folders_and_archives(tmp_path, how):
    data = CIFAR10DVS(write_set(tmp_path / "set", how=how), "train", "ids:0-7/8-10")
    assert data.classes == list(CLASSES) and data.labels.tolist() == [c for c in range(10) for _ in range(8)]
    for index in (0, 7, 43):
        label, number = CLASSES[index // 8], index % 8
        events, found = data[index]
        assert as_rows(events).tolist() == made_rows(1000 * CLASSES.index(label) + number, count=9).tolist()
        assert found == index // 8 and data.recordings[index].name == file_name(label, number)
    assert data.counts == {"train": 80, "test": 30, "unused": 10}
    assert data.summary() == (
        "CIFAR10-DVS, split ids:0-7/8-10: 80 train, 30 test, 10 in neither. "
        "Not the whole public set, which has 10000 recordings."
    )


def test_another_listing_order_gives_the_same_samples_in_the_same_order(tmp_path, monkeypatch):
    root = write_set(tmp_path / "set", how="folders")
    whole = {rule: [r.name for r in CIFAR10DVS(root, "test", rule).recordings] for rule in ("sj-9-1", "random-3")}
    walk = os.walk

    def shuffled(top):
        for folder, folders, names in walk(top):
            folders.reverse()
            yield folder, folders, [names[i] for i in np.random.default_rng(len(names)).permutation(len(names))]

    monkeypatch.setattr(os, "walk", shuffled)
    for rule, names in whole.items():
        assert [r.name for r in CIFAR10DVS(root, "test", rule).recordings] == names


@pytest.mark.parametrize("rule", ["sj-9-1", "random-0", "random-1", "ids:0-3/4-11"])
def test_training_and_test_share_no_file_and_hold_each_class(small, rule):
    train, test = (CIFAR10DVS(small, split, rule) for split in ("train", "test"))
    names = [{r.name for r in part.recordings} for part in (train, test)]
    if rule == "sj-9-1":
        assert (len(train), len(test)) == (110, 10), "ceil(0.9 * 12) = 11 of each class"
    assert not names[0] & names[1] and len(names[0] | names[1]) == 120
    assert set(train.labels) == set(test.labels) == set(range(10)) and train.record()["rule"] == rule


def test_the_common_splits_of_a_thousand_a_class_are_the_published_ones():
    from snnkit.data.event_store import Entry
    from snnkit.data.recording import recordings

    entries = [Entry(file_name(c, n), 1, "", Path("x.zip")) for c in "ab" for n in range(1000)]
    found = recordings(entries)
    assert [each.number for each in found] == 2 * list(range(1000))
    test = [each.number for each, part in zip(found, split_rule("sj-9-1")(found), strict=True) if part == 1]
    assert test == 2 * [*range(91, 100), *range(909, 1000)]
    tebn = split_rule("tebn")(found)
    assert [each.number for each, part in zip(found, tebn, strict=True) if part == 1] == 2 * list(range(100))
    assert (tebn != 2).all() and split_rule("tebn").name == "tebn"
    drawn = [split_rule(f"random-{seed}")(found) for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    assert drawn[0].reshape(2, -1).sum(1).tolist() == [100, 100]


@pytest.mark.parametrize("name", ["sj", "ids:3", "ids:0-5/5-9", "ids:5-0/6-7", "random", "random-x", "Given"])
def test_a_rule_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="No split is called|must go upwards and not overlap") as error:
        split_rule(name)
    assert ("two ranges of numbers, training/test" in str(error.value)) == (name == "ids:3")


def test_spikingjellys_tree_of_arrays_is_read_as_it_is(tmp_path):
    for label in CLASSES:
        (tmp_path / "events_np" / label).mkdir(parents=True)
        (tmp_path / "frames_number_16_split_by_number" / label).mkdir(parents=True)
        for number in (1, 2, 10):
            rows = made_rows(number)
            path = tmp_path / "events_np" / label / f"cifar10_{label}_{number}.npz"
            path.write_bytes(npz_bytes(rows, t=">u4", x="u4", y="u4"))
            (tmp_path / "frames_number_16_split_by_number" / label / path.name).write_bytes(b"no events")
    data = CIFAR10DVS(tmp_path, "train", "ids:0-2/10-10")
    assert [r.number for r in data.recordings[:3]] == [1, 2, 1]
    assert as_rows(data[1][0]).tolist() == made_rows(2).tolist()


def test_the_given_split_of_nmnist_needs_no_fixed_number_of_files(tmp_path):
    for part, numbers in (("Train", (2, 10, 1)), ("Test", (1,))):
        with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as archive:
            for label in range(10):
                for number in numbers:
                    rows = made_rows(100 * label + number, width=34, height=34)
                    archive.writestr(f"{part}/{label}/{number:05}.bin", atis_bytes(rows))
    train, test = NMNIST(tmp_path, "train"), NMNIST(tmp_path, "test")
    assert [r.number for r in train.recordings[:3]] == [1, 2, 10] and train.sensor == (2, 34, 34)
    assert len(train) == 30 and len(test) == 10
    assert as_rows(train[4][0]).tolist() == made_rows(102, width=34, height=34).tolist()
    assert "60000 + 10000 recordings" in train.summary()


def test_ncaltech101_takes_no_boxes_for_recordings_and_integer_labels(tmp_path):
    for label in ("BACKGROUND_Google", "airplanes"):
        for kind, name in (("Caltech101", "image"), ("Caltech101", "annotation")):
            (tmp_path / kind / label).mkdir(parents=True, exist_ok=True)
            for number in range(1, 4):
                (tmp_path / kind / label / f"{name}_{number:04}.bin").write_bytes(atis_bytes(made_rows(number)))
    data = NCaltech101(tmp_path, "train", "ids:1-2/3-3")
    assert data.classes == ["BACKGROUND_Google", "airplanes"] and data.labels.tolist() == [0, 0, 1, 1]
    assert data.summary().endswith("Not the whole public set, which has 8709 recordings.")


def test_another_set_is_no_ncaltech101_though_it_may_lack_classes(tmp_path, small):
    with pytest.raises(ValueError, match="is not N-Caltech101: it holds the classes airplane, automobile, bird, cat, "):
        NCaltech101(small, "train")
    for label in ("pizza", "Motorbikes", "yin_yang"):
        (tmp_path / "part" / label).mkdir(parents=True)
        for number in range(2):
            path = tmp_path / "part" / label / f"image_{number:04}.bin"
            path.write_bytes(atis_bytes(made_rows(number)))
    data = NCaltech101(tmp_path / "part", "train", "ids:0-0/1-1")
    assert data.classes == ["Motorbikes", "pizza", "yin_yang"] and data.labels.tolist() == [0, 1, 2]
    known = NCaltech101.known_classes
    assert len(set(known)) == 101 and list(known) == sorted(known)


def test_classes_that_are_numbers_sort_as_numbers(tmp_path):
    for label in ("2", "10", "1"):
        (tmp_path / label).mkdir()
        for number in range(2):
            (tmp_path / label / f"{number}.npz").write_bytes(npz_bytes(made_rows(number)))
    assert EventFolder(tmp_path, "test", "ids:0-0/1-1").classes == ["1", "2", "10"]


def test_a_bad_recording_among_many_is_named_or_left_out_and_counted(tmp_path):
    root = write_set(tmp_path / "set", range(4), "folders")
    bad = root / file_name("bird", 1)
    bad.write_bytes(bad.read_bytes()[:-3])
    (root / file_name("cat", 0)).write_bytes(aedat2_bytes([]))
    data = CIFAR10DVS(root, "train", "ids:0-2/3-3")
    with pytest.raises(ValueError, match="cifar10_bird_1.aedat is cut off.* skip_bad=True leaves such"):
        list(data)
    with pytest.raises(ValueError, match="cifar10_cat_0.aedat holds no events. skip_bad=True"):
        data[9]
    with pytest.warns(UserWarning, match="2 of 30 recordings of CIFAR10-DVS left out, .*bird_1.aedat is cut"):
        data = CIFAR10DVS(root, "train", "ids:0-2/3-3", skip_bad=True)
    assert list(data.skipped) == ["bird/cifar10_bird_1.aedat", "cat/cifar10_cat_0.aedat"]
    assert len(data) == len(list(data)) == 28 and "2 left out of train" in data.summary()
    assert "skip_bad" not in str(data.skipped)


def test_a_set_of_which_nothing_can_be_read_says_why(tmp_path):
    root = write_set(tmp_path / "set", range(2), "folders")
    for path in root.rglob("*.aedat"):
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="None of the 10 recordings can be read, first: .*airplane_0.aedat is cut off"):
        CIFAR10DVS(root, "train", "ids:0-0/1-1", skip_bad=True)


def test_events_outside_the_sensor_name_the_file_and_may_be_dropped(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(2):
            (tmp_path / label / f"{number}.npz").write_bytes(npz_bytes(made_rows(number, width=40)))
    with pytest.raises(ValueError, match=r"a/0.npz: \d+ of 40 events lie outside the sensor .*\d\. If it is the right"):
        EventFolder(tmp_path, "train", "ids:0-0/1-1", (128, 30))[0]
    with pytest.raises(ValueError, match=r"\. With \(H, W\) = \(128, 40\) all lie on it: height comes first. Else, if"):
        EventFolder(tmp_path, "train", "ids:0-0/1-1", (40, 128))[0]
    kept, _ = EventFolder(tmp_path, "train", "ids:0-0/1-1", (128, 30), outside=drop_outside)[0]
    assert 0 < len(kept) < 40 and kept["x"].max() < 30


def test_what_is_missing_or_foreign_is_told_apart(tmp_path, small):
    with pytest.raises(FileNotFoundError, match="No folder or archive .*nowhere. CIFAR10-DVS is ten archives"):
        CIFAR10DVS(tmp_path / "nowhere", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="No recordings of N-MNIST in .*empty. N-MNIST is Train.zip .MD5 2095"):
        NMNIST(tmp_path / "empty", "train")
    with pytest.raises(ValueError, match="is not N-MNIST: it holds the classes airplane, automobile, bird, cat, ..."):
        NMNIST(small, "train")
    (small / "truck.zip").unlink()
    with pytest.raises(ValueError, match="lacks classes of CIFAR10-DVS: truck. CIFAR10-DVS is ten archives"):
        CIFAR10DVS(small, "train")
    (small / "truck.zip").write_bytes((small / "ship.zip").read_bytes()[:-30])
    with pytest.raises(ValueError, match="truck.zip is no whole zip archive .*: a broken download"):
        CIFAR10DVS(small, "train")
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        CIFAR10DVS(small, "val")


def test_a_damaged_member_of_an_archive_is_named(small):
    data = bytearray((small / "bird.zip").read_bytes())
    data[100:110] = bytes(10)
    (small / "bird.zip").write_bytes(bytes(data))
    with pytest.raises(ValueError, match="bird.zip, bird/cifar10_bird_11.aedat is damaged in the archive"):
        list(CIFAR10DVS(small, "train"))


def test_an_archive_of_archives_says_what_to_do(tmp_path, small):
    outer = tmp_path / "outer"
    outer.mkdir()
    with zipfile.ZipFile(outer / "CIFAR10DVS.zip", "w") as archive:
        archive.write(small / "bird.zip", "bird.zip")
    with pytest.raises(ValueError, match="CIFAR10DVS.zip holds archives .bird.zip., .*unpack it into"):
        CIFAR10DVS(outer, "train")


def test_an_archive_beside_its_unpacked_folder_is_left_alone_unless_the_folder_is_half_there(small):
    with zipfile.ZipFile(small / "bird.zip") as archive:
        archive.extractall(small)
    assert len(CIFAR10DVS(small, "train", "ids:0-7/8-11")) == 80
    (small / file_name("bird", 5)).unlink()
    with pytest.raises(ValueError, match="11 of the 12 recordings of .*bird.zip lie unpacked beside it"):
        CIFAR10DVS(small, "train")


def test_a_compressed_tar_that_is_cut_off_leaves_nothing_half_unpacked(tmp_path):
    root = write_set(tmp_path / "set", range(2), "tar.gz")
    archive = root / "all.tar.gz"
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(ValueError, match="all.tar.gz is cut off or damaged"):
        CIFAR10DVS(root, "train", "ids:0-0/1-1")
    assert [path.suffix for path in (tmp_path / "snnkit-cache" / "unpacked").iterdir()] == [".lock"]


def test_a_tar_that_reaches_outside_its_folder_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz_bytes(made_rows(0)))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.npz", "../a.npz")
    (tmp_path / "a.npz").unlink()
    with pytest.raises(ValueError, match="names a file outside its folder: ../a.npz"):
        EventFolder(tmp_path, "train")


def test_a_class_with_one_file_cannot_be_split_and_says_so(tmp_path):
    for label, count in (("a", 20), ("b", 1)):
        (tmp_path / label).mkdir()
        for number in range(count):
            (tmp_path / label / f"{number}.npz").write_bytes(npz_bytes(made_rows(number)))
    with pytest.raises(ValueError, match="Split sj-9-1 of .* leaves class b without a test recording; the class has 1"):
        EventFolder(tmp_path, "train", "sj-9-1")
    with pytest.raises(ValueError, match="Split given: no folder, archive or list called train or test"):
        EventFolder(tmp_path, "train", "given")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(ValueError, match="holds the class b alone"):
        EventFolder(tmp_path, "train", "sj-9-1")


def test_a_class_folder_without_recordings_is_refused_and_other_folders_are_not(tmp_path):
    for label in ("train/a", "train/b", "train/frames_number_4", "train/__pycache__", "figures"):
        (tmp_path / label).mkdir(parents=True)
        for number in range(2 if label[-2] == "/" else 0):
            (tmp_path / label / f"{number}.npz").write_bytes(npz_bytes(made_rows(number)))
    assert EventFolder(tmp_path, "train", "ids:0-0/1-1").classes == ["a", "b"]
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "c" / "notes.txt").write_text("later")
    with pytest.raises(FileNotFoundError, match="train/c holds no event file .*aedat.*Put recordings there, or remove"):
        EventFolder(tmp_path, "train", "ids:0-0/1-1")


def test_a_folder_called_val_is_tested_where_there_is_no_other(tmp_path):
    for part, count in (("train", 3), ("val", 10)):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / part / label / f"{number}.npz").write_bytes(npz_bytes(made_rows(number)))
    assert [len(EventFolder(tmp_path, part)) for part in ("train", "test")] == [6, 20]
    shutil.copytree(tmp_path / "val", tmp_path / "test")
    for part in ("train", "test"):
        data = EventFolder(tmp_path, part)
        assert data.counts == {"train": 6, "test": 20, "unused": 20}
    assert all(each.entry.path.parts[0] == "test" for each in data.recordings)
    for part in ("train", "test"):
        shutil.rmtree(tmp_path / part)
    assert EventFolder(tmp_path, "train").rule.name == "random-0"  # val alone says nothing


@pytest.mark.parametrize("size", [40, (2, 30, 40), (30, 0), (30.5, 40), (float("inf"), 3), ("a", "b"), (True, True)])
def test_a_sensor_that_has_no_height_and_width_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match=r"size must be the sensor's \(H, W\) in pixels, got"):
        EventFolder(tmp_path, "train", size=size)


def test_one_recording_twice_is_noticed(tmp_path):
    for folder in ("one", "two"):
        for label in "ab":
            (tmp_path / folder / label).mkdir(parents=True)
            (tmp_path / folder / label / "1.npz").write_bytes(npz_bytes(made_rows(1)))
    with pytest.raises(ValueError, match=r"One recording is there twice: .*one.*a.1.npz and .*two"):
        EventFolder(tmp_path, "train")


def test_one_recording_in_two_formats_is_noticed(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.npz").write_bytes(npz_bytes(made_rows(number)))
    (tmp_path / "b" / "1.aedat").write_bytes(aedat2_bytes(made_rows(1)))
    with pytest.raises(ValueError, match=r"is there as .aedat and as .npz: .*b/1.aedat and .*b/1.npz. .* keep one"):
        EventFolder(tmp_path, "train", "ids:0-1/2-2")


def test_a_packed_class_beside_unpacked_ones_is_told(tmp_path):
    root = write_set(tmp_path / "set", range(3), "folders")
    rule = "ids:0-1/2-2"
    with tarfile.open(root / "bird.tar.gz", "w:gz") as archive:  # a class that lies there unpacked, too
        archive.add(root / "bird", "bird")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(EventFolder(root, "train", rule).classes) == len(CLASSES)
    shutil.rmtree(root / "bird")
    with pytest.warns(UserWarning, match="bird.tar.gz is left out: recordings lie unpacked beside it. If it holds oth"):
        assert "bird" not in EventFolder(root, "train", rule).classes


def test_the_key_of_a_cache_changes_with_the_files_the_split_and_the_treatment(tmp_path):
    root = write_set(tmp_path / "set", range(4), "folders")

    def key(rule="ids:0-2/3-3", **options):
        data = CIFAR10DVS(root, "train", rule, FramesByNumber(steps=options.pop("steps", 2)), **options)
        return data.identity()

    keys = [key(), key(rule="ids:0-1/3-3"), key(steps=3), key(outside=drop_outside)]
    assert len(set(keys)) == 4 and key() == keys[0]
    path = root / file_name("bird", 1)
    os.utime(path, ns=(1, 1))
    assert key() != keys[0]


def test_frames_go_through_the_cache_and_pickling_keeps_no_handle(small, tmp_path):
    data = CIFAR10DVS(small, "test", "ids:0-9/10-11", FramesByNumber(steps=3))
    cache = DiskCache(data, tmp_path / "cache")
    for index in (0, 19):
        frames, label = pickle.loads(pickle.dumps(data))[index]
        cached, same = cache[index]
        assert frames.shape == (3, 2, 128, 128) and (frames == cached).all() and label == same
        assert frames.sum() == 9 and cached.dtype == np.uint8


def test_the_simulated_set_splits_by_number_and_its_pictures_stand_upright():
    root = shared_path("data/cifar10dvs_simulated")
    train, test = (CIFAR10DVS(root, split, "ids:0-99/100-119") for split in ("train", "test"))
    assert (len(train), len(test)) == (1000, 200) and [r.number for r in test.recordings[:2]] == [100, 101]
    events, label = test[23]
    assert label == 1 and 2000 <= events["t"][0] <= 6000 and 198_000 <= events["t"][-1] <= 200_000
    upright = []
    with tarfile.open(shared_path("data/cifar10_jpeg/test.tar.gz")) as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".jpg"))
        for c in range(10):
            own = [name for name in names if f"/{CLASSES[c]}/" in f"/{name}"][0]
            picture = Image.open(archive.extractfile(own)).convert("L").resize((112, 112), Image.Resampling.BICUBIC)
            edges = np.pad(np.hypot(*np.gradient(np.asarray(picture, float))), 8)
            counts = FramesByNumber((128, 128), 1)(test[20 * c][0][["t", "x", "y"]])[0]
            # The camera moved by 4 pixels: average over blocks of 8.
            blocks = [a.reshape(16, 8, 16, 8).mean((1, 3)) for a in (edges, counts)]
            turned = [blocks[0], blocks[0][::-1], blocks[0][:, ::-1], blocks[0][::-1, ::-1], blocks[0].T]
            upright.append(np.argmax([np.corrcoef(each.ravel(), blocks[1].ravel())[0, 1] for each in turned]) == 0)
    assert sum(upright) >= 9, "nearly all pictures fit their events best as they are"


def test_the_real_nmnist_recordings_have_the_counts_of_their_description():
    train, test = (NMNIST(shared_path("data/nmnist_1100"), split) for split in ("train", "test"))
    assert np.bincount(train.labels).tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    assert np.bincount(test.labels).tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    assert max(len(events) for events, _ in test) == 6326


def write_npz(*paths):
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(npz_bytes(made_rows(number)))


@pytest.mark.parametrize(
    "inner", [("cat/day1", "dog/day2"), ("cat/day1", "dog/day1", "cat/day2"), ("cat", "dog", "cat/more")]
)
def test_class_folders_that_do_not_lie_side_by_side_are_refused(tmp_path, inner):
    write_npz(*(tmp_path / folder / f"{10 * k + i}.npz" for k, folder in enumerate(inner) for i in range(10)))
    with pytest.raises(ValueError, match="do not lie side by side, so it is unknown which folders are the classes"):
        EventFolder(tmp_path, "train")


def test_folders_called_train_and_test_are_the_parts_unless_a_rule_is_named(tmp_path):
    folders = [tmp_path / part / label for part in ("train", "test") for label in "ab"]
    write_npz(*(folder / f"{folder.parent.name}{i}.npz" for folder in folders for i in range(10)))
    data = EventFolder(tmp_path, "test")
    assert data.rule.name == "given" and {each.given for each in data.recordings} == {"test"} and len(data) == 20
    assert EventFolder(tmp_path, "test", "random-0").counts["test"] == 4
    write_npz(*(tmp_path / "flat" / label / f"{i}.npz" for label in "ab" for i in range(10)))
    assert EventFolder(tmp_path / "flat", "test").rule.name == "random-0"
