"""CUDA text to a function that can be launched: compiled by NVRTC, loaded and launched through CuPy, on torch's terms.

A launch goes to torch's current stream of the tensor's device and takes its memory from torch, so that side streams and
CUDA graphs see it as one of torch's own. A kernel takes one structure, packed as bytes.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import threading
import warnings

import torch

from snnkit.ops import nvrtc

_PROBE = """extern "C" __global__ void probe(const __grid_constant__ struct { int *to; } a) { *a.to = 42; }"""
_MOST_ARGUMENTS = 4096  # bytes, CUDA's own limit


class Function:
    """A kernel on one device.

    Args:
        code: CUDA text with ``extern "C" __global__`` functions of one structure each.
        name: the function's name.
        device: number of the GPU.
    """

    def __init__(self, code: str, name: str, device: int) -> None:
        from cupy.cuda.function import Module
        from cupy_backends.cuda.api import driver

        image = nvrtc.cubin(code, architecture(device)).read_bytes()
        with torch.cuda.device(device):
            self._module = Module()
            self._module.load(image)
            self._function = driver.moduleGetFunction(self._module.ptr, name)
        self._launch, self.device = driver.launchKernel, device

    def __call__(self, blocks: int, threads: int, shared: int, arguments: bytes) -> None:
        """Launch on torch's current stream of the device.

        Args:
            blocks: number of blocks; none is no launch.
            threads: threads of a block.
            shared: bytes of dynamic shared memory of a block.
            arguments: the kernel's structure.
        """
        if blocks == 0:
            return
        if torch._C._cuda_getDevice() != self.device:
            with torch.cuda.device(self.device):
                self(blocks, threads, shared, arguments)
            return
        stream = torch._C._cuda_getCurrentRawStream(self.device)
        table = _table(arguments)
        self._launch(self._function, blocks, 1, 1, threads, 1, 1, shared, stream, table, 0)


class _Block(threading.local):
    """A thread's memory for arguments: a launch copies them before it returns."""

    def __init__(self) -> None:
        self.memory = ctypes.create_string_buffer(_MOST_ARGUMENTS)
        self.address = ctypes.addressof(self.memory)
        self.pointers = (ctypes.c_void_p * 1)(self.address)
        self.table = ctypes.addressof(self.pointers)


_block = _Block()


def _table(arguments: bytes) -> int:
    """Address of the table of arguments, as a launch wants it."""
    if len(arguments) > _MOST_ARGUMENTS:
        raise ValueError(f"a kernel takes {_MOST_ARGUMENTS} bytes of arguments, got {len(arguments)}")
    ctypes.memmove(_block.address, arguments, len(arguments))
    return _block.table


@functools.cache
def architecture(device: int) -> str:
    """Architecture of a GPU, such as ``sm_90``."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def refusal(device: int) -> str | None:
    """Say in one line why no kernel of ours runs on a GPU, with the remedy; None if they run.

    The first refusal of a process is a warning, too.
    """
    reason = _refusals.get(device, "")
    if reason == "":
        reason = _refusals[device] = _reason(device)
        if reason is not None and sum(r is not None for r in _refusals.values()) == 1:
            warnings.warn(f"{reason}. Until then the slower PyTorch form runs.", RuntimeWarning, stacklevel=4)
    return reason


_refusals: dict[int, str | None] = {}


def _reason(device: int) -> str | None:
    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA"
    major = torch.version.cuda.split(".")[0]
    remedy = f"pip install cupy-cuda{major}x"
    try:
        from cupy_backends.cuda.api import driver

        built = str(driver.get_build_version() // 1000)
    except Exception as error:  # whatever a broken installation raises
        return f"cupy does not import ({type(error).__name__}: {_first_line(error)}): {remedy}"
    if built != major:
        return (
            f"cupy was made for CUDA {built}, PyTorch for CUDA {torch.version.cuda}: "
            f"pip uninstall cupy-cuda{built}x && {remedy}"
        )
    try:
        found = torch.zeros(1, dtype=torch.int32, device=f"cuda:{device}")
        Function(_PROBE, "probe", device)(1, 1, 0, struct.pack("q", found.data_ptr()))
        if found.item() != 42:
            return "a kernel of one line ran and wrote nothing: see python -m snnkit doctor"
    except Exception as error:
        return (
            f"a kernel of one line fails ({type(error).__name__}: {_first_line(error)}); PyTorch has CUDA "
            f"{torch.version.cuda}, cupy CUDA {built}, the driver CUDA {_driver_version()}: {remedy}, or a newer driver"
        )
    return None


def _driver_version() -> str:
    try:
        from cupy_backends.cuda.api import runtime

        version = runtime.driverGetVersion()
        return f"{version // 1000}.{version % 1000 // 10}"
    except Exception:
        return "unknown"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
