import gzip
import io
import tarfile

import numpy as np
import pytest

from snnkit.data import CIFAR10DVS
from tests.data.test_event_folder import write_set


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "snnkit-cache"))


def damaged_archives(archive, seeds):
    """The archive's bytes with four of them changed, once for each seed."""
    whole = archive.read_bytes()
    for seed in range(seeds):
        data = bytearray(whole)
        place = int(np.random.default_rng(seed).integers(len(data) // 4, len(data) - 8))
        data[place : place + 4] = bytes(each ^ 0xA5 for each in data[place : place + 4])
        yield bytes(data)


@pytest.mark.parametrize("how", ["gz", "bz2", "xz"])
def test_a_damaged_compressed_tar_is_an_error_that_names_it_and_never_a_part_of_the_set(tmp_path, how):
    write_set(tmp_path / "loose", range(3), "folders")
    archive = tmp_path / "set" / f"all.tar.{how}"
    archive.parent.mkdir()
    with tarfile.open(archive, f"w:{how}") as opened:
        opened.add(tmp_path / "loose", ".")
    for data in damaged_archives(archive, 4):
        archive.write_bytes(data)
        with pytest.raises(ValueError, match=f"all.tar.{how} is cut off or damaged .*: a broken download") as raised:
            CIFAR10DVS(archive.parent, "train", "ids:0-1/2-2")
        assert "\n" not in str(raised.value)
    for data in (b"", b"<html>not found</html>"):
        archive.write_bytes(data)
        with pytest.raises(ValueError, match=f"all.tar.{how} is cut off or damaged") as raised:
            CIFAR10DVS(archive.parent, "train", "ids:0-1/2-2")
        assert "\n" not in str(raised.value)
    assert all(path.suffix == ".lock" for path in (tmp_path / "snnkit-cache" / "unpacked").iterdir())


@pytest.mark.parametrize("how", ["tar", "tar.gz"])
def test_a_tar_that_ends_between_two_members_or_has_a_damaged_header_is_no_smaller_set(tmp_path, how):
    write_set(tmp_path / "set", range(2), "tar")
    whole = (tmp_path / "set" / "all.tar").read_bytes()
    (tmp_path / "set" / "all.tar").unlink()
    with tarfile.open(fileobj=io.BytesIO(whole)) as opened:
        place = opened.getmembers()[13].offset
    damaged = bytearray(whole)
    damaged[place + 150] ^= 0x11  # in the header's checksum
    for data in (whole[:place], bytes(damaged), whole[: place + 100], whole):
        archive = tmp_path / "set" / f"all.{how}"
        archive.write_bytes(gzip.compress(data) if how == "tar.gz" else data)
        if data == whole:
            assert len(CIFAR10DVS(archive, "train", "ids:0-0/1-1")) == 10
        else:
            with pytest.raises(ValueError, match="all.tar.*: a broken download"):
                CIFAR10DVS(archive, "train", "ids:0-0/1-1")
