"""What the benchmarks share: times of steps that take turns, copy bandwidth, and where the numbers come from.

On the CPU the best of N counts, since other load only adds. On a GPU it is the median of N, between events of the
device; ``graphed`` makes a step a CUDA graph, whose time is the device's alone, without Python's gaps.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)
Step = Callable[[], Any]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_memory_warm() -> bool:
    """Ask glibc to hand freed memory out again instead of returning it, so that no step pays for fresh pages."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def best(
    steps: Mapping[Name, Step], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Name, float]:
    """Best time of each step in seconds; the steps take turns, so that other load meets all of them."""
    found = dict.fromkeys(steps, math.inf)
    for _ in range(rounds):
        for name, step in steps.items():
            begin = clock()
            step()
            found[name] = min(found[name], clock() - begin)
    return found


def medians(steps: Mapping[Name, Step], rounds: int, device: torch.device) -> dict[Name, float]:
    """Median time of each step in seconds on a GPU; the steps take turns."""
    pairs: dict[Name, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in steps}
    with torch.cuda.device(device):
        for _ in range(rounds):
            for name, step in steps.items():
                begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                begin.record()
                step()
                end.record()
                pairs[name].append((begin, end))
        torch.cuda.synchronize()
    return {name: 1e-3 * statistics.median(a.elapsed_time(b) for a, b in found) for name, found in pairs.items()}


def measure(steps: Mapping[Name, Step], rounds: int, device: torch.device, warm: int = 3) -> dict[Name, float]:
    """``medians`` on a GPU, ``best`` on the CPU, after some calls that do not count."""
    for step in steps.values():
        for _ in range(warm):
            step()
    return medians(steps, rounds, device) if device.type == "cuda" else best(steps, rounds)


def graphed(step: Step, device: torch.device) -> Step:
    """Capture a step as a CUDA graph and return its replay.

    The calls before the capture run on the stream that is captured, so that a step may keep what it made in the first;
    the replay reads that memory, so it keeps the step.
    """
    with torch.cuda.device(device):
        stream, here = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        here.wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            returned = step()

    def replay(kept: Any = (step, returned)) -> None:
        graph.replay()

    return replay


def copy_rate(device: torch.device, size: int = 2**30, rounds: int = 20) -> float:
    """Bytes a second of a large copy within the device's memory, read and written."""
    source = torch.randint(-128, 127, (size,), dtype=torch.int8, device=device)  # not zeros: they may be faster
    target = torch.empty_like(source)
    return 2 * size / measure({"copy": lambda: target.copy_(source)}, rounds, device)["copy"]


def devices(wanted: str) -> list[torch.device]:
    """The CPU, and one of each kind of GPU; ``wanted`` is cpu, cuda or all."""
    found = [] if wanted == "cuda" else [torch.device("cpu")]
    if wanted != "cpu":
        kinds = {torch.cuda.get_device_name(i): i for i in reversed(range(torch.cuda.device_count()))}
        found += [torch.device("cuda", i) for i in sorted(kinds.values())]
    return found


def titled(device: torch.device) -> str:
    """A device's name, as it stands over a table."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    return f"cpu {name}"


def machine() -> str:
    """Versions, threads, processor and load: without them a time says nothing."""
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"load average {os.getloadavg()[0]:.1f}"
    )
