"""``python -m snnkit doctor``, on machines on which parts are hidden, broken or made for another one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from snnkit import doctor
from snnkit.__main__ import main
from snnkit.ops import cpu, cuda, nvrtc
from tests.hidden_parts import cupy_for_cuda, cupy_raises, torch_for_cuda
from tests.shared import ROOT, needs_compiler

LOST = "libnvrtc.so.13: cannot open shared object file"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch) -> None:
    """A machine without GPU and with one wheel of CuPy at most, whatever this one has."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda, "driver", lambda: None)
    monkeypatch.setattr(metadata, "distributions", lambda: iter([SimpleNamespace(name="cupy-cuda13x")]))


def examine(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(["doctor"])
    out, error = capsys.readouterr()
    assert error == "" and len(out.splitlines()) < 40
    return status, out


def line(out: str, name: str) -> str:
    return next(line for line in out.splitlines() if line.strip().startswith(name))


@pytest.fixture
def whole(monkeypatch) -> None:
    """Nothing amiss with CuPy and NVRTC."""
    cupy_for_cuda(monkeypatch, 13020)
    monkeypatch.setattr(cuda, "nvrtc_trouble", lambda: None)
    monkeypatch.setattr(nvrtc, "version", lambda: "13.0")
    monkeypatch.setattr(nvrtc, "place", lambda: Path("somewhere/libnvrtc.so.13"))


@needs_compiler
def test_on_a_sound_machine_every_part_is_named_with_its_version_and_nothing_is_to_mend(whole, capsys):
    status, out = examine(capsys)
    assert status == 0 and "Nothing to mend" in out and "BROKEN" not in out
    assert torch.__version__ in line(out, "torch") and "CUDA 13.0" in line(out, "torch")
    assert "14.0.0, built for CUDA 13.2, somewhere" in line(out, "cupy")
    assert "13.0, somewhere/libnvrtc.so.13" in line(out, "NVRTC")
    assert cpu.compiler().version in line(out, "C++ compiler") and "-ffp-contract=off" in line(out, "C++ compiler")
    assert "writable" in line(out, "cache") and line(out, "GPU").split() == ["GPU", "none"]
    assert len(line(out, "delayed_sum 512x512x31 on cpu").split()) > 4
    assert line(out, "recurrent_scan on cpu").endswith("cpu: a compiled loop")
    tested = out[out.index("Compiled kernels") :]
    assert "equal" in line(tested, "scan on cpu") and "equal" in line(tested, "delay_kernel on cpu")


def test_without_cupy_and_without_gpu_nothing_is_broken(capsys, monkeypatch):
    cupy_raises(monkeypatch, ModuleNotFoundError("No module named 'cupy'", name="cupy"))
    status, out = examine(capsys)
    assert status == 0 and "not installed" in line(out, "cupy") and "only GPUs need it" in line(out, "cupy")
    assert "pip install cupy" not in out


def test_a_gpu_that_waits_for_cupy_is_broken_and_the_wheel_is_named(capsys, monkeypatch):
    monkeypatch.setattr(cuda, "driver", lambda: cuda.Driver("13.0", 1))
    cupy_raises(monkeypatch, ModuleNotFoundError("No module named 'cupy'", name="cupy"))
    status, out = examine(capsys)
    assert status == 1 and "BROKEN" in line(out, "cupy")
    assert "\n  pip install cupy-cuda13x\n" in out[out.index("To mend") :]


def test_the_import_error_of_a_broken_cupy_is_shown_as_it_was(capsys, monkeypatch):
    cupy_raises(monkeypatch, ImportError(LOST))
    status, out = examine(capsys)
    assert status == 1 and f"BROKEN: cupy does not import (ImportError: {LOST})" in line(out, "cupy")
    assert "\n  pip install --force-reinstall cupy-cuda13x" in out


def test_a_cupy_for_another_cuda_is_broken_without_a_gpu_too(capsys, monkeypatch):
    cupy_for_cuda(monkeypatch, 12090)
    status, out = examine(capsys)
    assert status == 1 and "cupy was made for CUDA 12.9, PyTorch for CUDA 13.0" in line(out, "cupy")
    assert "\n  pip uninstall -y cupy-cuda12x && pip install cupy-cuda13x" in out


def test_beside_a_torch_without_cuda_any_cupy_will_do(whole, capsys, monkeypatch):
    cupy_for_cuda(monkeypatch, 12090, None)
    status, out = examine(capsys)
    assert status == 0 and "built for CUDA 12.9" in line(out, "cupy") and "Nothing to mend" in out


def test_half_a_cupy_is_broken_and_put_in_place_again(capsys, monkeypatch):
    cupy_raises(monkeypatch, ModuleNotFoundError("No module named 'cupy.cuda'", name="cupy.cuda"))
    status, out = examine(capsys)
    assert status == 1 and "cupy does not import" in line(out, "cupy")
    assert "\n  pip install --force-reinstall cupy-cuda13x" in out


def test_a_driver_that_does_not_start_is_broken(whole, capsys, monkeypatch):
    monkeypatch.setattr(cuda, "driver", lambda: cuda.Driver("13.0", 0, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"))
    status, out = examine(capsys)
    assert status == 1 and "does not start: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" in line(out, "driver")
    assert "restart the machine" in out[out.index("To mend") :]


def test_two_wheels_of_cupy_are_broken(whole, capsys, monkeypatch):
    wheels = [SimpleNamespace(name=name) for name in ("cupy-cuda13x", "numpy", "cupy-cuda12x", None)]
    monkeypatch.setattr(metadata, "distributions", lambda: iter(wheels))
    status, out = examine(capsys)
    assert status == 1 and "more than once: cupy-cuda12x, cupy-cuda13x" in line(out, "cupy")


def test_a_gpu_that_torch_does_not_take_is_broken_with_both_versions(whole, capsys, monkeypatch):
    monkeypatch.setattr(cuda, "driver", lambda: cuda.Driver("12.4", 2))
    status, out = examine(capsys)
    assert status == 1 and "the driver shows 2, PyTorch takes 0: it is built for CUDA 13.0" in line(out, "GPU")
    assert "install a PyTorch built for CUDA 12.4" in out


def test_an_nvrtc_that_is_absent_is_no_fault_and_one_that_fails_is(whole, capsys, monkeypatch):
    monkeypatch.setattr(cuda, "nvrtc_trouble", lambda: cuda.Trouble("NVRTC does not load", "pip it", absent=True))
    status, out = examine(capsys)
    assert status == 0 and "NVRTC does not load; only GPUs need it" in out and "pip it" not in out
    monkeypatch.setattr(cuda, "nvrtc_trouble", lambda: cuda.Trouble("NVRTC compiles nothing", "pip it"))
    status, out = examine(capsys)
    assert status == 1 and "BROKEN: NVRTC compiles nothing" in out and "\n  pip it\n" in out


def test_a_kernel_that_computes_something_else_is_broken(whole, capsys, monkeypatch):
    def one_spike_more(*arguments):
        s, last, traces = doctor.reference(*arguments)
        flipped = torch.zeros_like(s)
        flipped[3, 1, 7] = 1.0
        return (s - flipped).abs(), last, traces

    monkeypatch.setattr(doctor, "scan", one_spike_more)
    monkeypatch.setattr(doctor, "path", lambda *_: "cpu")
    status, out = examine(capsys)
    tested = out[out.index("Compiled kernels") :]
    assert status == 1 and "BROKEN: 1 of 1350 spikes differ" in line(tested, "scan on cpu")


def test_a_kernel_that_divides_wrongly_is_broken(whole, capsys, monkeypatch):
    def inexact(neuron, x, state):
        s, last, traces = doctor.reference(neuron, x, state)
        return s, {"v": last["v"] * (1.0 + 1e-6 * (neuron.tau == 3.7))}, traces

    monkeypatch.setattr(doctor, "scan", inexact)
    monkeypatch.setattr(doctor, "path", lambda *_: "cpu")
    status, out = examine(capsys)
    assert status == 1 and "or states do" in line(out[out.index("Compiled kernels") :], "scan on cpu")


def test_a_wrong_gradient_and_an_error_in_the_trial_are_broken(whole, capsys, monkeypatch):
    def steeper(neuron, x, state):
        return doctor.reference(neuron, x + 0.001 * (x - x.detach()), state)

    def failing(*_, **__):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS\nand more")

    monkeypatch.setattr(doctor, "scan", steeper)
    monkeypatch.setattr(doctor, "path", lambda *_: "cpu")
    monkeypatch.setattr(doctor.delay, "delay_kernel", failing)
    monkeypatch.setattr(doctor.delay, "path", lambda *_: "cpu")
    status, out = examine(capsys)
    tested = out[out.index("Compiled kernels") :]
    assert status == 1 and "differ by 1.0e-03, relative" in line(tested, "scan on cpu")
    assert line(tested, "delay_kernel on cpu").endswith("BROKEN: RuntimeError: CUDA_ERROR_ILLEGAL_ADDRESS")


# The compiler and the cache are asked once a process: these take their own.


def run(*, expect: int, **environment: str) -> str:
    command = [sys.executable, "-m", "snnkit", "doctor"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.stderr == ""
    assert process.returncode == expect, process.stdout
    return process.stdout


def test_without_a_compiler_and_with_a_cache_that_cannot_be_written_both_are_named_and_nothing_is_broken(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    out = run(expect=0, PATH=str(tmp_path), CXX="", SNNKIT_CACHE=str(blocked))
    assert "no C++ compiler works (g++: not found" in line(out, "C++ compiler")
    assert "reference (cpu: no C++ compiler" in line(out[out.index("What runs") :], "scan on cpu")
    assert f"{blocked} cannot be written" in line(out, "cache")
    assert f"\n  {cpu.REMEDY}\n  export SNNKIT_CACHE=" in out


def test_a_compiler_that_refuses_everything_is_broken(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text('#!/bin/sh\necho "cannot find crt1.o" >&2; exit 1\n')
    broken.chmod(0o755)
    out = run(expect=1, PATH=str(tmp_path), CXX=str(broken), SNNKIT_CACHE=str(tmp_path))
    assert "BROKEN" in line(out, "C++ compiler") and "cannot find crt1.o" in line(out, "C++ compiler")


def test_help_says_what_the_exit_status_means(capsys):
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "Exit status: 0" in " ".join(capsys.readouterr().out.split())


def test_a_torch_without_cuda_and_without_gpu_is_no_fault(capsys, monkeypatch):
    torch_for_cuda(monkeypatch, None)
    monkeypatch.setattr(cuda, "cupy_trouble", lambda: cuda.Trouble("cupy is not installed", "pip it", absent=True))
    monkeypatch.setattr(cuda, "nvrtc_trouble", lambda: cuda.Trouble("NVRTC does not load", "pip it", absent=True))
    status, out = examine(capsys)
    assert status == 0 and "built without CUDA" in line(out, "torch")
