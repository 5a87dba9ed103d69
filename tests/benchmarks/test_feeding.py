"""The benchmark of feeding: the cache it reads is the data it made, and the share of waiting is one."""

from __future__ import annotations

import re

import pytest


def test_benchmark_prints_the_share_of_an_epoch_spent_waiting(load_script, monkeypatch, capsys, tmp_path) -> None:
    options = f"--folder {tmp_path} --samples 9 --steps 3 --size 8 --batch 2 --workers 0 --model-ms 1 --device cpu"
    monkeypatch.setattr("sys.argv", ["feeding.py", *options.split()])
    script = load_script("feeding")
    script.main()
    printed = capsys.readouterr().out
    assert "cache of 9 x [3, 2, 8, 8] uint8" in printed
    shares = [float(share) for share in re.findall(r"= ([\d.]+) %, 0 workers", printed)]
    assert len(shares) == 2 and all(0 <= share <= 100 for share in shares)
    made, cache = script.Made(9, 3, 8), script.DiskCache(script.Made(9, 3, 8), tmp_path)
    assert all((made[i][0] == cache[i][0]).all() for i in range(9)) and (made[0][0] != made[1][0]).any()
    assert script.epoch([], script.torch.device("cpu"), lambda: None)[1] == pytest.approx(0, abs=0.1)
