import io
import sys
import types

import numpy as np
import pytest

from snnkit.data import read_events
from snnkit.data.aedat3 import aedat3_events, aedat3_packets
from snnkit.data.event_file import events_from_bytes
from tests.data.event_bytes import (
    AEDAT2_HEADER,
    AEDAT3_HEADER,
    aedat2_bytes,
    aedat3_packet,
    as_rows,
    atis_bytes,
    made_rows,
    npy_bytes,
    npz_bytes,
)
from tests.shared import shared_path

ROWS = made_rows(0)


def equal(events, rows):
    return as_rows(events).tolist() == np.asarray(rows).tolist()


def test_aedat2_gives_upright_coordinates_and_polarity():
    assert equal(events_from_bytes(aedat2_bytes(ROWS), "a.aedat"), ROWS)
    # By hand: address 0 is the lower right corner, brighter.
    by_hand = AEDAT2_HEADER + bytes([0, 0, 0, 0, 0, 0, 0, 9]) + bytes([0, 0, 0x7F, 0xFF, 0, 0, 1, 0])
    assert equal(events_from_bytes(by_hand, "a.aedat"), [(9, 127, 127, 1), (256, 0, 0, 0)])


def test_aedat2_without_events_is_no_error_and_a_clock_that_passes_its_end_goes_on():
    assert len(events_from_bytes(AEDAT2_HEADER, "a.aedat")) == 0
    rows = [(2**32 - 5, 1, 2, 0), (2**32 + 3, 3, 4, 1)]
    assert equal(events_from_bytes(aedat2_bytes(rows), "a.aedat"), rows)


def test_aedat2_leaves_out_what_is_no_pixels_event_and_refuses_a_larger_sensors():
    pulse = bytes([0, 0, 0x80, 0, 0, 0, 0, 50])
    assert equal(events_from_bytes(aedat2_bytes(ROWS) + pulse, "a.aedat"), ROWS)
    with pytest.raises(ValueError, match="a.aedat: address 0x10000 has more than 16 bits: it is not from a DVS128"):
        events_from_bytes(aedat2_bytes(ROWS) + bytes([0, 1, 0, 0, 0, 0, 0, 0]), "a.aedat")


def test_aedat2_is_spikingjellys(tmp_path):
    theirs = pytest.importorskip("spikingjelly.datasets.cifar10_dvs")
    if not hasattr(theirs, "_load_origin_data"):
        pytest.skip("this SpikingJelly does not have the function that is compared")
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat2_bytes(ROWS))
    columns = theirs._load_origin_data(path)
    assert equal(read_events(path), np.stack([np.asarray(columns[key]).astype(int) for key in "txyp"], 1))


def test_aedat3_reads_polarity_packets_and_skips_the_others():
    data = AEDAT3_HEADER + aedat3_packet(ROWS[:13]) + aedat3_packet(ROWS[:3], kind=0) + aedat3_packet(ROWS[13:])
    assert equal(events_from_bytes(data, "user01_led.aedat"), ROWS)
    wide = [(5, 300, 200, 1)]  # 15 bits each
    assert equal(events_from_bytes(AEDAT3_HEADER + aedat3_packet(wide), "a.aedat"), wide)


def test_aedat3_adds_the_packets_overflow_and_leaves_out_invalid_events():
    data = AEDAT3_HEADER + aedat3_packet(ROWS[:5], invalid=(1, 3)) + aedat3_packet(ROWS[:2], overflow=2)
    later = ROWS[:2] + [[2 << 31, 0, 0, 0]]
    assert equal(events_from_bytes(data, "a.aedat"), np.concatenate([ROWS[[0, 2, 4]], later]))


def test_aedat3_decodes_a_range_of_time_as_if_it_were_cut_from_the_whole():
    packets = [aedat3_packet(ROWS[i : i + 7]) for i in range(0, len(ROWS), 7)]
    data = AEDAT3_HEADER + b"".join(packets)
    start, end = int(ROWS[9, 0]), int(ROWS[30, 0])
    found = aedat3_packets(data, "a")
    inside = (ROWS[:, 0] >= start) & (ROWS[:, 0] < end)
    assert equal(aedat3_events(data, "a", start, end, found), ROWS[inside]) and len(found) == len(packets)
    assert len(aedat3_events(data, "a", end, start)) == 0


