import hashlib
import re
import zipfile

import numpy as np
import pytest

from snnkit.data import SpikeHDF5, verify_spike_file
from snnkit.data import verify as module
from tests.data.recordings import made_events, write_file
from tests.shared import shared_path

h5py = pytest.importorskip("h5py")


def zipped(file):
    archive = file.with_name(f"{file.name}.zip")
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(file, file.name)
    return archive


def test_a_whole_file_is_counted_and_an_archive_beside_it_vouches_for_it(tmp_path):
    file = write_file(tmp_path / "train.h5")
    spikes = sum(len(events) for events in made_events(7))
    assert verify_spike_file(file) == {"samples": 7, "spikes": spikes, "archive": "absent"}
    zipped(file)
    assert SpikeHDF5(file).verify()["archive"] == "unknown"


def test_a_byte_that_changed_after_unpacking_is_found(tmp_path):
    file = write_file(tmp_path / "train.h5")
    zipped(file)
    with h5py.File(file, "a") as opened:
        opened["extra/speaker"][3] = 77
    with pytest.raises(ValueError, match=r"train.h5 is not what train.h5.zip holds \(\d+ bytes\): unpack it again"):
        verify_spike_file(file)


def test_the_published_archive_is_told_from_another_by_its_md5(tmp_path, monkeypatch):
    monkeypatch.setitem(module.SAMPLES, "ssc_valid.h5", 7)
    file = write_file(tmp_path / "ssc_valid.h5")
    archive = zipped(file)
    with pytest.raises(ValueError, match="zip has the MD5 [0-9a-f]{32}, expected b4eee3516a4a90dd0c71a6ac23a8ae43"):
        verify_spike_file(file)
    monkeypatch.setitem(module.ARCHIVE_MD5, archive.name, hashlib.md5(archive.read_bytes()).hexdigest())
    assert verify_spike_file(file)["archive"] == "published"
    archive.write_bytes(b"PK\x03\x04 and no more")
    monkeypatch.delitem(module.ARCHIVE_MD5, archive.name)
    with pytest.raises(ValueError, match="zip is damaged"):
        verify_spike_file(file)
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("readme", "")
    with pytest.raises(ValueError, match="does not hold ssc_valid.h5"):
        verify_spike_file(file)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("spikes/units", [3, 700], "sample 2 has units from 3 to 700, expected 0 to 699"),
        ("spikes/times", [0.2, 0.1], "sample 2 has times that are not finite or not in order"),
        ("spikes/times", [0.2, np.nan], "sample 2 has times that are not finite or not in order"),
        ("spikes/times", [0.2], "sample 2 has 1 times and 2 units"),
    ],
)
def test_impossible_spikes_are_named_by_sample(tmp_path, name, values, message):
    file = write_file(tmp_path / "train.h5")
    with h5py.File(file, "a") as opened:
        opened["spikes/times"][2], opened["spikes/units"][2] = [0.1, 0.2], [3, 4]
        opened[name][2] = values
    with pytest.raises(ValueError, match=re.escape(message)):
        verify_spike_file(file)


def test_missing_truncated_and_wrong_are_three_messages(tmp_path):
    with pytest.raises(FileNotFoundError):
        verify_spike_file(tmp_path / "shd_train.h5")
    file = write_file(tmp_path / "shd_train.h5")
    with pytest.raises(ValueError, match="holds 7 samples, the published shd_train.h5 8156: it is another set"):
        verify_spike_file(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is truncated.*MD5 is f3252aeb598ac776c1b526422d90eecb"):
        verify_spike_file(file)


def test_the_spoken_digits_are_whole_but_not_shd(tmp_path):
    file = shared_path("data/spoken_digits") / "shd_test.h5"
    with pytest.raises(ValueError, match="holds 600 samples, the published shd_test.h5 2264"):
        verify_spike_file(file)
    (tmp_path / "test.h5").symlink_to(file)
    assert verify_spike_file(tmp_path / "test.h5") == {"samples": 600, "spikes": 1_885_457, "archive": "absent"}
