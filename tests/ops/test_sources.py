"""Kernel sources are found and named."""

from __future__ import annotations

import pytest

from snnkit.ops import sources
from tests.shared import ROOT


def test_every_file_of_cuda_is_a_source():
    there = sorted(path.name for path in (ROOT / "cuda").iterdir() if path.is_file())
    assert sources.names() == there
    assert all(sources.source(name).strip() for name in there)


def test_cuda_has_no_init_file_since_it_would_hide_nvidias_package():
    assert not list((ROOT / "cuda").rglob("__init__.py"))


def test_an_unknown_source_is_named_with_the_nearest_one(monkeypatch, tmp_path):
    (tmp_path / "scan_host.cpp").write_text("// text")
    monkeypatch.setattr(sources, "_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'scan_hots.cpp'.*Near: scan_host.cpp"):
        sources.source("scan_hots.cpp")
