import pickle
import shutil
import tarfile

import numpy as np
import pytest

from snnkit.data import DVSGesture
from tests.data.event_bytes import AEDAT3_HEADER, aedat3_packet, as_rows, made_rows, npy_bytes, npz_bytes

HEAD = "class,startTime_usec,endTime_usec\n"


def write_recordings(root, people=(1, 23, 24), lists=True):
    """Recordings of 110 ms with a clip of 10 ms for each gesture, the last but one with two."""
    root.mkdir(parents=True, exist_ok=True)
    for person in people:
        rows = made_rows(person, count=400, last_us=120_000)
        packets = [aedat3_packet(rows[i : i + 63]) for i in range(0, 400, 63)]
        (root / f"user{person:02}_led.aedat").write_bytes(AEDAT3_HEADER + b"".join(packets))
        clips = [(c, 10_000 * c, 10_000 * c + 7_000) for c in range(1, 12)] + [(10, 107_000, 109_000)]
        text = HEAD + "".join(f"{c},{start},{end}\n" for c, start, end in clips)
        (root / f"user{person:02}_led_labels.csv").write_text(text)
    if lists:
        (root / "trials_to_train.txt").write_text("user01_led.aedat\nuser23_led.aedat\n")
        (root / "trials_to_test.txt").write_text("user24_led.aedat\n\n")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "snnkit-cache"))


@pytest.mark.parametrize("lists", [True, False])
def test_clips_are_cut_from_the_recordings_by_their_lists(tmp_path, lists):
    root = write_recordings(tmp_path / "DvsGesture", lists=lists)
    train, test = DVSGesture(tmp_path, "train"), DVSGesture(root, "test")
    assert (len(train), len(test)) == (24, 12) and test.speakers.tolist() == [24] * 12
    assert train.speakers.tolist() == [1, 23] * 9 + [1, 1, 23, 23] + [1, 23]
    assert not train.flip_keeps_class and train.classes[0] == "hand clapping" and train.classes[10] == "other gestures"
    for data in (train, pickle.loads(pickle.dumps(train))):
        for index in (0, 1, 19, 23):
            clip, (events, label) = data.recordings[index], data[index]
            rows = made_rows(clip.person, count=400, last_us=120_000)
            inside = (rows[:, 0] >= clip.start_us) & (rows[:, 0] < clip.end_us)
            assert as_rows(events).tolist() == rows[inside].tolist() and data.classes[label] == clip.label
    assert train.labels.tolist() == sorted([*range(11), 9] * 2)
    assert train.summary().endswith("1176 + 288 clips cut from the recordings or 1077 + 264 clips in tonic's files.")


