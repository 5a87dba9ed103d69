"""What there is to compute with on this machine, whether it works, and the line that mends what does not.

``python -m snnkit doctor`` prints it. Broken is what is installed and fails, and a GPU that cannot be used for want of
a part; a part that is absent and not needed is no fault.
"""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from snnkit import __version__
from snnkit.equations import LIF
from snnkit.ops import cache, cpu, cuda, delay, delayed_sum, nvrtc, path, recurrent, scan
from snnkit.ops.reference import reference


class Finding(NamedTuple):
    """One line of the report."""

    name: str
    found: str
    remedy: str = ""  # the line that mends it; none where nothing is to be mended
    broken: bool = False


def report() -> int:
    """Print what was found; returns 1 if something is broken, else 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a refusal warns, and here it is printed
        print(f"snnkit {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
        found = _printed(parts())
        print("\nWhat runs where")
        _printed(paths())
        print("\nCompiled kernels against the reference")
        found += _printed(self_test())
    remedies = dict.fromkeys(finding.remedy for finding in found if finding.remedy)
    print("\nTo mend it" if remedies else "\nNothing to mend.")
    for remedy in remedies:
        print(f"  {remedy}")
    return int(any(finding.broken for finding in found))


def _printed(findings: Iterable[Finding]) -> list[Finding]:
    printed = []
    for finding in findings:
        print(f"  {finding.name:<32}{'BROKEN: ' if finding.broken else ''}{finding.found}", flush=True)
        printed.append(finding)
    return printed


def parts() -> Iterator[Finding]:
    """What is installed, where, and whether it fits together."""
    made = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    yield Finding("torch", f"{torch.__version__}, built {made}, {Path(torch.__file__).parent}")
    yield _cupy()
    yield _driver()
    yield _nvrtc()
    yield _compiler()
    yield _cache()
    yield from _gpus()


def _driver_gpus() -> int:
    """GPUs that the driver shows, whether PyTorch takes them or not."""
    there = cuda.driver()
    return there.gpus if there else 0


def _gpu_part(name: str, trouble: cuda.Trouble) -> Finding:
    """A part that only GPUs need: broken where it is installed and fails, or where a GPU waits for it."""
    if trouble.absent and not _driver_gpus():
        return Finding(name, f"{trouble.what}; only GPUs need it")
    return Finding(name, trouble.what, trouble.remedy, broken=True)


def _cupy() -> Finding:
    major = cuda.cuda_major()
    wheels = cuda.cupy_wheels()
    if len(wheels) > 1:
        remedy = f"pip uninstall -y {' '.join(wheels)} && pip install cupy-cuda{major}x"
        return Finding("cupy", f"installed more than once: {', '.join(wheels)}", remedy, broken=True)
    trouble = cuda.cupy_trouble()
    if trouble is not None:
        return _gpu_part("cupy", trouble)
    import cupy
    from cupy_backends.cuda.api import driver

    built = cuda.cuda_version(driver.get_build_version())
    return Finding("cupy", f"{cupy.__version__}, built for CUDA {built}, {Path(cupy.__file__).parent}")


def _driver() -> Finding:
    there = cuda.driver()
    if there is None:
        return Finding("driver", "none: no NVIDIA GPU here, or its driver is not installed")
    found = f"knows CUDA {there.version}"
    with suppress(OSError):
        version = re.search(r"\d+\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text())
        found = f"{version[0] if version else 'of unknown version'}, {found}"
    if there.error:
        remedy = "restart the machine; if that does not help, install NVIDIA's driver again, all parts of one version"
        return Finding("driver", f"{found}, and does not start: {there.error}", remedy, broken=True)
    return Finding("driver", found)


def _nvrtc() -> Finding:
    trouble = cuda.nvrtc_trouble()
    if trouble is not None:
        return _gpu_part("NVRTC", trouble)
    return Finding("NVRTC", f"{nvrtc.version()}, {nvrtc.place()}")


def _compiler() -> Finding:
    try:
        by = cpu.compiler()
    except cpu.NoCompiler as error:
        installed = any(shutil.which(shlex.split(command)[0]) for command in cpu.candidates())
        return Finding("C++ compiler", str(error).removesuffix(f": {cpu.REMEDY}"), cpu.REMEDY, broken=installed)
    return Finding("C++ compiler", f"{by.version}: {' '.join((*by.command, *by.flags, *cpu.REQUIRED))}")


def _cache() -> Finding:
    place = cache.root().resolve()
    if cache.folder("cpu").parent == place:
        return Finding("cache", f"{place}, writable")
    found = f"{place} cannot be written: each process compiles its kernels again"
    return Finding("cache", found, "export SNNKIT_CACHE=a/folder/that/can/be/written")


def devices() -> list[torch.device]:
    """The CPU, and the GPUs that PyTorch takes."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.device("cpu"), *(torch.device("cuda", k) for k in range(count))]


