"""What tests on a GPU share: their mark, tensors that lie there as they lie here, and one call as seen from outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from snnkit.equations import Equation
from snnkit.ops import cuda, nvrtc, scan_cuda
from snnkit.ops.program import plan_of
from snnkit.ops.scan import run
from tests.closeness import error, same_bits

DEVICE = "cuda"
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""What the norm of a gradient may differ by, relative: for half, one number in some is rounded to its neighbour."""


def gpus(count: int = 1) -> Callable[[Any], Any]:
    """Mark a test that needs so many GPUs."""

    def marked(test: Any) -> Any:
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return pytest.mark.gpu(pytest.mark.skipif(found < count, reason=f"needs {count} GPU(s)")(test))

    return marked


def on(x: Tensor, device: str, dtype: torch.dtype | None = None) -> Tensor:
    """The same numbers on a device, with the strides and the offset that they have here."""
    whole = torch.empty(0, dtype=x.dtype).set_(x.detach().untyped_storage())
    return whole.to(device, dtype or x.dtype, copy=True).as_strided(x.shape, x.stride(), x.storage_offset())


class Outcome:
    """Outputs and gradients of one call on a device, brought back to the CPU.

    Args:
        wanted: names of the outputs that a gradient arrives at; None for all: ``s``, ``last v``, ``trace v``, ...
        final: ask for the last states; without them, and with nothing else given, a call goes the short way.
    """

    def __init__(
        self, neuron: Equation, x: Tensor, device: str, *, start: Mapping[str, Tensor] | None = None,
        record: Sequence[str] = (), steps: int | None = None, wanted: Sequence[str] | None = None, final: bool = True,
    ) -> None:  # fmt: skip
        x = on(x, device).requires_grad_()
        tensors = {n: v for n, v in neuron.parameters().items() if isinstance(v, Tensor)}
        tensors = {n: on(v, device).requires_grad_(v.requires_grad) for n, v in tensors.items()}
        first = {n: on(v, device).requires_grad_() for n, v in (start or {}).items()}
        given = neuron.parameters() | tensors
        s, last, traces = run(plan_of(neuron), given, x, first or None, tuple(record), steps, final)
        results = {"s": s} | {f"last {n}": v for n, v in last.items()} | {f"trace {n}": v for n, v in traces.items()}
        noise = torch.Generator().manual_seed(5)
        weights = {n: torch.rand(r.shape, dtype=torch.float64, generator=noise) for n, r in results.items()}
        pairs = [(r, weights[n].to(r)) for n, r in results.items() if wanted is None or n in wanted]
        pairs = [(r, w) for r, w in pairs if r.requires_grad]
        leaves = {"x": x} | {n: v for n, v in tensors.items() if v.requires_grad}
        leaves |= {f"first {n}": v for n, v in first.items()}
        found = torch.autograd.grad([r for r, _ in pairs], list(leaves.values()), [w for _, w in pairs],
                                    allow_unused=True, materialize_grads=True)  # fmt: skip
        self.results = {n: r.detach().cpu() for n, r in results.items()}
        self.gradients = {n: g.cpu() for n, g in zip(leaves, found, strict=True)}
        self.strides = {n: _strides(r) for n, r in results.items()}


def _strides(x: Tensor) -> tuple[int, ...]:
    """The strides that matter."""
    return tuple(stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1 and x.numel())


def check(got: Outcome, expected: Outcome, case: str = "", loose: Mapping[str, float] | None = None) -> None:
    """The same bits forwards, the same dtypes and strides, and gradients as near as their dtype allows.

    ``loose`` names gradients that are what is left of a sum that cancels, and by how many times it is smaller.
    """
    for name, e in expected.results.items():
        g = got.results[name]
        assert (g.dtype, g.shape, got.strides[name]) == (e.dtype, e.shape, expected.strides[name]), f"{case} {name}"
        wrong = ~same_bits(g, e)
        assert not wrong.any(), f"{case} {name}: {int(wrong.sum())} of {e.numel()}, {g[wrong][0]} for {e[wrong][0]}"
    for name, e in expected.gradients.items():
        g = got.gradients[name]
        assert (g.dtype, g.shape) == (e.dtype, e.shape), f"{case}: gradient of {name}"
        assert error(g, e) < CLOSE[e.dtype] * (loose or {}).get(name, 1.0), f"{case}: gradient of {name}: {error(g, e)}"


def compare(
    neuron: Equation, x: Tensor, case: str = "", loose: Mapping[str, float] | None = None, **call: Any
) -> None:
    """Hold a call on the GPU against the same call on the CPU."""
    check(Outcome(neuron, x, DEVICE, **call), Outcome(neuron, x, "cpu", **call), case, loose)


def compiled_ahead(calls: Callable[[], Any]) -> Any:
    """Run ``calls`` after compiling, on all cores at once, the kernels that it needs; return what it returns."""
    texts: dict[str, None] = {}

    class Noting:
        def __init__(self, code: str, name: str, device: int) -> None:
            texts[code] = None

        def __call__(self, *launch: Any) -> None:
            pass

    with mock.patch.object(scan_cuda, "Function", Noting), no_kernels():
        calls()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda code: nvrtc.cubin(code, cuda.architecture(0)), texts))
    with no_kernels():
        return calls()


@contextmanager
def no_kernels() -> Iterator[None]:
    """Begin without loaded kernels, and forget those that are loaded meanwhile."""
    with mock.patch.object(scan_cuda, "_kernels", {}):
        scan_cuda._launches.cache_clear()
        yield
        scan_cuda._launches.cache_clear()