def test_aedat3_is_spikingjellys(tmp_path):
    utils = pytest.importorskip("spikingjelly.datasets.utils")
    if not hasattr(utils, "load_aedat_v3"):
        pytest.skip("this SpikingJelly does not have the function that is compared")
    path = tmp_path / "a.aedat"
    path.write_bytes(AEDAT3_HEADER + aedat3_packet(ROWS[:13]) + aedat3_packet(ROWS[13:]))
    columns = utils.load_aedat_v3(path)
    assert equal(read_events(path), np.stack([columns[key] for key in "txyp"], 1))


@pytest.mark.parametrize("cut", [1, 9, 27, 8 * 20, 8 * 27 + 12])
def test_aedat3_cut_off_anywhere_is_named(cut):
    data = AEDAT3_HEADER + aedat3_packet(ROWS[:13]) + aedat3_packet(ROWS[13:])
    with pytest.raises(ValueError, match="a.aedat is cut off"):
        events_from_bytes(data[:-cut], "a.aedat")
    with pytest.raises(ValueError, match="a.aedat is cut off within its text header"):
        events_from_bytes(AEDAT3_HEADER[:40], "a.aedat")


def test_atis_files_count_the_overflow_in_all_that_follow():
    rows = made_rows(1, width=34, height=34)
    assert equal(events_from_bytes(atis_bytes(rows), "00001.bin"), rows)
    late = [((1 << 23) - 1, 1, 2, 0), ((1 << 23) + 7, 3, 4, 1), ((1 << 23) + 9000, 5, 6, 1)]
    data = atis_bytes(late)
    assert len(data) == 5 * 5 and equal(events_from_bytes(data, "00001.bin"), late)


@pytest.mark.parametrize("dtypes", [{}, dict(t=">u4", x="u4", y="u4"), dict(p=bool, x="i2"), dict(t="u8", p="i1")])
def test_columns_of_an_npz_may_have_any_integer_type(dtypes):
    assert equal(events_from_bytes(npz_bytes(ROWS, **dtypes), "0.npz"), ROWS)


def test_arrays_may_be_structured_under_other_names_or_four_columns():
    fields = np.zeros(len(ROWS), [("x", "u2"), ("y", "u2"), ("polarity", "i1"), ("timestamp", "u8")])
    fields["timestamp"], fields["x"], fields["y"] = ROWS[:, :3].T
    fields["polarity"] = 2 * ROWS[:, 3] - 1
    assert equal(events_from_bytes(npy_bytes(fields), "a.npy"), ROWS)
    assert equal(events_from_bytes(npy_bytes(ROWS[:, [1, 2, 3, 0]]), "a.npy"), ROWS)


def test_tonics_gesture_files_hold_milliseconds_that_do_not_wrap():
    table = np.array([[1, 2, 0, 3], [3, 4, 1, 60_000]], np.uint16)
    assert equal(events_from_bytes(npy_bytes(table), "0.npy", unit_us=1000), [(3000, 1, 2, 0), (60_000_000, 3, 4, 1)])
    assert equal(events_from_bytes(npy_bytes(table.astype(float)), "0.npy", 1000)[:1], [(3000, 1, 2, 0)])


def test_four_floating_columns_are_refused_until_their_unit_is_given():
    data = npy_bytes(ROWS[:, [1, 2, 3, 0]] / [1, 1, 1, 1000])
    with pytest.raises(ValueError, match="u1/0.npy holds four columns of float64, .*: give unit_us, microseconds per"):
        events_from_bytes(data, "u1/0.npy")
    assert equal(events_from_bytes(data, "u1/0.npy", 1000), ROWS)


