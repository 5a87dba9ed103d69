"""Every CUDA text of the scan is compiled, without a GPU: each pair of equation, surrogate, reset, dtype, ... meets.

``scan`` is called as on a GPU, but its kernels only note their text and the size of their arguments: the texts are
those of real calls. That they compute the right thing is for the tests that have a GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
import torch

from snnkit.ops import cuda, nvrtc, scan, scan_cuda, scan_operator, scan_work
from snnkit.ops.cache import kept
from snnkit.ops.program import plan_of
from tests.equations_under_test import EQUATIONS, RESETS, SURROGATES, learnable, neuron_of, pairwise, with_tensors

TROUBLE = cuda.nvrtc_trouble()  # an NVRTC that is there and compiles nothing is no reason to skip
pytestmark = pytest.mark.skipif(TROUBLE is not None and TROUBLE.absent, reason=f"no NVRTC: {TROUBLE}")

B, H, C = 3, 4, 8
FACTORS: dict[str, Sequence[Any]] = {
    "equation": list(EQUATIONS),
    "surrogate": list(SURROGATES),
    "reset": list(RESETS),
    "dtype": [torch.float32, torch.float64, torch.float16, torch.bfloat16],
    "shape": [None, (), (H, C)],  # of the parameters: numbers, one tensor value, or a value a lane
    "every": [True, False],  # all parameters are tensors, or the first and the last one
    "record": ["nothing", "first", "all"],
    "steps": [20, 3, 16, 1000],  # chunks that wait in shared memory; one of all steps; chunks that are read again
    "still": [False, True],  # one row is read at every step
    "bare": [False, True],  # a gradient arrives at the output alone
    "lanes": ["many", "few"],  # wide and narrow groups
}
PARTS = 12  # for two workers that share them


class Noting:
    """In place of a kernel: keeps its text, and the bytes of arguments that a launch hands over."""

    sizes: dict[str, int] = {}

    def __init__(self, code: str, name: str, device: int) -> None:
        assert f" {name}(" in code
        self.code = code

    def __call__(self, blocks: int, threads: int, shared: int, arguments: bytes) -> None:
        assert 0 < blocks and threads <= 1024 and shared <= 46 << 10
        assert Noting.sizes.setdefault(self.code, len(arguments)) == len(arguments)


def texts(cases: Sequence[dict[str, Any]]) -> list[str]:
    """The texts of forward and backward of each case; each refuses arguments of another size than was handed over."""
    noted: dict[str, int] = {}
    with (
        mock.patch.object(scan_operator, "implementation", lambda x: scan_cuda),
        mock.patch.object(scan_cuda, "Function", Noting),
        mock.patch.object(scan_cuda, "_kernels", {}),
        mock.patch.object(cuda, "multiprocessors", lambda device: 132),
        mock.patch.object(Noting, "sizes", noted),
    ):
        for case in cases:
            with mock.patch.object(scan_work, "_FEW_LANES", 1 if case["lanes"] == "many" else 1 << 17):
                call(**{name: value for name, value in case.items() if name != "lanes"})
                if case["shape"] is None and case["steps"] == 1000:
                    keep(case["equation"], case["surrogate"], case["reset"], case["dtype"])
    return [f"{code}\nstatic_assert(sizeof(Arguments) == {size});\n" for code, size in noted.items()]


def call(
    equation: str, surrogate: str, reset: str, dtype: torch.dtype, shape: Any, every: bool, record: str, steps: int,
    still: bool, bare: bool,
) -> None:  # fmt: skip
    """Run forward and backward; what comes back is empty memory."""
    neuron = neuron_of(equation, surrogate, reset)
    if shape is not None:
        compute = torch.float64 if dtype == torch.float64 else torch.float32
        names = learnable(neuron) if every else [learnable(neuron)[-1], next(iter(neuron.parameters()))]
        neuron = with_tensors(neuron, shape, compute, names)
    x = torch.zeros(1 if still else steps, B, H, C, dtype=dtype, requires_grad=True)
    names = tuple(neuron.states)
    recorded = {"nothing": (), "first": names[:1], "all": names[::-1]}[record]
    s, last, traces = scan(neuron, x, None, recorded, steps if still else None)
    outputs = [s] if bare else [s, *last.values(), *traces.values()]
    torch.autograd.grad(outputs, [x], [torch.zeros_like(o) for o in outputs])


def keep(equation: str, surrogate: str, reset: str, dtype: torch.dtype) -> None:
    """Run the short way of simple calls, where the forward keeps states for the backward."""
    plan = plan_of(neuron_of(equation, surrogate, reset))
    x = torch.zeros(100, B, C, dtype=dtype)
    scan_cuda._launches.cache_clear()
    _, kept, back = scan_cuda.simple_forward(plan.program, x, plan.constants, True)
    scan_cuda.simple_backward(x, x, kept, back)
    scan_cuda._launches.cache_clear()


@functools.cache
def covering_texts() -> list[str]:
    return texts(pairwise(FACTORS))


def compile_all(codes: Sequence[str], architecture: str) -> None:
    """Compile texts, and remember that these compiled: the cache keeps the fact, not the code."""

    def build(text: Any, made: Any) -> None:
        for code in codes:
            nvrtc.compiled(code, architecture)
        made.write_text("compiled")

    kept("compiled", (*codes, architecture, *nvrtc.FLAGS, nvrtc.version()), ".txt", ("note.txt", ""), build)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_pair_of_choices_compiles_for_hopper(part):
    compile_all(covering_texts()[part::PARTS], "sm_90")


def test_the_cover_has_each_form_of_a_kernel():
    codes = covering_texts()
    assert len(codes) > 300
    for word in ("SNN_FORWARD", "SNN_BACKWARD", *(f"typedef {io} io;" for io in scan_cuda.IO.values())):
        assert sum(word in code for code in codes) > 30, word
    for name in ("kOne", "kStash", "kStill", "kKeep", "kBare"):
        for value in "01":
            assert sum(f"{name} = {value}" in code for code in codes) > 20, f"{name} = {value}"
    for width in (1, 2, 4, 8):
        assert sum(f"kWidth = {width}," in code for code in codes) > 5, f"width {width}"


@pytest.mark.parametrize("learns", [False, True])
def test_each_equation_compiles_for_ampere(learns):
    # A hard reset's v_reset, learnt, would be a given state: such a call is not bare.
    case = {"surrogate": "ATan", "reset": "Soft" if learns else "Hard", "dtype": torch.float16, "every": True}
    case |= {"shape": () if learns else None, "bare": learns}
    case |= {"record": "nothing", "steps": 4, "still": False, "lanes": "many"}
    codes = texts([{"equation": equation, **case} for equation in EQUATIONS])
    assert len(codes) == 2 * len(EQUATIONS)
    assert not learns or sum("kAhead = 1" in code for code in codes) > 5
    compile_all(codes, "sm_80")


def test_a_wrong_text_would_be_seen():
    code = covering_texts()[0].replace("scan_forward", "scan_forward(int)", 1)
    with pytest.raises(RuntimeError, match=r"code\.cu\(\d+\): error"):
        compile_all([code], "sm_90")
    with pytest.raises(RuntimeError, match="static assertion"):
        compile_all([covering_texts()[0] + "static_assert(sizeof(Arguments) == 1);"], "sm_90")
