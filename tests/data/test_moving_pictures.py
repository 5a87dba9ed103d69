"""Pictures as events: what makes them, where they lie, and that nothing else changes them."""

import dataclasses
import tarfile

import numpy as np
import pytest
from PIL import Image

from snnkit.data import DiskCache, DVSCamera, EventFolder, FramesByTime, MovingPictures, provenance
from snnkit.data.moved_picture import Diamond
from snnkit.data.moving_pictures import CAMERA_OF_PICTURES, moved_events

QUIET = DVSCamera(contrast=0.46, spread=0.0, refractory_us=0, noise_hz=0.0, dark=0.5)
SIZE = (64, 64)
LEG_US = 25_000


def write_pictures(root, per_class=3):
    """Noise of large grains, one folder a class; every picture is another."""
    rng = np.random.default_rng(len(root.name))
    for name in ("coarse", "fine"):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            grains = rng.integers(0, 256, (5, 5) if name == "coarse" else (12, 12), np.uint8)
            Image.fromarray(grains).resize((32, 32), 0).convert("RGB").save(root / name / f"{number:04}.png")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "snnkit-cache"))


@pytest.fixture
def parts(tmp_path):
    for part in ("train", "test"):
        write_pictures(tmp_path / "set" / part)
    return tmp_path / "set"


def same(one, other):
    return one.dtype == other.dtype and all(np.array_equal(one[name], other[name]) for name in "txyp")