def test_four_columns_in_another_order_are_told_which_is_expected():
    wrong = ROWS[:, [0, 1, 2, 3]] + [40_000, 0, 0, 0]
    with pytest.raises(ValueError, match="a.npy: x runs .*wide. Four columns are taken for x, y, p, t"):
        events_from_bytes(npy_bytes(wrong), "a.npy")
    with pytest.raises(ValueError, match="p must be bool.* taken for x, y, p, t, in this order"):
        events_from_bytes(npy_bytes(ROWS[:, [1, 2, 0, 3]] * [1, 1, 0.5, 1.0]), "a.npy", 1e6)


def test_seconds_in_an_npz_are_converted_once():
    data = npz_bytes(ROWS, t=np.float64)
    seconds = np.load(io.BytesIO(data))
    file = io.BytesIO()
    np.savez(file, t=seconds["t"] / 1e6, x=seconds["x"], y=seconds["y"], p=seconds["p"])
    assert equal(events_from_bytes(file.getvalue(), "0.npz"), ROWS)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.aedat", b"", "a.aedat is empty"),
        ("a.npz", b"", "a.npz is empty"),
        ("a.aedat", b"PK\3\4 another file", "is no AEDAT 2.0, 3.1 or 4: it starts with b'PK"),
        ("a.aedat", aedat2_bytes(ROWS)[:-3], "a.aedat is cut off: 317 bytes"),
        ("a.aedat4", aedat2_bytes(ROWS)[:-3], "a.aedat4 is cut off"),
        ("a.bin", atis_bytes(ROWS)[:-1], "a.bin is cut off, or no ATIS file: 199 bytes"),
        ("a.npz", npz_bytes(ROWS)[:-50], "a.npz cannot be read by numpy"),
        ("a.npz", b"no numpy at all", "a.npz cannot be read by numpy, .* it starts with b'no numpy at '.$"),
        ("a.npy", npy_bytes(np.array([{"t": 1}], dtype=object)), "by numpy .it holds Python objects, no numb"),
        ("a.npy", npy_bytes(np.zeros((5, 4))).replace(b"shape'", b"shape ", 1), "a.npy cannot be read by numpy"),
        ("a.npy", npy_bytes(np.zeros((5, 3))), r"a.npy holds an array of shape \(5, 3\)"),
        ("a.npy", npy_bytes(np.zeros(4, [("t", "i8"), ("x", "i2")])), "a.npy has no column 'y' .* it holds t, x"),
        ("a.txt", b"1 2 3", "a.txt has no suffix of an event file; known are .aedat"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_named_with_what_is_wrong(name, data, message):
    with pytest.raises(ValueError, match=message):
        events_from_bytes(data, name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"No event file {tmp_path / 'no.aedat'}"):
        read_events(tmp_path / "no.aedat")


def test_aedat4_goes_through_its_package_and_says_when_it_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(ImportError, match="AEDAT 4 files need the package aedat: pip install aedat"):
        events_from_bytes(b"#!AER-DAT4.0\r\n", "a.aedat4")
    dtype = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")])
    events = np.array([(t, x, y, bool(p)) for t, x, y, p in ROWS], dtype)

    class Decoder:
        def __init__(self, path):
            if path.read_bytes() == b"#!AER-DAT4.0\r\nbroken":
                raise RuntimeError("unexpected end")

        def __iter__(self):
            yield from ({"stream_id": 0, "events": events[:9]}, {"stream_id": 1, "frame": {}}, {"events": events[9:]})

    monkeypatch.setitem(sys.modules, "aedat", types.SimpleNamespace(Decoder=Decoder))
    for name in ("a.aedat4", "a.aedat"):
        assert equal(events_from_bytes(b"#!AER-DAT4.0\r\n...", name), ROWS)
    with pytest.raises(ValueError, match="a.aedat4 cannot be read as AEDAT 4, it is damaged .unexpected end"):
        events_from_bytes(b"#!AER-DAT4.0\r\nbroken", "a.aedat4")


def test_real_recordings_have_the_numbers_of_their_description():
    import zipfile

    with zipfile.ZipFile(shared_path("data/nmnist_1100/Test.zip")) as archive:
        counts = [len(events_from_bytes(archive.read(name), name)) for name in archive.namelist() if name[-1] != "/"]
    assert (len(counts), min(counts), int(np.median(counts)), max(counts)) == (100, 1069, 3913, 6326)