def _gpus() -> Iterator[Finding]:
    taken, there = devices()[1:], cuda.driver()
    if there is not None and there.gpus > len(taken):
        needs = torch.version.cuda or "none"
        found = f"the driver shows {there.gpus}, PyTorch takes {len(taken)}: it is built for CUDA {needs}"
        remedy = f"install a PyTorch built for CUDA {there.version} (pytorch.org/get-started), or a newer driver"
        yield Finding("GPU", found, remedy, broken=True)
    elif not taken:
        yield Finding("GPU", "none")
    for device in taken:
        p, trouble = torch.cuda.get_device_properties(device), cuda.trouble(device.index)
        found = f"{p.name}, {p.total_memory / 2**30:.0f} GiB, {cuda.architecture(device.index)}"
        if trouble is None:
            yield Finding(str(device), found)
        else:
            yield Finding(str(device), f"{found}: {trouble.what}", trouble.remedy, broken=True)


class Op(NamedTuple):
    """An op that has several forms: which one runs on a device, and a small trial of the compiled one."""

    name: str
    path: Callable[[torch.device], str]
    trial: Callable[[torch.device], str] | None  # what differs from the reference; nothing if all is equal


def paths() -> Iterator[Finding]:
    """Which implementation each op takes on each device, and why."""
    for device in devices():
        for op in OPS:
            yield Finding(f"{op.name} on {device}", op.path(device))


def self_test() -> Iterator[Finding]:
    """Run each compiled form once, forwards and backwards, and compare."""
    for device in devices():
        for op in OPS:
            if op.trial is None or op.path(device).startswith("reference"):
                continue
            name, begin = f"{op.name} on {device}", time.perf_counter()
            try:
                different = op.trial(device)
            except Exception as error:  # whatever a compiler or a driver raises
                different = cuda.said_by(error)
            if different:
                yield Finding(name, different, "report this page as an issue of snnkit", broken=True)
            else:
                yield Finding(name, f"equal, {time.perf_counter() - begin:.1f} s")


def _scan_trial(device: torch.device) -> str:
    # Kernels multiply where tau is a power of two, and divide where it is not.
    return _same_as_reference(LIF(tau=2.0), device) or _same_as_reference(LIF(tau=3.7), device)


def _same_as_reference(neuron: LIF, device: torch.device) -> str:
    noise = torch.Generator().manual_seed(0)
    start = (3 * torch.rand(9, 3, 50, generator=noise)).to(device)
    weight = torch.rand(9, 3, 50, generator=noise).to(device)
    results = []
    for run in (scan, reference):
        x = start.clone().requires_grad_()
        s, last, _ = run(neuron, x, {"v": torch.zeros_like(start[0])})
        results.append((s, last["v"], *torch.autograd.grad((weight * s).sum() + last["v"].sum(), [x])))
    (s, v, g), (expected_s, expected_v, expected_g) = results
    if not 0 < expected_s.mean() < 1:
        return "the trial's neurons fire always or never"
    if not (torch.equal(s, expected_s) and torch.equal(v, expected_v)):
        return f"{int((s != expected_s).sum())} of {s.numel()} spikes differ from the reference, or states do"
    return _far([g], [expected_g])


def _delay_trial(device: torch.device) -> str:
    noise, profile = torch.Generator().manual_seed(0), delay.Gauss()
    start = [torch.rand(6, 5, 2, generator=noise).to(device) for _ in range(3)]
    weight = torch.rand(6, 5, 9, generator=noise).to(device)
    results = []
    for run in (delay.delay_kernel, delay.reference):
        inputs = [x.clone().requires_grad_() for x in start]
        h = run(*inputs, size=9, profile=profile)
        results.append([h, *torch.autograd.grad((weight * h).sum(), inputs)])
    return _far(*results)


def _far(got: Sequence[Tensor], expected: Sequence[Tensor]) -> str:
    """Say so if tensors differ by more than some hundred roundings of float32, relative to their norm."""
    errors = [((a - b).norm() / b.norm()).item() for a, b in zip(got, expected, strict=True)]
    return "" if all(error < 1e-5 for error in errors) else f"gradients or values differ by {max(errors):.1e}, relative"


def _sum_path(device: torch.device) -> str:
    x, kernel = (torch.zeros(1, 1, 1, device=device).expand(shape) for shape in ((100, 128, 512), (512, 512, 31)))
    return delayed_sum.path(x, kernel)


OPS = (
    Op("scan", lambda device: path(LIF(), torch.zeros(1, 1, 1, device=device)), _scan_trial),
    Op("delay_kernel", lambda d: delay.path(torch.zeros(1, 1, 1, device=d), delay.Gauss()), _delay_trial),
    Op("delayed_sum 512x512x31", _sum_path, None),
    Op("recurrent_scan", lambda device: recurrent.path(torch.zeros(1, 1, 1, device=device)), None),
)
"""The ops under test; a new op with a compiled form adds its line."""
