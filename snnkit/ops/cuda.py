"""CUDA text to a function that can be launched: compiled by NVRTC, loaded and launched through CuPy, on torch's terms.

A launch goes to torch's current stream of the tensor's device and takes its memory from torch, so that side streams and
CUDA graphs see it as one of torch's own. A kernel takes one structure, packed as bytes.
"""

from __future__ import annotations

import ctypes
import functools
import re
import struct
import threading
import warnings
from importlib import metadata
from typing import NamedTuple

import torch

from snnkit.ops import nvrtc

_PROBE = """
struct Arguments { int *to; };
extern "C" __global__ void probe(const __grid_constant__ Arguments a) { *a.to = 42; }
"""
_MOST_ARGUMENTS = 4096  # bytes, CUDA's own limit
_COOPERATIVE_LAUNCH = 95  # cudaDevAttrCooperativeLaunch


class Function:
    """A kernel on one device.

    Args:
        code: CUDA text with ``extern "C" __global__`` functions of one structure each.
        name: the function's name.
        device: number of the GPU.
    """

    def __init__(self, code: str, name: str, device: int) -> None:
        from cupy.cuda.function import Module
        from cupy_backends.cuda.api import driver, runtime

        image = nvrtc.cubin(code, architecture(device)).read_bytes()
        with torch.cuda.device(device):
            self._module = Module()
            self._module.load(image)
            self._function = driver.moduleGetFunction(self._module.ptr, name)
        self._launch, self._bind, self.device = driver.launchKernel, runtime.setDevice, device
        self._launch_together = driver.launchCooperativeKernel

    def __call__(self, blocks: int, threads: int, shared: int, arguments: bytes, together: bool = False) -> None:
        """Launch on torch's current stream of the device.

        Args:
            blocks: number of blocks; none is no launch.
            threads: threads of a block.
            shared: bytes of dynamic shared memory of a block.
            arguments: the kernel's structure.
            together: run all blocks at once, so that they may wait for each other: not more than are ``resident``.
        """
        if blocks == 0:
            return
        if torch._C._cuda_getDevice() != self.device:
            with torch.cuda.device(self.device):
                self(blocks, threads, shared, arguments, together)
            return
        if self.device not in _block.bound:  # a thread that has not used the GPU yet has no context for a raw launch
            self._bind(self.device)
            _block.bound.add(self.device)
        stream = torch._C._cuda_getCurrentRawStream(self.device)
        table = _table(arguments)
        if together:
            self._launch_together(self._function, blocks, 1, 1, threads, 1, 1, shared, stream, table)
        else:
            self._launch(self._function, blocks, 1, 1, threads, 1, 1, shared, stream, table, 0)

    def resident(self, threads: int) -> int:
        """How many blocks of so many threads the GPU holds at once; 0 if it starts none of them together."""
        from cupy_backends.cuda.api import driver, runtime

        if not runtime.deviceGetAttribute(_COOPERATIVE_LAUNCH, self.device):
            return 0
        with torch.cuda.device(self.device):
            each = driver.occupancyMaxActiveBlocksPerMultiprocessor(self._function, threads, 0)
        return int(each) * multiprocessors(self.device)


class _Block(threading.local):
    """A thread's memory for arguments: a launch copies them before it returns."""

    def __init__(self) -> None:
        memory = ctypes.create_string_buffer(_MOST_ARGUMENTS)
        self.memory = memoryview(memory).cast("B")  # a slice of it is written in a third of ctypes.memmove's time
        self.pointers = (ctypes.c_void_p * 1)(ctypes.addressof(memory))
        self.table = ctypes.addressof(self.pointers)
        self.bound: set[int] = set()  # devices whose context this thread has


_block = _Block()


def _table(arguments: bytes) -> int:
    """Address of the table of arguments, as a launch wants it."""
    if len(arguments) > _MOST_ARGUMENTS:
        raise ValueError(f"a kernel takes {_MOST_ARGUMENTS} bytes of arguments, got {len(arguments)}")
    _block.memory[: len(arguments)] = arguments
    return _block.table


@functools.cache
def architecture(device: int) -> str:
    """Architecture of a GPU, such as ``sm_90``."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@functools.cache
def multiprocessors(device: int) -> int:
    """How many a GPU has."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


class Trouble(NamedTuple):
    """What keeps kernels from running, and the line that mends it."""

    what: str
    remedy: str
    absent: bool = False  # a part is not installed, and nothing is broken

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def refusal(device: int) -> str | None:
    """Say in one line why no kernel of ours runs on a GPU, with the remedy; None if they run.

    The first refusal of a process is a warning, too.
    """
    found = trouble(device)
    return None if found is None else str(found)


