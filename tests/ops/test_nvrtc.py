"""CUDA text to machine code without a GPU: flags, errors, and the kept files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snnkit.ops import cuda, nvrtc
from snnkit.ops.cache import digest
from tests.shared import ROOT

TROUBLE = cuda.nvrtc_trouble()  # an NVRTC that is there and compiles nothing is no reason to skip
pytestmark = pytest.mark.skipif(TROUBLE is not None and TROUBLE.absent, reason=f"no NVRTC: {TROUBLE}")

MIXED = """
struct Arguments { const float *from; float *to; };
extern "C" __global__ void mixed(const __grid_constant__ Arguments a) {
  a.to[0] = a.from[0] * a.from[1] + a.from[2];
  a.to[1] = a.from[0] / a.from[1];
  a.to[2] = sqrtf(a.from[2]);
}
"""


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_text_becomes_machine_code_of_the_architecture_without_a_gpu(architecture):
    image = nvrtc.compiled(MIXED, architecture)
    assert image[:4] == b"\x7fELF" and b"mixed" in image and architecture.encode() in image


def test_arithmetic_rounds_as_on_the_cpu_fused_nowhere_and_with_its_subnormal_numbers():
    # NVRTC gives PTX, which can be read, for a virtual architecture.
    ptx = nvrtc.compiled(MIXED, "compute_80").decode()
    for instruction in ("mul.rn.f32", "add.rn.f32", "div.rn.f32", "sqrt.rn.f32"):
        assert instruction in ptx or instruction.replace(".rn", "") in ptx, instruction
    assert "fma" not in ptx and ".ftz" not in ptx and ".approx" not in ptx


def test_a_refused_text_is_shown_with_its_line_and_error():
    with pytest.raises(RuntimeError, match=r"refused the text: code\.cu\(2\): error: .*nonsense") as caught:
        nvrtc.compiled('extern "C" __global__ void f(int *to) {\n  *to = nonsense;\n}', "sm_90")
    assert not isinstance(caught.value, nvrtc.NoNVRTC) and len(str(caught.value).splitlines()) <= 5


def test_an_architecture_that_nvrtc_does_not_know_is_refused_with_its_words():
    with pytest.raises(RuntimeError, match="gpu-architecture"):
        nvrtc.compiled(MIXED, "sm_35")


def test_the_place_of_nvrtc_is_a_file():
    assert nvrtc.place().is_file() and nvrtc.version().count(".") == 1


# Its own process with its own cache; each compile notes itself in a log.
BUILD = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from snnkit.ops import nvrtc
inner = nvrtc.compiled
def noting(code, architecture):
    with open(sys.argv[1], "a") as log: log.write(architecture + "\\n")
    time.sleep(0.5)
    return inner(code, architecture)
nvrtc.compiled = noting
for architecture in sys.argv[2:]:
    print(nvrtc.cubin({MIXED!r}, architecture))
"""


def build(folder: Path, *architectures: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "SNNKIT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", BUILD, str(folder / "log"), *architectures]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_build_once_and_each_architecture_has_its_file(tmp_path):
    both = [build(tmp_path, "sm_80", "sm_90") for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in both]
    assert answers[0] == answers[1] and answers[0][1] == ""
    assert sorted((tmp_path / "log").read_text().split()) == ["sm_80", "sm_90"]
    files = [Path(line) for line in answers[0][0].split()]
    assert len(set(files)) == 2 and all(digest(file) == file.stem for file in files)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    from snnkit.ops import cache

    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path))
    cache.folder.cache_clear()
    yield tmp_path
    cache.folder.cache_clear()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_built_again(own_cache, monkeypatch, damage):
    path = nvrtc.cubin(MIXED, "sm_90")
    right = path.read_bytes()
    flipped = bytearray(right)
    flipped[len(right) // 2] ^= 255
    path.write_bytes({"cut": right[: len(right) // 2], "flipped": flipped, "empty": b""}[damage])
    assert nvrtc.cubin(MIXED, "sm_90").read_bytes() == right

    monkeypatch.setattr(nvrtc, "compiled", lambda *_: pytest.fail("an intact file is built again"))
    assert nvrtc.cubin(MIXED, "sm_90").read_bytes() == right
    assert (path.parent / "code.cu").read_text() == MIXED
