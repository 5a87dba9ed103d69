"""Wheel, sdist and a plain checkout hold every subpackage and every kernel source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.shared import ROOT, repository_files

pytest.importorskip("setuptools", reason="building needs setuptools (pip install setuptools)")

# Run in a process of its own, outside the repository, with nothing on the path but the folder and the dependencies.
READ = """
import importlib, pathlib, pkgutil, sys
place = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(place))
import snnkit
assert pathlib.Path(snnkit.__file__).resolve().is_relative_to(place), snnkit.__file__
names = [info.name for info in pkgutil.walk_packages(snnkit.__path__, "snnkit.") if not info.name.endswith("_sources")]
for name in names:
    importlib.import_module(name)
from snnkit.ops import sources
for name in sources.names():
    assert sources.source(name).strip(), name
print(*sorted(names))
print(*sources.names())
print((pathlib.Path(snnkit.__file__).parent / "py.typed").is_file())
"""


def read(place: Path, cwd: Path) -> tuple[str, ...]:
    process = subprocess.run(
        [sys.executable, "-I", "-c", READ, str(place)], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    return tuple(process.stdout.splitlines())


def python(*arguments: str, cwd: Path) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    process = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.fixture(scope="module")
def expected() -> tuple[str, ...]:
    files = [path.relative_to(ROOT) for path in (ROOT / "snnkit").rglob("*.py")]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files} - {"snnkit"}
    sources = sorted(path.name for path in (ROOT / "cuda").iterdir() if path.is_file())
    return " ".join(sorted(names)), " ".join(sources), "True"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Copy the repository's files: building leaves traces in the folder."""
    place = tmp_path_factory.mktemp("checkout")
    for path in repository_files():
        copy = place / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return place


def test_a_checkout_works_without_installation(checkout, expected, tmp_path):
    assert read(checkout, tmp_path) == expected


def test_a_wheel_holds_every_subpackage_and_source_and_only_python(checkout, expected, tmp_path):
    built = tmp_path / "built"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-w", str(built)]
    python("-m", "pip", "wheel", str(checkout), *options, cwd=tmp_path)
    (wheel,) = built.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")  # no compiler, no CUDA needed to install it
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        licenses = [name for name in archive.namelist() if name.endswith("LICENSE")]
    assert licenses and not (tmp_path / "installed/tests").exists() and not (tmp_path / "installed/cuda").exists()
    assert read(tmp_path / "installed", tmp_path) == expected


def test_an_sdist_installs_every_subpackage_and_source(checkout, expected, tmp_path):
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    python("-c", build, cwd=checkout)
    (sdist,) = tmp_path.glob("*.tar.gz")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(tmp_path / "installed")]
    python("-m", "pip", "install", str(sdist), *options, cwd=tmp_path)
    assert read(tmp_path / "installed", tmp_path) == expected