def trouble(device: int) -> Trouble | None:
    """What keeps our kernels from running on a GPU; None if they run. Asked of the machine once."""
    if device not in _troubles:
        found = installation_trouble()
        if found is None and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return None  # the probe waits for the GPU, which ends a capture; the next call asks
        found = _troubles[device] = found or _probe_trouble(device)
        if found is not None and sum(t is not None for t in _troubles.values()) == 1:
            warnings.warn(f"{found}. Until then the slower PyTorch form runs.", RuntimeWarning, stacklevel=5)
    return _troubles[device]


_troubles: dict[int, Trouble | None] = {}


def installation_trouble() -> Trouble | None:
    """Why no GPU at all could run our kernels, as far as it can be told without one; None if nothing is amiss."""
    if torch.version.cuda is None:
        return Trouble("this PyTorch was built without CUDA", "take one built for CUDA (pytorch.org/get-started)", True)
    return cupy_trouble() or nvrtc_trouble()


def cupy_trouble() -> Trouble | None:
    """What is amiss with CuPy, beside this PyTorch; None if they fit."""
    major = cuda_major()
    remedy = f"pip install cupy-cuda{major}x"
    try:
        import cupy.cuda.function  # noqa: F401
        from cupy_backends.cuda.api import driver

        built = driver.get_build_version()
    except Exception as error:  # whatever a broken installation raises
        said = said_by(error)
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return Trouble(f"cupy is not installed ({said})", remedy, True)
        return Trouble(f"cupy does not import ({said})", f"pip install --force-reinstall cupy-cuda{major}x")
    if torch.version.cuda is not None and str(built // 1000) != major:
        return Trouble(
            f"cupy was made for CUDA {cuda_version(built)}, PyTorch for CUDA {torch.version.cuda}",
            f"pip uninstall -y {' '.join(cupy_wheels()) or f'cupy-cuda{built // 1000}x'} && {remedy}",
        )
    return None


def cupy_wheels() -> list[str]:
    """The names under which CuPy is installed: one at most, if all is well."""
    return sorted({name for d in metadata.distributions() if re.match("cupy(-cuda|-rocm|$)", name := d.name or "")})


def nvrtc_trouble() -> Trouble | None:
    """Why NVRTC compiles nothing; None if it does."""
    try:
        nvrtc.compiled(_PROBE, "sm_80")
    except nvrtc.NoNVRTC as error:
        return Trouble(error.what, nvrtc.remedy(), True)
    except RuntimeError as error:
        return Trouble(f"NVRTC compiles nothing ({said_by(error)})", f"{nvrtc.remedy()} --force-reinstall")
    return None


def _probe_trouble(device: int) -> Trouble | None:
    """Why a kernel of one line does not run on the GPU; None if it does."""
    try:
        found = torch.zeros(1, dtype=torch.int32, device=f"cuda:{device}")
        Function(_PROBE, "probe", device)(1, 1, 0, struct.pack("q", found.data_ptr()))
        said = "" if found.item() == 42 else "it ran and wrote nothing"
    except Exception as error:
        said = said_by(error)
    if not said:
        return None
    from cupy_backends.cuda.api import driver as cupy_driver

    made, there = cuda_version(cupy_driver.get_build_version()), driver()
    knows = there.version if there else "unknown"
    return Trouble(
        f"a kernel of one line fails on cuda:{device} ({said}); PyTorch has CUDA {torch.version.cuda}, cupy {made}, "
        f"NVRTC {nvrtc.version()}, the driver {knows}",
        f"install a newer driver, or a PyTorch and cupy for its CUDA ({knows})",
    )


def cuda_major() -> str:
    """The major version of PyTorch's CUDA, such as ``13``."""
    return (torch.version.cuda or "13").split(".")[0]


def cuda_version(number: int) -> str:
    """CUDA's number for a version, as people write it.

    >>> cuda_version(13020)
    '13.2'
    """
    return f"{number // 1000}.{number % 1000 // 10}"


class Driver(NamedTuple):
    """NVIDIA's driver: the newest CUDA that it knows, such as ``13.0``, the number of GPUs that it shows, its error."""

    version: str
    gpus: int
    error: str = ""


_NO_DEVICE = 100  # of cuInit: the driver works, and there is no GPU, or none is to be seen


@functools.cache
def driver() -> Driver | None:
    """The driver of this machine, asked directly: PyTorch shows no GPU to a driver that it finds too old."""
    version, gpus = ctypes.c_int(), ctypes.c_int()
    try:
        there = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    there.cuDriverGetVersion(ctypes.byref(version))
    status = there.cuInit(0)
    if status == 0:
        there.cuDeviceGetCount(ctypes.byref(gpus))
    if status in (0, _NO_DEVICE):
        return Driver(cuda_version(version.value), gpus.value)
    said = ctypes.c_char_p()
    there.cuGetErrorName(status, ctypes.byref(said))
    return Driver(cuda_version(version.value), 0, (said.value or b"").decode() or f"CUDA error {status}")


def said_by(error: BaseException) -> str:
    """An error's kind and first line; of the first error where others were raised from it."""
    while error.__cause__ is not None:  # CuPy wraps an ImportError in twenty lines of advice
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
