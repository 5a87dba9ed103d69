"""AEDAT 3.1, the recordings of DVS128 Gesture (Amir et al. 2017); layout of inivation's format description.

Text lines that start with ``#``, the first ``#!AER-DAT3.1``, the last ``#!END-HEADER``; then packets, little endian. A
packet has 28 bytes of header: type (uint16; 1: polarity events), source (uint16), bytes an event, offset of the time,
overflow of the time, capacity, number, number of valid events (uint32 each); then capacity times an event. A polarity
event is 32 bits a and 32 bits of time in us, the packet's overflow shifted by 31 added; x = a >> 17 & 0x7FFF,
y = a >> 2 & 0x7FFF, p = a >> 1 & 1, and bit 0 says that it is valid.

Gestures are clips of long recordings: with a range of time only the packets that touch it are decoded.
"""

from __future__ import annotations

import struct

import numpy as np

from snnkit.data.camera_event import camera_events

MARK = b"#!AER-DAT3.1"
_END = b"#!END-HEADER"
_HEADER = struct.Struct("<HHIIIIII")
_POLARITY = 1
_PACKET = np.dtype([("at", "i8"), ("count", "i8"), ("all_valid", "?"), ("first", "i8"), ("last", "i8")])


def aedat3_events(
    data: bytes, name: str, start_us: int = 0, end_us: int | None = None, packets: np.ndarray | None = None
) -> np.ndarray:
    """Camera events with start_us <= t < end_us (default: all) of a recording's bytes.

    Args:
        packets: what ``aedat3_packets`` found, if it is known.

    Raises:
        ValueError: no AEDAT 3.1, or cut off within a packet.
    """
    packets = aedat3_packets(data, name) if packets is None else packets
    end_us = np.iinfo(np.int64).max if end_us is None else end_us
    addresses, times = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
    for packet in packets[(packets["last"] >= start_us) & (packets["first"] < end_us)]:
        events = np.frombuffer(data, "<u4", 2 * packet["count"], packet["at"]).reshape(-1, 2)
        t = events[:, 1].astype(np.int64) + (packet["first"] >> 31 << 31)
        chosen = (t >= start_us) & (t < end_us)
        if not packet["all_valid"]:
            chosen &= events[:, 0] & 1 == 1
        addresses.append(events[chosen, 0])
        times.append(t[chosen])
    a = np.concatenate(addresses)
    return camera_events(np.concatenate(times), a >> 17, a >> 2 & 0x7FFF, a >> 1 & 1, name)


def aedat3_packets(data: bytes, name: str) -> np.ndarray:
    """Place, number of events, and times of the first and last event of each packet of polarity events."""
    if data[: len(MARK)] != MARK:
        raise ValueError(f"{name} is no AEDAT 3.1: it starts with {bytes(data[:12])!r}, expected {MARK!r}.")
    at, found = _header_end(data, name), []
    while at < len(data):
        if at + _HEADER.size > len(data):
            raise ValueError(f"{name} is cut off within the header of the packet at byte {at} of {len(data)}.")
        kind, _, size, _, overflow, capacity, number, valid = _HEADER.unpack_from(data, at)
        begin, at = at + _HEADER.size, at + _HEADER.size + capacity * size
        if at > len(data):
            raise ValueError(f"{name} is cut off: the packet at byte {begin} ends at {at}, the file at {len(data)}.")
        if kind != _POLARITY or not number:
            continue
        if size != 8 or number > capacity:
            raise ValueError(f"{name}: the packet at byte {begin} has {number} events of {size} bytes, not 8.")
        times = np.frombuffer(data, "<u4", 2 * number, begin)[1::2]
        origin = overflow << 31
        found.append((begin, number, valid >= number, origin + int(times.min()), origin + int(times.max())))
    return np.array(found, _PACKET)


def _header_end(data: bytes, name: str) -> int:
    begin = 0
    while bytes(data[begin : begin + 1]) == b"#":
        end = data.find(b"\n", begin)
        if end < 0:
            break
        line, begin = bytes(data[begin:end]), end + 1
        if line.startswith(_END):
            break
    else:
        return begin
    if end < 0:
        raise ValueError(f"{name} is cut off within its text header.")
    return begin
