"""The scan on the GPU: outputs and states have the bits of the CPU's, for every neuron, shape and number."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from snnkit import nn as snn
from snnkit.equations import ALIF, LIF, Equation, Hard, Soft
from snnkit.ops import path, scan
from tests.closeness import error, same_bits
from tests.compiled_together import compiled_together
from tests.equations_under_test import (
    EQUATIONS,
    drive,
    initial_state,
    neuron_of,
    pairwise,
    resets_of,
    surrogates_of,
    tamed,
    with_tensors,
)
from tests.on_gpu import CLOSE, DEVICE, Outcome, check, compare, compiled_ahead, gpus, on
from tests.ops import test_every_kernel as pairs
from tests.ops.test_scan_layout import LAYOUTS
from tests.shared import needs_compiler

T, B, C = 5, 2, 3
DTYPES = list(CLOSE)
WHOLE = [torch.float32, torch.float64]


def sequence(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return drive("ALIF", shape, torch.float64).to(dtype)


def start_of(neuron: Equation, x: Tensor) -> dict[str, Tensor]:
    noise = torch.Generator().manual_seed(3)
    initial = initial_state(neuron, x)
    return {n: (v.detach() + 0.1 * torch.rand(v.shape, generator=noise)).to(v.dtype) for n, v in initial.items()}


@gpus()
def test_a_tensor_on_the_gpu_takes_the_kernel():
    for dtype in DTYPES:
        assert path(LIF(), torch.zeros(T, B, C, dtype=dtype, device=DEVICE)) == DEVICE


# --- every neuron -------------------------------------------------------------------------------------------------


@gpus()
@needs_compiler
@pytest.mark.parametrize("dtype", WHOLE, ids=str)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_every_surrogate_and_reset_has_the_bits_of_the_cpu(equation, dtype):
    x = drive(equation, (T, B, C), dtype)
    inputs = {reset: tamed(neuron_of(equation, reset=reset), x) for reset in resets_of(equation)}
    cases = list(itertools.product(surrogates_of(equation), inputs))

    def calls(device: str) -> list[Outcome]:
        found = []
        for surrogate, reset in cases:
            neuron = neuron_of(equation, surrogate, reset)
            found.append(Outcome(neuron, inputs[reset], device, record=tuple(neuron.states)))
        return found

    expected = compiled_together(lambda: calls("cpu"), parts=4)
    for case, e, got in zip(cases, expected, compiled_ahead(lambda: calls(DEVICE)), strict=True):
        check(got, e, "-".join((equation, *case)))


@gpus()
def test_kernels_equal_the_reference_for_each_pair_of_choices():
    cases = pairwise(pairs.FACTORS)
    references = [pairs.Run(case, pairs.by_reference) for case in cases]

    def there_and_back(neuron, x, start, record, steps):
        neuron = neuron.bind({n: v.to(DEVICE) for n, v in neuron.parameters().items() if isinstance(v, Tensor)})
        start = None if start is None else {n: v.to(DEVICE) for n, v in start.items()}
        s, last, traces = scan(neuron, x.to(DEVICE), start, record, steps)
        return s.cpu(), {n: v.cpu() for n, v in last.items()}, {n: v.cpu() for n, v in traces.items()}

    def calls() -> list[tuple[pairs.Run, Tensor, dict[str, Tensor]]]:
        found = []
        for case, expected in zip(cases, references, strict=True):
            run = pairs.Run(case, there_and_back)
            lanes = same_bits(run.s, expected.s).all(0)
            found.append((run, lanes, run.gradients(lanes)))
        return found

    for case, expected, (run, lanes, gradients) in zip(cases, references, compiled_ahead(calls), strict=True):
        pairs.compare("-".join(map(str, case.values())), case, run, gradients, expected, lanes)


# --- every length, size and dtype ---------------------------------------------------------------------------------

LENGTHS = [0, 1, 3, 4, 5, 8, 9, 16, 33, 150]


@gpus()
@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [None, (), (C,)], ids=["numbers", "one tensor", "a value a channel"])
def test_every_length_with_states_traces_and_learnt_parameters(shape, dtype):
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    neuron = ALIF(reset=Soft()) if shape is None else with_tensors(ALIF(reset=Soft()), shape, compute)
    loose = {"tau_a": 1000.0, "beta": 1000.0, "v_threshold": 20.0} if shape == () else {}
    for length in LENGTHS:
        x = sequence(length, 4, C, dtype=dtype)
        compare(neuron, x, f"T={length}", loose, start=start_of(neuron, x), record=("a", "v"))
        compare(neuron, x, f"T={length}, alone", loose, final=False)
        row = sequence(1, 4, C, dtype=dtype)
        compare(neuron, row, f"steps={length}", loose, steps=length, start=start_of(neuron, row), record=("v",))


@gpus()
@needs_compiler
@pytest.mark.parametrize(
    "wanted", [("last v",), ("last a",), ("trace v",), ("s", "last a"), ("trace a", "last v")], ids="+".join
)
def test_an_output_without_gradient_counts_as_zero(wanted):
    for shape, length in itertools.product((None, (C,)), (4, 9, 150)):
        neuron = ALIF() if shape is None else with_tensors(ALIF(), shape, torch.float32)
        x = sequence(length, B, C)
        compare(neuron, x, f"T={length}", start=start_of(neuron, x), record=("v", "a"), wanted=wanted)


# From one lane to more than a block; odd numbers of lanes; so many that a thread takes 16 bytes; those less aligned.
SIZES = [1, 2, 63, 64, 257, 4096, 1 << 20, (1 << 20) + 1, (1 << 20) + 2, (1 << 20) + 4]


@gpus()
@needs_compiler
@pytest.mark.parametrize("length", [3, 16])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_number_of_lanes(dtype, length):
    for size in SIZES:
        x = sequence(length, 1, size, dtype=dtype)
        compare(LIF(tau=3.7), x, f"N={size}", final=False)
        if size < 5000:
            compare(LIF(tau=2.0), sequence(length, 3, size, dtype=dtype), f"3 rows of {size}", record=("v",))
            neuron = with_tensors(LIF(tau=3.7), (size,), torch.float64 if dtype == torch.float64 else torch.float32)
            compare(neuron, sequence(length, 3, size, dtype=dtype), f"3 rows of {size}, learnt")


@gpus()
@needs_compiler
@pytest.mark.parametrize("shape", [(T, 0, C), (T, B, 0), (0, B, C), (1, 1, 1)])
def test_sizes_without_anything_in_them(shape):
    for learnt in (None, (), (shape[2],)):
        neuron = ALIF() if learnt is None else with_tensors(ALIF(), learnt, torch.float32)
        x = torch.zeros(shape)
        compare(neuron, x, start=start_of(neuron, x), record=("v",))
        compare(neuron, x, final=False)


# --- every layout -------------------------------------------------------------------------------------------------

WIDE = {
    "lanes from the second on": lambda: sequence(T, 2, (1 << 18) + 1)[..., 1:],
    "samples from the second on": lambda: sequence(T, 3, 1 << 18)[:, 1:],
    "steps from the second on": lambda: sequence(T, 2, (1 << 18) + 1)[1:],
    "batch first, wide": lambda: sequence(2, T, 1 << 18).transpose(0, 1),
    "channels last, wide": lambda: sequence(T, 2, 1 << 14, 16).transpose(2, 3),
    "one step for all, wide": lambda: sequence(1, 2, 1 << 18).expand(T, 2, 1 << 18),
    "one sample for all, wide": lambda: sequence(T, 1, 1 << 18).expand(T, 2, 1 << 18),
}


@gpus()
@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("layout", [*LAYOUTS, *WIDE])
def test_every_layout(layout, dtype):
    x = on((LAYOUTS | WIDE)[layout](), "cpu", dtype)
    compare(LIF(tau=3.7), x)
    compare(LIF(tau=3.7), x, "the short way, if x is in one piece", final=False)
    if layout in LAYOUTS:
        neuron = with_tensors(ALIF(), x.shape[2:3] + (1,) * (x.ndim - 3) if x.ndim > 2 else (), torch.float32)
        compare(neuron, x, "learnt", start=start_of(neuron, x), record=("a",))


@gpus()
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "batch first", "every second channel"])
def test_a_gradient_may_lie_otherwise_than_x(layout):
    x = on(LAYOUTS[layout](), DEVICE).requires_grad_()
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    ways = [
        noise.sum().expand(x.shape), noise[:1].expand(x.shape), noise[:, :1].expand(x.shape),
        noise.transpose(0, 1).contiguous().transpose(0, 1), noise.movedim(-1, 2).contiguous().movedim(2, -1),
        torch.stack([noise, noise], -1)[..., 0],
    ]  # fmt: skip
    for g in ways:
        found = []
        for arriving in (g, torch.empty(g.shape, device=DEVICE).copy_(g)):
            s, state, traces = scan(ALIF(), x, record=("v",))
            found += torch.autograd.grad([s, traces["v"], state["a"]], x, [arriving, arriving, arriving[0]])
            found += torch.autograd.grad(snn.LIF()(x), x, arriving)
        assert torch.equal(found[0], found[2])
        assert error(found[1], found[3]) < 1e-6  # another width may take another way to divide, in a gradient


# --- every number -------------------------------------------------------------------------------------------------

ODD = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-40, -1e-40, 1e-44, 3e38, -3e38, 1.0, 0.75, 2.5, 1e-20]


@gpus()
@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [5, 1 << 20], ids=["narrow", "wide"])
def test_numbers_that_are_not_finite_or_subnormal_give_what_the_cpu_gives(size, dtype):
    places = torch.randint(len(ODD), (T, 1, size), generator=torch.Generator().manual_seed(1))
    x = torch.tensor(ODD, dtype=torch.float64)[places].to(dtype)
    free = LIF(tau=2.0, reset=Soft(), decay_input=False)
    for neuron in (LIF(tau=2.0), LIF(tau=3.7), LIF(tau=3.7, reset=Hard(-0.25)), free):
        found = []
        for device in ("cpu", DEVICE):
            y = on(x, device).requires_grad_()
            s, state, traces = scan(neuron, y, record=("v",))
            found.append([s.detach().cpu(), state["v"].detach().cpu(), traces["v"].detach().cpu()])
        for a, b in zip(*found, strict=True):
            assert same_bits(a, b).all(), neuron


class Quotient(Equation):
    """v = x / tau: a division, and nothing beside it."""

    tau = 2.0
    states = {"v": 0.0}

    def step(self, x, v):
        v = x / self.tau
        return self.spike(v - 1.0), {"v": v}


def magnitudes(count: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Numbers of either sign and of every size that the dtype has, subnormal ones too, zeros between them."""
    noise = torch.Generator().manual_seed(seed)
    low, high = (-149, 128) if dtype == torch.float32 else (-1074, 1024)
    exponent = low + (high - low) * torch.rand(count, dtype=torch.float64, generator=noise)
    mantissa = 1.0 + torch.rand(count, dtype=torch.float64, generator=noise)
    values = torch.ldexp(mantissa, exponent.floor()).to(dtype)
    values[torch.rand(count, generator=noise) < 0.5] *= -1
    values[::97] = 0.0
    return values


