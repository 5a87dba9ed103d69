"""What keeps kernels from a GPU, told without one; and on GPUs, launches on streams and several devices."""

from __future__ import annotations

import struct
import threading
import types
import warnings

import pytest
import torch

import snnkit
from snnkit.equations import LIF
from snnkit.ops import cpu, cuda, nvrtc, path
from tests.hidden_parts import cupy_for_cuda, cupy_raises, torch_for_cuda
from tests.on_gpu import gpus
from tests.shared import needs_compiler

LOST = "libnvrtc.so.13: cannot open shared object file"


def refusal_and_warnings(device: int = 0) -> tuple[str, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reason = cuda.refusal(device)
    assert reason is not None and "\n" not in reason
    return reason, [str(w.message) for w in caught]


def test_an_import_error_of_cupy_is_shown_as_it_was_and_a_model_runs(monkeypatch):
    cupy_raises(monkeypatch, ImportError(LOST))
    reason, warned = refusal_and_warnings()
    assert reason == f"cupy does not import (ImportError: {LOST}): pip install --force-reinstall cupy-cuda13x"
    assert len(warned) == 1 and warned[0].startswith(reason) and "slower" in warned[0]
    like = {"dtype": torch.float32, "ndim": 3, "layout": torch.strided, "shape": (1, 1, 1)}
    there = types.SimpleNamespace(**like, device=torch.device("cuda:0"), get_device=lambda: 0)
    assert path(LIF(), there) == f"reference (cuda: {reason})"
    model = snnkit.create_model("delay_snn_shd", num_classes=5)
    assert model(torch.rand(4, 3, 140)).shape == (3, 5)


def test_the_error_below_cupys_own_page_of_advice_is_the_one_that_is_shown(monkeypatch):
    wrapped = ImportError("\n=====\nFailed to import CuPy.\n=====")
    wrapped.__cause__ = ImportError(LOST)
    cupy_raises(monkeypatch, wrapped)
    assert LOST in refusal_and_warnings()[0]


def test_the_reason_is_warned_of_once_a_process(monkeypatch):
    cupy_raises(monkeypatch, ImportError(LOST))
    first, warned = refusal_and_warnings(0)
    assert len(warned) == 1
    assert refusal_and_warnings(0) == (first, []) and refusal_and_warnings(1) == (first, [])


@pytest.mark.parametrize("version, wheel", [("12.8", "cupy-cuda12x"), ("13.0", "cupy-cuda13x")])
def test_without_cupy_the_wheel_of_torchs_cuda_is_named(version, wheel, monkeypatch):
    cupy_raises(monkeypatch, ModuleNotFoundError("No module named 'cupy'", name="cupy"), version)
    trouble = cuda.installation_trouble()
    assert trouble.absent and trouble.remedy == f"pip install {wheel}"
    assert trouble.what == "cupy is not installed (ModuleNotFoundError: No module named 'cupy')"


def test_a_package_that_cupy_misses_is_not_taken_for_cupy_itself(monkeypatch):
    cupy_raises(monkeypatch, ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock"))
    trouble = cuda.installation_trouble()
    assert not trouble.absent and "fastrlock" in trouble.what


@pytest.mark.parametrize("built, version", [(12090, "13.0"), (13020, "12.8")])
def test_a_cupy_for_another_cuda_is_refused_with_both_versions_and_the_wheel_that_fits(built, version, monkeypatch):
    cupy_for_cuda(monkeypatch, built, version)
    reason, _ = refusal_and_warnings()
    one, other = built // 1000, version[:2]
    assert f"cupy was made for CUDA {one}." in reason and f"PyTorch for CUDA {version}" in reason
    assert reason.endswith(f"pip uninstall -y cupy-cuda{one}x && pip install cupy-cuda{other}x")


def test_a_torch_without_cuda_is_named_before_all_else(monkeypatch):
    torch_for_cuda(monkeypatch, None)
    assert refusal_and_warnings()[0].startswith("this PyTorch was built without CUDA")


def test_without_nvrtc_what_was_tried_and_the_package_are_named(monkeypatch):
    cupy_for_cuda(monkeypatch, 13020)
    monkeypatch.setattr(nvrtc, "_candidates", lambda: ["libnowhere.so.13"])
    nvrtc.library.cache_clear()
    try:
        reason, _ = refusal_and_warnings()
    finally:
        nvrtc.library.cache_clear()
    assert reason.startswith("NVRTC does not load (libnowhere.so.13: ") and 'install "nvidia-cuda-nvrtc==13.0' in reason


def test_an_nvrtc_that_fails_is_named_with_its_own_words(monkeypatch):
    def broken(*_: str) -> bytes:
        raise RuntimeError("NVRTC refused the text: nvrtc: error: failed to open libnvrtc-builtins.so.13.0")

    cupy_for_cuda(monkeypatch, 13020)
    monkeypatch.setattr(nvrtc, "compiled", broken)
    assert "libnvrtc-builtins" in refusal_and_warnings()[0]


def test_a_driver_that_runs_no_kernel_is_named_with_all_versions(monkeypatch):
    def refusing(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")

    cupy_for_cuda(monkeypatch, 13020)
    monkeypatch.setattr(cuda, "nvrtc_trouble", lambda: None)
    monkeypatch.setattr(nvrtc, "version", lambda: "13.0")
    monkeypatch.setattr(cuda, "driver", lambda: cuda.Driver("12.4", 1))
    monkeypatch.setattr(torch, "zeros", refusing)
    reason, _ = refusal_and_warnings()
    assert "UNSUPPORTED_PTX" in reason and reason.endswith("a newer driver, or a PyTorch and cupy for its CUDA (12.4)")
    assert "PyTorch has CUDA 13.0, cupy 13.2, NVRTC 13.0, the driver 12.4" in reason


def test_while_a_graph_is_captured_nothing_waits_for_the_gpu_and_nothing_is_concluded(monkeypatch):
    cupy_for_cuda(monkeypatch, 13020)
    monkeypatch.setattr(cuda, "nvrtc_trouble", lambda: None)
    monkeypatch.setattr(cuda, "_probe_trouble", lambda device: cuda.Trouble("no kernel runs", "mend it"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert cuda.refusal(0) is None
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert refusal_and_warnings()[0] == "no kernel runs: mend it"


def test_a_structure_of_arguments_larger_than_cuda_takes_is_refused():
    with pytest.raises(ValueError, match="4096 bytes of arguments, got 5000"):
        cuda._table(bytes(5000))


FILL = """
struct Arguments { int *to; int value, count; };
extern "C" __global__ void fill(const __grid_constant__ Arguments a) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < a.count) a.to[i] = a.value;
}
"""


def fill(function: cuda.Function, to: torch.Tensor, value: int) -> None:
    function(-(-to.numel() // 64), 64, 0, struct.pack("qii", to.data_ptr(), value, to.numel()))


@gpus(1)
def test_kernels_run_on_every_gpu_that_is_there():
    for device in range(torch.cuda.device_count()):
        assert cuda.refusal(device) is None


@gpus(1)
def test_a_launch_goes_to_the_current_stream_and_into_a_captured_graph():
    function, to = cuda.Function(FILL, "fill", 0), torch.zeros(100, dtype=torch.int32, device="cuda:0")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        fill(function, to, 7)
    assert not to.any()  # captured, not run
    graph.replay()
    assert (to == 7).all()


@gpus(1)
def test_a_thread_that_never_used_the_gpu_can_launch():
    function, to = cuda.Function(FILL, "fill", 0), torch.zeros(100, dtype=torch.int32, device="cuda:0")
    torch.cuda.synchronize()
    raised: list[BaseException] = []

    def launch() -> None:
        try:
            fill(function, to, 9)  # the thread's first word to the GPU
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=launch)
    thread.start()
    thread.join()
    torch.cuda.synchronize()
    assert not raised and (to == 9).all()


@gpus(1)
def test_no_block_is_no_launch():
    cuda.Function(FILL, "fill", 0)(0, 64, 0, struct.pack("qii", 0, 1, 10))
    torch.cuda.synchronize()


@gpus(2)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_kernel_runs_on_its_own_device_whichever_is_current(order):
    for current in order:
        with torch.cuda.device(current):
            for device in order:
                to = torch.zeros(100, dtype=torch.int32, device=f"cuda:{device}")
                fill(cuda.Function(FILL, "fill", device), to, 3 + device)
                assert (to == 3 + device).all() and torch.cuda.current_device() == current


@needs_compiler
@pytest.mark.parametrize("status, error", [(100, ""), (804, "CUDA_ERROR_MADE"), (802, "CUDA error 802")])
def test_a_driver_whose_start_fails_says_why_and_one_without_gpus_is_none(status, error, monkeypatch):
    code = f"""extern "C" int cuDriverGetVersion(int *v) {{ *v = 13000; return 0; }}
        extern "C" int cuInit(unsigned) {{ return {status}; }}
        extern "C" int cuGetErrorName(int e, const char **s) {{ if (e == 804) *s = "CUDA_ERROR_MADE"; return 0; }}"""
    made = cpu.library(code)
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: made)
    cuda.driver.cache_clear()
    try:
        assert cuda.driver() == cuda.Driver("13.0", 0, error)
    finally:
        cuda.driver.cache_clear()
