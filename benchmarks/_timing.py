"""What the benchmarks share: interleaved best-of-N, warm memory, and the line that says where the numbers come from."""

import ctypes
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_memory_warm() -> bool:
    """Ask glibc to hand freed memory out again instead of returning it, so that no step pays for fresh pages."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def best(
    steps: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Best time of each step in seconds; the steps take turns, so that other load meets all of them."""
    found = dict.fromkeys(steps, math.inf)
    for _ in range(rounds):
        for name, step in steps.items():
            begin = clock()
            step()
            found[name] = min(found[name], clock() - begin)
    return found


def machine() -> str:
    """Versions, threads, processor and load: without them a time says nothing."""
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"load average {os.getloadavg()[0]:.1f}"
    )