def step(size=SIZE):
    """Log light of a picture that is dark to the left of the sensor's middle and bright to the right."""
    height, width = Diamond().sides((32, 32), size)
    return np.repeat(np.where(np.arange(width) < width // 2, -0.5, 0.5)[None], height, axis=0)


def events_of(log, camera=QUIET, path=None, size=SIZE):
    return moved_events(
        log, camera, camera.thresholds(*size, np.random.default_rng(0)), np.random.default_rng(1), path or Diamond()
    )


def test_a_set_is_read_as_one_of_event_files_is(parts):
    train, test = (MovingPictures(parts, part, size=SIZE) for part in ("train", "test"))
    assert [each.name for each in train.recordings[2:4]] == ["coarse/0002.png", "fine/0000.png"]
    assert train.classes == ["coarse", "fine"] and train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.summary() == "a folder of pictures, split given: 6 train, 6 test."
    assert train.sensor == (2, *SIZE) and train.flip_keeps_class
    for events, _ in (train[0], test[5]):
        assert len(events) > 100 and (np.diff(events["t"]) >= 0).all() and set(events["p"]) == {0, 1}
        assert events["t"][0] >= 0 and events["t"][-1] <= 200_000 and max(events["x"].max(), events["y"].max()) < 64
    assert not same(train[0][0], train[1][0])


def test_events_depend_on_the_file_and_the_camera_alone(parts):
    whole = MovingPictures(parts, "train", size=SIZE)
    alone = MovingPictures(parts / "train", "test", rule="ids:0-1/2-2", size=SIZE, seed=5)
    assert alone.counts == {"train": 4, "test": 2, "unused": 0}
    for index, other in ((1, 5), (0, 2)):  # the last first
        assert same(alone[index][0], whole[other][0]) and same(whole[other][0], whole[other][0])
    noisy = MovingPictures(parts, "train", size=SIZE, camera=dataclasses.replace(CAMERA_OF_PICTURES, noise_hz=1.0))
    assert not same(noisy[0][0], whole[0][0])


def test_an_archive_gives_the_events_of_its_folder(tmp_path, parts):
    (tmp_path / "packed").mkdir()
    for part in ("train", "test"):
        with tarfile.open(tmp_path / "packed" / f"{part}.tar.gz", "w:gz") as archive:
            archive.add(parts / part, part)
    with pytest.raises(FileNotFoundError):  # it is unpacked twice, for event files and for pictures
        EventFolder(tmp_path / "packed", "train")
    for index in (0, 5):
        packed, loose = (MovingPictures(root, "test", size=SIZE)[index] for root in (tmp_path / "packed", parts))
        assert same(packed[0], loose[0]) and packed[1] == loose[1]


def test_a_bright_edge_that_moves_left_and_right_makes_on_and_off_events_where_it_passes():
    """On the first two legs the picture goes to the left and back; right of the edge it is bright."""
    events = events_of(step(), path=Diamond(border="edge"))
    legs = events["t"] // LEG_US
    assert len(events) and np.isin(events["x"], (29, 30, 31, 32, 33)).all(), "the edge passes 2 pixels to both sides"
    assert set(events["y"]) == set(range(64))
    for leg, bright in ((0, 1), (1, 0), (2, 0), (3, 1), (4, 1), (5, 0), (6, 0), (7, 1)):
        assert (events["p"][legs == leg] == bright).all() and (legs == leg).sum() > 64, leg
    first = events[legs == 0]
    middle = [np.median(first["t"][first["x"] == x]) for x in (31, 30)]  # it comes by from the right to the left
    # 2 pixels a leg; medians over 64 pixels, each of which begins somewhere within half a threshold.
    assert middle[0] < middle[1] and middle[1] - middle[0] == pytest.approx(LEG_US / 2, rel=0.1)


def test_opposite_legs_exchange_polarity():
    """Every leg and its opposite, some pixels away, show the same edges, brighter in place of darker.

    The edges lie in the middle of the frames' large pixels and so stay within them.
    """
    events = events_of(np.kron(np.random.default_rng(3).normal(0, 0.5, (7, 7)), np.ones((8, 8))))
    frames = np.zeros((8, 2, 8, 8))
    np.add.at(frames, (events["t"] // LEG_US, events["p"], events["y"] // 8, events["x"] // 8), 1)

    def alike(one, other):
        return np.corrcoef(one.ravel(), other.ravel())[0, 1]

    for leg in range(4, 6):
        assert alike(frames[leg], frames[leg + 2][::-1]) > 0.9 > 0.3 > alike(frames[leg], frames[leg + 2])


@pytest.mark.parametrize("border", ["mean", "edge"])
def test_a_flat_picture_makes_no_events_without_noise_and_only_noise_with_it(border):
    flat, path = np.full((56, 56), 0.3), Diamond(border=border)
    assert len(events_of(flat, path=path)) == 0
    noisy = dataclasses.replace(QUIET, noise_hz=10.0)
    count = 10 * 0.2 * 64 * 64  # a Poisson number
    assert abs(len(events_of(flat, noisy, path)) - count) < 5 * count**0.5


def test_the_edge_of_a_picture_makes_events_before_its_mean_alone():
    frame_only = np.repeat(np.linspace(-1, 1, 56)[:, None], 56, axis=1)  # too gentle for the camera but at its ends
    counts = [len(events_of(frame_only, path=Diamond(border=border))) for border in ("edge", "mean")]
    assert counts[0] == 0 and counts[1] > 500


def test_log_std_brings_all_pictures_to_one_contrast(tmp_path):
    grains = np.random.default_rng(0).integers(0, 2, (8, 8), np.uint8)
    for part in ("train", "test"):
        for name, amount in (("faint", 40), ("strong", 200)):
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(30 + amount * grains).resize((32, 32), 0).save(tmp_path / part / name / "0.png")
    made = {
        scale: [len(MovingPictures(tmp_path, "train", size=SIZE, log_std=scale)[i][0]) for i in (0, 1)]
        for scale in (None, 0.25, 0.5)
    }
    assert made[None][1] > 10 * made[None][0]
    # The same grains, but their logarithms are rounded to 1/255 of the light: 40 levels of it and 200 differ a little.
    assert made[0.25][0] == pytest.approx(made[0.25][1], rel=0.15) and made[0.5][0] > 1.5 * made[0.25][0]


def test_a_picture_keeps_its_shape_and_the_path_is_closed():
    path = Diamond()
    assert path.sides((32, 32), (128, 128)) == (112, 112) and path.sides((50, 100), (128, 128)) == (56, 112)
    offsets = path.offsets((128, 128))
    assert len(offsets) == 50 and len(path.times_us()) == 101 and path.times_us()[-1] == 200_000
    assert np.allclose(np.abs(offsets).sum(1), 4) and np.allclose(offsets[0], [0, -4])
    log = np.random.default_rng(0).normal(size=(112, 112))
    images = path.images(log, (128, 128))
    assert images.shape == (101, 128, 128) and all((images[k] == images[0]).all() for k in (50, 100))
    assert np.allclose(images[0][4:116, 8:120], log) and np.allclose(images[0][120:], log.mean())


def test_a_broken_picture_is_named_and_skip_bad_leaves_it_out(parts):
    good = parts / "train" / "fine" / "0002.png"
    for number, content in ((1, b"no picture"), (2, good.read_bytes()[:80]), (0, b"")):
        (parts / "train" / "coarse" / f"000{number}.png").write_bytes(content)
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(good)
    dataset = MovingPictures(parts, "train", size=SIZE)
    for index, name in ((0, "0000"), (1, "0001"), (2, "0002"), (5, "0002")):
        with pytest.raises(ValueError, match=rf"{name}.png is no picture, or a broken one: .*skip_bad=True"):
            dataset[index]
    with pytest.warns(UserWarning, match="4 of 6 recordings of a folder of pictures left out"):
        kept = MovingPictures(parts, "train", size=SIZE, skip_bad=True)
    assert len(kept) == 2 and "fine/0002.png" in kept.skipped and "expected 8 bits" in kept.skipped["fine/0002.png"]


def test_what_makes_the_events_is_in_the_key_of_a_cache_and_in_the_record(parts):
    frames = FramesByTime((2, *SIZE), 4)
    changes = {
        "camera": QUIET,
        "log_std": None,
        "size": (64, 60),
        "path": Diamond(3),
        "rule": "ids:1-2/0-0",
    }
    options = [{}, *({name: value} for name, value in changes.items())]
    keys = [MovingPictures(parts, "train", **{"size": SIZE, **each}).content() for each in [*options, {}]]
    assert len(set(keys)) == len(options) and keys[0] == keys[-1]
    dataset = MovingPictures(parts, "train", size=SIZE, transform=frames)
    cached = DiskCache(dataset)
    assert np.array_equal(cached[4][0], dataset[4][0])
    record = provenance(cached)
    assert (record["reader"], record["log_std"], record["path"]["rounds"]) == ("MovingPictures", 0.25, 2)
    assert record["camera"]["contrast"] == 0.46 and len(record["sha256"]) == 64
    Image.new("L", (32, 32), 9).save(parts / "train" / "fine" / "0000.png")
    assert MovingPictures(parts, "train", size=SIZE).content() != keys[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_std": 0}, "log_std must be > 0 and finite, or None, got 0"),
        ({"size": (64,)}, r"size must be the sensor's \(H, W\)"),
        ({"camera": DVSCamera(dark=0.0)}, "camera.dark must be > 0, got 0"),
        ({"rule": "ids:0-1"}, "ids takes two ranges"),
    ],
)
def test_bad_arguments_are_refused(parts, options, message):
    with pytest.raises(ValueError, match=message):
        MovingPictures(parts, "train", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds must be a whole number of at least 1, got 0"),
        ({"round_us": 0.1}, "round_us must be a whole number"),
        ({"image_us": 3000}, "image_us must divide round_us = 100000 into at least 2, got 3000"),
        ({"reach": 0}, "reach must be > 0 and finite, got 0"),
        ({"border": "black"}, "border must be one of mean, edge, got 'black'"),
    ],
)
def test_a_path_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Diamond(**options)


def test_folders_without_pictures_or_parts_say_so(tmp_path, parts):
    with pytest.raises(FileNotFoundError, match="No recordings of a folder of pictures in .* Give a folder that holds"):
        MovingPictures(tmp_path / "set" / "train" / "fine", "train")
    with pytest.raises(ValueError, match="Split given: no folder, .* name another rule"):
        MovingPictures(parts / "train", "train")
    (parts / "train" / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train/empty holds no picture \(.jpg, .*Put recordings there"):
        MovingPictures(parts, "train")


def test_noise_is_another_for_each_picture_and_hangs_on_its_bytes_alone(tmp_path):
    noisy = DVSCamera(contrast=0.46, spread=0.0, refractory_us=0, noise_hz=20.0, dark=0.5)
    for part in ("train", "test"):
        for name in ("flat", "other"):
            (tmp_path / part / name).mkdir(parents=True)
            for number, gray in enumerate((100, 100, 101)):
                Image.new("L", (32, 32), gray).save(tmp_path / part / name / f"{number}.png")
    first, again, other = (MovingPictures(tmp_path, "train", size=SIZE, camera=noisy)[i][0] for i in range(3))
    assert len(first) > 100 and same(first, again) and not same(first, other)


def test_without_noise_a_flat_picture_is_left_out_where_bad_ones_are(parts):
    Image.new("L", (32, 32), 255).save(parts / "train" / "coarse" / "0001.png")
    with pytest.warns(UserWarning, match="0001.png"):
        left = MovingPictures(parts, "train", size=SIZE, camera=QUIET, skip_bad=True)
    assert len(left) == 5 and list(left.skipped) == ["coarse/0001.png"]


def test_annotations_are_left_out_of_event_files_alone(parts):
    (parts / "train" / "fine" / "0000.png").rename(parts / "train" / "fine" / "annotation_0.png")
    assert len(MovingPictures(parts, "train", size=SIZE)) == 6


def test_what_makes_the_events_is_in_the_key(parts, monkeypatch):
    before = MovingPictures(parts, "train", size=SIZE).content()
    with monkeypatch.context() as patched:
        patched.setattr("PIL.__version__", "0.0")
        assert MovingPictures(parts, "train", size=SIZE).content() != before
    monkeypatch.setattr(MovingPictures, "makers", MovingPictures.makers[:1])
    assert MovingPictures(parts, "train", size=SIZE).content() != before


def test_thresholds_far_apart_are_no_error(parts):
    uneven = dataclasses.replace(CAMERA_OF_PICTURES, spread=0.3)
    assert len(MovingPictures(parts, "train", size=SIZE, camera=uneven)[0][0]) > 100
