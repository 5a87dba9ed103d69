"""The benchmark of framing: prints each candidate, and no time of frames that are not SpikingJelly's."""

from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture
def script(load_script, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("tonic")
    utils = pytest.importorskip("spikingjelly.datasets.utils")
    if not hasattr(utils, "integrate_events_by_fixed_frames_number"):
        pytest.skip("another SpikingJelly")
    monkeypatch.setattr("sys.argv", ["framing.py", *"--events 900 --steps 3 --size 16 --rounds 1".split()])
    return load_script("framing")


def test_benchmark_prints_events_a_second_of_each_candidate(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    script.main()
    printed = capsys.readouterr().out
    assert "900 events to [3, 2, 16, 16]" in printed and "by time, tonic ToFrame" in printed and "load" in printed


def test_benchmark_prints_no_time_of_wrong_frames(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = script.FramesByTime.__call__
    monkeypatch.setattr(script.FramesByTime, "__call__", lambda self, events: right(self, events[:-1]))
    with pytest.raises(SystemExit, match="Frames by time are not SpikingJelly's"):
        script.main()
    assert capsys.readouterr().out == ""
