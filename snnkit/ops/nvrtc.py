"""CUDA text to machine code, by NVRTC itself: the same path with and without a GPU.

PyTorch brings NVRTC. CuPy's own compile is no way: it always flushes subnormal numbers to zero, and spikes would differ
from the CPU's. The texts include nothing, so no headers are needed.
"""

from __future__ import annotations

import ctypes
import functools
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from snnkit.ops.cache import kept

# Without --fmad=false multiply and add fuse, and spikes differ from the reference: not to be dropped.
FLAGS = ("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")


class NoNVRTC(RuntimeError):
    """NVRTC was not found or does not load; the message says what was tried and the remedy."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: {remedy()}")
        self.what = what


def cubin(code: str, architecture: str) -> Path:
    """Compile CUDA text for an architecture such as ``sm_90``, or take it from the cache.

    Raises:
        NoNVRTC: there is no NVRTC.
        RuntimeError: it refused the text; its first errors are shown.
    """

    def build(text: Path, made: Path) -> None:
        made.write_bytes(compiled(code, architecture))

    return kept("cuda", (code, architecture, *FLAGS, version()), ".cubin", ("code.cu", code), build)


def version() -> str:
    """Version of NVRTC, such as ``13.0``.

    Raises:
        NoNVRTC: there is none.
    """
    major, minor = ctypes.c_int(), ctypes.c_int()
    library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded NVRTC: of the CUDA packages that PyTorch brings, else of the system.

    Raises:
        NoNVRTC: there is none.
    """
    tried = []
    for name in _candidates():
        try:
            loaded = ctypes.CDLL(name)
        except OSError as error:
            tried.append(f"{name}: {error}")
            continue
        loaded.nvrtcGetErrorString.restype = ctypes.c_char_p
        return loaded
    raise NoNVRTC(f"NVRTC does not load ({'; '.join(tried[:3])})")


def place() -> Path:
    """The file of the loaded NVRTC; its bare name where the system does not say.

    Raises:
        NoNVRTC: there is none.
    """
    named = Path(library()._name)
    if not named.is_absolute():
        with suppress(OSError):
            files = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
            return next((Path(file) for file in sorted(files) if f"/{named.name}" in file), named)
    return named


def remedy() -> str:
    """The line that installs the NVRTC of this PyTorch's CUDA."""
    import torch

    version = torch.version.cuda or "13.0"
    package = "nvidia-cuda-nvrtc" + ("-cu12" if version.startswith("12.") else "")
    return f'pip install "{package}=={version}.*"'


def _candidates() -> list[str]:
    import torch

    major = (torch.version.cuda or "13").split(".")[0]
    found = []
    for package in ("nvidia-cuda-nvrtc", f"nvidia-cuda-nvrtc-cu{major}"):
        with suppress(metadata.PackageNotFoundError):
            files = metadata.files(package) or []
            found += [str(f.locate()) for f in files if f.name == f"libnvrtc.so.{major}"]
    return [*found, f"libnvrtc.so.{major}", f"/usr/local/cuda/lib64/libnvrtc.so.{major}"]


def compiled(code: str, architecture: str) -> bytes:
    """Compile CUDA text for an architecture, now; raises as ``cubin``. For ``compute_90`` and kin, text of PTX."""
    nvrtc, flags = library(), (f"--gpu-architecture={architecture}", *FLAGS)

    def check(status: int) -> None:
        if status:
            raise RuntimeError(f"NVRTC: {nvrtc.nvrtcGetErrorString(status).decode()}")

    program = ctypes.c_void_p()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"code.cu", 0, None, None))
    try:
        options = (ctypes.c_char_p * len(flags))(*[flag.encode() for flag in flags])
        if nvrtc.nvrtcCompileProgram(program, len(flags), options):
            lines = _read(nvrtc, "ProgramLog", program).decode(errors="replace").strip("\0").splitlines()
            errors = [line for line in lines if "error" in line] or lines or ["it does not say why"]
            raise RuntimeError("\n  ".join([f"NVRTC refused the text: {errors[0]}", *errors[1:5]]))
        return _read(nvrtc, "PTX" if architecture.startswith("compute_") else "CUBIN", program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw
