"""The CUDA texts of the scan run on the CPU: a launch is a loop over blocks and threads, by the machine's C++ compiler.

What only a GPU has is put in front of the text: its words, its types, and for the few PTX instructions the same in C++.
Threads run from the last to the first, so that thread 0, which writes a block's sums, sees those of all.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from snnkit.ops import cpu, cuda, scan_cuda, scan_operator

_WORDS = r"""
#include <math.h>
#include <string.h>
#define __CUDACC__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static
#define SNN_INLINE static inline __attribute__((always_inline))
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct Index { unsigned x; };
static Index blockIdx, threadIdx, gridDim;
static uint4 memory[(48 << 10) / 16];  // of a block
static double totals[64];
static int outside;  // addresses that were asked for and are none of x or g_s
static int position_of_total;
static inline int __float_as_int(float a) { int b; memcpy(&b, &a, 4); return b; }
static inline unsigned __float_as_uint(float a) { unsigned b; memcpy(&b, &a, 4); return b; }
static inline float __int_as_float(int a) { float b; memcpy(&b, &a, 4); return b; }
static inline long long __double_as_longlong(double a) { long long b; memcpy(&b, &a, 8); return b; }
static inline double __longlong_as_double(long long a) { double b; memcpy(&b, &a, 8); return b; }
static inline float __double2float_rz(double a) { float b = (float)a; return fabs(b) > fabs(a) ? nextafterf(b, 0) : b; }
#define __expf expf
"""
_INSTRUCTIONS = {
    r'asm\("rcp\.approx\.ftz\.f32 %0, %1;" : "=f"\(r\) : "f"\(a\)\);': "r = 1.0f / a;",
    r'asm\("cvt\.f32\.f16 %0, %1;" : "=f"\(r\) : "h"\(a\.bits\)\);': "_Float16 h; memcpy(&h, &a.bits, 2); r = h;",
    r'asm\("cvt\.rn\.f16\.f32 %0, %1;" : "=h"\(to\.bits\) : "f"\(a\)\);': "_Float16 h = a; memcpy(&to.bits, &h, 2);",
    r'asm volatile\("prefetch\.global\.L2.*?\);': (
        "{ const io *const q = from + lane + ahead;"
        " if ((q < a.x || q >= a.x + (a.steps - 1) * a.x_step + a.lanes)"
        " && (q < a.g_s || q >= a.g_s + (a.steps - 1) * a.g_step + a.lanes)) outside++; }"
    ),
    r"typedef long long int64_t;": "",
    r"extern __shared__ uint4 memory\[\];": "",
    r"(?s)// The sum over a block's threads.*?\n}\n": (
        "static double block_sum(double value) { return totals[position_of_total++] += value; }\n"
    ),
    r"#define (NAN|INFINITY|SNN_INLINE) .*": "",
}
_LAUNCH = """
extern "C" int launch(const Arguments *a, unsigned blocks) {{
  gridDim.x = blocks, outside = 0;
  for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {{
    memset(memory, 0xff, sizeof memory);  // NaN: nothing may be read that was not written
    memset(totals, 0, sizeof totals);
    for (int t = kThreads - 1; t >= 0; t--) {{
      threadIdx.x = t, position_of_total = 0;
      {name}(*a);
    }}
  }}
  return outside;
}}
"""


class Emulated:
    """In place of ``snnkit.ops.cuda.Function``."""

    def __init__(self, code: str, name: str, device: int) -> None:
        for pattern, replacement in _INSTRUCTIONS.items():
            code = re.sub(pattern, lambda _, text=replacement: text, code)
        assert "asm(" not in code.split("#if __CUDA_ARCH__ >= 800")[0], "an instruction has no C++ form here"
        self.launch = cpu.library(_WORDS + code + _LAUNCH.format(name=name), "-O1").launch
        self.launch.argtypes = [ctypes.c_char_p, ctypes.c_uint]

    def __call__(self, blocks: int, threads: int, shared: int, arguments: bytes) -> None:
        assert shared <= 46 << 10
        assert self.launch(arguments, blocks) == 0, "a thread asked for what is no input"


@contextmanager
def emulated_cuda() -> Iterator[None]:
    """Inside, ``scan`` of CPU tensors takes the CUDA kernels, except on the short way of simple calls."""
    with (
        mock.patch.object(scan_cuda, "Function", Emulated),
        mock.patch.object(scan_cuda, "_kernels", {}),
        mock.patch.object(cuda, "multiprocessors", lambda device: 3),
        mock.patch.object(scan_operator, "implementation", lambda x: scan_cuda),
    ):
        yield
