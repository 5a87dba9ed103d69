"""CUDA texts whose threads wait for each other, on the CPU: each thread is a context that yields where it waits.

``cuda_on_cpu.py`` runs a thread to its end before the next begins. Here the threads of all blocks take turns; at each
turn some blocks, drawn anew, stand still, so that a block may be far ahead of another wherever nothing makes it wait.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from snnkit.ops import cpu, cuda, recurrent_cuda
from tests import cuda_on_cpu

_WORDS = """
#include <ucontext.h>
#include <algorithm>
#include <vector>
using std::min;
struct Barrier { unsigned count, generation; };
struct Thread { ucontext_t context; unsigned block, thread; bool done; };
static std::vector<Barrier> of_blocks, of_warps;
static std::vector<std::vector<uint4>> of_block;
static ucontext_t scheduler;
static Thread *running;
static void pause_thread() { swapcontext(&running->context, &scheduler); }
static void wait_at(Barrier &barrier, unsigned threads) {
  const unsigned here = barrier.generation;
  if (++barrier.count == threads) barrier.count = 0, barrier.generation++;
  else while (barrier.generation == here) pause_thread();
}
static void __syncthreads() { wait_at(of_blocks[running->block], 256); }
static void __syncwarp() { wait_at(of_warps[running->block * 8 + threadIdx.x / 32], 32); }
template <typename T> static T __ldcg(const T *from) { return *from; }
template <typename T> static T __ldg(const T *from) { return *from; }
#define SNN_PAUSE pause_thread();
"""
_LAUNCH = """
static const Loop *told;
static void (*kernel)(const Loop);
static void run_thread() { kernel(*told); running->done = true; }
static std::vector<char> stacks;
static int launch(unsigned first, unsigned blocks, unsigned seed) {  // blocks first, first + 1, ... at once
  of_blocks.assign(blocks, Barrier{}), of_warps.assign(blocks * 8, Barrier{});
  // NaN: nothing may be read that was not written
  of_block.assign(blocks, std::vector<uint4>(48 * 64, uint4{~0u, ~0u, ~0u, ~0u}));
  std::vector<Thread> threads(blocks * 256);
  stacks.resize(std::max(stacks.size(), threads.size() << 16));
  for (unsigned k = 0; k < threads.size(); k++) {
    Thread &thread = threads[k];
    thread.block = k / 256, thread.thread = k % 256, thread.done = false;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = stacks.data() + ((size_t)k << 16), thread.context.uc_stack.ss_size = 1 << 16;
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, run_thread, 0);
  }
  for (int turn = 0, left = threads.size(); left > 0; turn++) {
    if (turn > 1000000) return 1;
    for (unsigned block = 0; block < blocks; block++) {
      seed = seed * 1664525u + 1013904223u;
      if (blocks > 1 && seed >> 30) continue;
      for (unsigned k = 0; k < 256; k++) {
        running = &threads[block * 256 + (seed & 1 << 20 ? k : 255 - k)];
        if (running->done) continue;
        blockIdx.x = first + running->block, threadIdx.x = running->thread;
        swapcontext(&scheduler, &running->context);
        left -= running->done;
      }
    }
  }
  return 0;
}
"""
_ENTRY = """
extern "C" int launch_{name}(const Loop *a, unsigned blocks, bool together, unsigned seed) {{
  told = a, kernel = {name}, gridDim.x = blocks;
  if (together) return launch(0, blocks, seed);
  for (unsigned block = 0; block < blocks; block++)
    if (launch(block, 1, seed)) return 1;
  return 0;
}}
"""
_INSTRUCTIONS = {
    **cuda_on_cpu._INSTRUCTIONS,
    r'asm volatile\("red\.release.*?\);': "++*to;",
    r'asm volatile\("ld\.relaxed.*?\);': "found = *from;",
    r"__shared__ uint4 shared\[.*\];": "uint4 *const shared = of_block[running->block].data();",
}
NAMES = ("recurrent_pack", "recurrent_mix", "recurrent_forward", "recurrent_backward")


class Together:
    """In place of ``snnkit.ops.cuda.Function``, for the kernels of the recurrent loop.

    ``most`` is what ``resident`` says of this GPU; ``launches`` counts those that ran.
    """

    most = 3
    launches = 0

    def __init__(self, code: str, name: str, device: int) -> None:
        for pattern, replacement in _INSTRUCTIONS.items():
            code = re.sub(pattern, lambda _, text=replacement: text, code)
        entries = "".join(_ENTRY.format(name=each) for each in NAMES)
        words = cuda_on_cpu._WORDS.replace("#define __shared__ static\n", "")
        library = cpu.library(words + _WORDS + code + _LAUNCH + entries, "-O1")
        self.launch = getattr(library, f"launch_{name}")
        self.launch.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.c_bool, ctypes.c_uint]

    def __call__(self, blocks: int, threads: int, shared: int, arguments: bytes, together: bool = False) -> None:
        assert threads == 256 and shared == 0 and blocks > 0
        assert not together or blocks <= self.most
        Together.launches += 1
        assert self.launch(arguments, blocks, together, Together.launches) == 0, "its threads wait for ever"

    def resident(self, threads: int) -> int:
        """Blocks at once."""
        return self.most


@contextmanager
def recurrent_kernels(capturing: bool = False, most: int = 3) -> Iterator[None]:
    """Inside, the recurrent loop of CPU tensors takes the kernels of the GPU."""
    recurrent_cuda.kernels.cache_clear()
    with (
        mock.patch.object(recurrent_cuda, "Function", Together),
        mock.patch.object(recurrent_cuda, "takes", lambda out: out.numel() > 0),
        mock.patch.object(recurrent_cuda, "step_by_step", lambda device: capturing),
        mock.patch.object(cuda, "multiprocessors", lambda device: 3),
        mock.patch.object(Together, "most", most),
    ):
        yield
    recurrent_cuda.kernels.cache_clear()