def quotients(x: Tensor, tau: Tensor | float) -> Tensor:
    neuron = Quotient().bind({"tau": tau.to(DEVICE) if isinstance(tau, Tensor) else tau})
    return scan(neuron, on(x, DEVICE), record=("v",)).traces["v"].cpu()


def check_quotients(x: Tensor, tau: Tensor | float) -> None:
    divisor = tau if isinstance(tau, Tensor) else torch.tensor(tau, dtype=torch.float64)
    expected, got = x / divisor.to(x.dtype), quotients(x, tau)
    wrong = ~same_bits(got, expected) | (got.signbit() != expected.signbit()) & ~expected.isnan()
    assert not wrong.any(), (
        f"{int(wrong.sum())} of {x.numel()}: "
        f"{x[wrong][0].item().hex()} / {divisor.expand(x.shape)[wrong][0].item().hex()} "
        f"is {expected[wrong][0].item().hex()}, got {got[wrong][0].item().hex()}"
    )


@gpus()
@pytest.mark.parametrize("dtype", WHOLE, ids=str)
# With few lanes and many steps the quotient is corrected by its remainder, else it is a product in double.
@pytest.mark.parametrize("length, rows", [(2, 1), (2, 8), (20, 1)], ids=["narrow", "wide", "long"])
def test_a_division_is_exact_for_every_size_of_both_numbers(length, rows, dtype):
    count = 1 << (17 if length == 2 else 14)
    x = magnitudes(length * rows * count, 1, dtype).view(length, rows, count)
    check_quotients(x, magnitudes(count, 2, dtype))
    powers = [2.0, -2.0, 0.25, *(2.0**e for e in (100, -100, 125, -125, 126, -126, 127, -127, -128, -149))]
    for tau in (*powers, 3.7, -3.7, 1.0 / 3.0, 10.0, 1e30, 1e-30, 1e-39, 1e38):
        check_quotients(x, tau)
    check_quotients(x, torch.tensor(3.7, dtype=dtype))