def test_the_archive_is_unpacked_once_and_read(tmp_path):
    write_recordings(tmp_path / "DvsGesture")
    (tmp_path / "root").mkdir()
    with tarfile.open(tmp_path / "root" / "DvsGesture.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "DvsGesture", "DvsGesture")
    whole = DVSGesture(tmp_path / "DvsGesture", "test")
    for _ in range(2):
        data = DVSGesture(tmp_path / "root", "test")
        assert all((a[0] == b[0]).all() and a[1] == b[1] for a, b in zip(data, whole, strict=True))
    assert len([path for path in (tmp_path / "snnkit-cache" / "unpacked").iterdir() if path.is_dir()]) == 1


def test_tonics_files_are_milliseconds_labelled_from_zero(tmp_path):
    for part, people in (("Train", ("user02_led", "user01_led", "user01_natural")), ("Test", ("user24_led",))):
        for user in people:
            folder = tmp_path / f"ibmGesture{part}" / user
            folder.mkdir(parents=True)
            for label in range(11):
                rows = made_rows(100 * (user == "user02_led") + label)[:, [1, 2, 3, 0]]
                (folder / f"{label}.npy").write_bytes(npy_bytes(rows.astype(np.float64 if label % 2 else np.uint32)))
    train = DVSGesture(tmp_path, "train")
    assert train.labels.tolist() == [label for label in range(11) for _ in range(3)]
    assert train.speakers.tolist() == [1, 1, 2] * 11 and len({each.name for each in train.recordings}) == 33
    for label in (0, 1, 10):
        for index, seed in ((3 * label, label), (3 * label + 2, 100 + label)):
            assert as_rows(train[index][0]).tolist() == (made_rows(seed) * [1000, 1, 1, 1]).tolist()
    assert [r.person for r in DVSGesture(tmp_path, "test").recordings] == [24] * 11
    shutil.copytree(tmp_path / "ibmGestureTrain", tmp_path / "copy" / "ibmGestureTrain")
    with pytest.raises(ValueError, match="One recording is there twice: .*user01_led.0.npy and .*user01_led.0.npy"):
        DVSGesture(tmp_path, "train")


def test_spikingjellys_clips_are_microseconds_labelled_from_zero(tmp_path):
    for part, person in (("train", 3), ("test", 25)):
        for label in range(11):
            folder = tmp_path / "events_np" / part / str(label)
            folder.mkdir(parents=True)
            (folder / f"user{person:02}_led_0.npz").write_bytes(npz_bytes(made_rows(label)))
    test = DVSGesture(tmp_path, "test")
    assert test.labels.tolist() == list(range(11)) and as_rows(test[7][0]).tolist() == made_rows(7).tolist()


def test_lists_that_do_not_fit_are_named(tmp_path):
    root = write_recordings(tmp_path / "DvsGesture")
    (root / "trials_to_test.txt").write_text("user24_led.aedat\nuser29_led.aedat\n")
    with pytest.raises(ValueError, match="user29_led.aedat is in the set's list and not in its folder"):
        DVSGesture(root, "train")
    write_recordings(root)
    table = root / "user23_led_labels.csv"
    for bad, message in (("0,1,2\n", "class 0 is none of 1 to 11"), ("12,1,2\n", "class 12 is none of 1 to 11")):
        table.write_text(HEAD + bad)
        with pytest.raises(ValueError, match=f"user23_led_labels.csv: {message}"):
            DVSGesture(root, "train")
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="user23_led_labels.csv is no list of text"):
        DVSGesture(root, "train")
    table.write_text("\ufeffclass, startTime_usec, endTime_usec\n3, 9, 10\n", encoding="utf-8")
    found = [each for each in DVSGesture(root, "train").recordings if each.entry.path.stem == "user23_led"]
    assert [(each.start_us, each.end_us) for each in found] == [(9, 10)]
    for bad in ("3,9,9\n", "3,9\n", "3;9;10\n", "x,9,10\n"):
        table.write_text(HEAD + bad)
        with pytest.raises(ValueError, match="user23_led_labels.csv, line 2: expected class,start,end in us, got"):
            DVSGesture(root, "train")
    for bad in ("", HEAD):
        table.write_text(bad)
        with pytest.raises(ValueError, match="user23_led_labels.csv lists no clips; expected lines of class,start,end"):
            DVSGesture(root, "train")
    table.unlink()
    with pytest.raises(ValueError, match="user23_led.aedat has no user23_led_labels.csv beside it"):
        DVSGesture(root, "train")


def test_a_clip_without_events_is_named_by_its_start(tmp_path):
    root = write_recordings(tmp_path / "DvsGesture")
    table = root / "user24_led_labels.csv"
    table.write_text(table.read_text() + "3,500000,510000\n")
    with pytest.raises(ValueError, match="user24_led.aedat, clip from 500000 us holds no events"):
        list(DVSGesture(root, "test"))


def test_a_recording_that_is_cut_off_is_named_at_its_clips(tmp_path):
    root = write_recordings(tmp_path / "DvsGesture")
    path = root / "user24_led.aedat"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="user24_led.aedat is cut off"):
        list(DVSGesture(root, "test"))
    assert len(list(DVSGesture(root, "train"))) == 24


def test_an_empty_folder_is_no_empty_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="No recordings of DVS128 Gesture .* is DvsGesture.tar.gz .MD5 8a5c"):
        DVSGesture(tmp_path, "train")
