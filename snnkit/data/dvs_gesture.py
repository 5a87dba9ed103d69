"""DVS128 Gesture (Amir et al. 2017): 11 gestures of 29 people under several lights, 128 x 128 pixels.

The number of clips depends on the source: 1176 + 288 are cut from the recordings (the paper counts 1342 in all), 1077 +
264 are in tonic's files. ``classes`` names each index. A flip from left to right changes the class of six of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snnkit.data.aedat3 import aedat3_events, aedat3_packets
from snnkit.data.event_file import events_from_bytes
from snnkit.data.event_sets import PublicSet
from snnkit.data.gesture_clips import gesture_clips
from snnkit.data.recording import Recording


class DVSGesture(PublicSet):
    """``DVSGesture(root, "train")``, the given split by people; arguments as of ``EventFolder``.

    The original folder (``DvsGesture``: .aedat and .csv) or archive is read as it is, and tonic's and SpikingJelly's
    files, too, see ``gesture_clips.py``. ``speakers`` holds the person of each clip.
    """

    title = "DVS128 Gesture"
    hint = (
        "DVS128 Gesture is DvsGesture.tar.gz (MD5 8a5c71fb11e24e5ca5b11866ca6c00a1), or tonic's ibmGestureTrain.tar.gz "
        "and ibmGestureTest.tar.gz: put it into this folder."
    )
    folders = ("events_np", "DVSGesture", "DvsGesture")
    known_classes = (
        *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise"),
        *("left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
    )
    expected = {"clips cut from the recordings": (1176, 288), "clips in tonic's files": (1077, 264)}
    usual_rule = "given"

    def _listed(self) -> list[Recording]:
        self._packets: dict[str, np.ndarray] = {}  # of each recording: where its packets lie
        return gesture_clips(self.store, self.known_classes)

    def _events(self, recording: Recording) -> np.ndarray:
        entry = recording.entry
        if recording.start_us is None:
            unit_us = 1000.0 if entry.path.suffix.lower() == ".npy" else None
            return events_from_bytes(self.store.read(entry), entry.shown, unit_us)
        data = self.store.mapped(entry)
        if entry.name not in self._packets:
            self._packets[entry.name] = aedat3_packets(data, entry.shown)
        packets = self._packets[entry.name]
        return aedat3_events(data, entry.shown, recording.start_us, recording.end_us, packets)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packets": {}}