@gpus()
@pytest.mark.parametrize("length, rows", [(2, 1), (2, 8), (20, 1)], ids=["narrow", "wide", "long"])
def test_a_subnormal_quotient_in_the_middle_between_two_numbers_is_rounded_to_one_of_them(length, rows):
    # a / b = (k + 1/2) 2^-149 exactly, for b with many bits: a product with 1 / b misses the tie (divide.cuh).
    noise, count = torch.Generator().manual_seed(1), 1 << 14
    odd, middle = (2 * torch.randint(1 << 11, (count,), generator=noise) + 1.0 for _ in range(2))
    power = torch.randint(1, 60, (count,), generator=noise)
    tau = torch.ldexp(odd.double(), power)
    x = torch.ldexp(tau * middle, torch.tensor(-150)).float().expand(length, rows, count).contiguous()
    expected = x / tau.float()
    assert ((quotients(x, tau.float()).double() - expected.double()).abs() <= 2.0**-149).all()


@gpus()
@needs_compiler
@pytest.mark.parametrize("tau", [1.0, 2.0, 4.0, 3.7, 1e3, 1.0 + 2.0**-20])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tau_that_is_a_power_of_two_and_others(tau, dtype):
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    for length, size in ((4, 1 << 20), (30, 40)):
        x = sequence(length, 1, size, dtype=dtype) * (1.0 if tau < 100 else 300.0)
        compare(LIF(tau=tau), x, final=False)
        compare(with_tensors(LIF(tau=tau), (), compute, ["tau"]), x, "learnt")
