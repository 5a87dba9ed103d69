"""``scan``: what it returns, for each dtype and each odd input, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit import nn
from snnkit.equations import IF, LI, LIF, Equation, Hard, Soft
from snnkit.ops import cpu, path, scan, scan_cpu
from snnkit.ops.program import plan_of
from tests.closeness import same_bits
from tests.equations_under_test import by_reference, drive
from tests.shared import needs_compiler

T, B, C = 7, 2, 3


class TwoStates(Equation):
    """Two states without exp, one of which sees the new value of the other."""

    tau, tau_a, beta, v_threshold = 2.0, 20.0, 0.2, 1.0
    states = {"v": 0.0, "a": 0.125}

    def step(self, x, v, a):
        v = v + (x - v) / self.tau
        s = self.spike(v - (self.v_threshold + self.beta * a))
        return s, {"v": self.reset(v, s), "a": a + (s - a) / self.tau_a}


def sequence(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return drive("LIF", shape, dtype)


def test_two_steps_by_hand():
    s, state, traces = scan(LIF(tau=4.0), torch.tensor([[[2.0]], [[3.0]]]), record=("v",))
    assert s.flatten().tolist() == [0.0, 1.0]  # v = 0.5, then 0.5 + 2.5 / 4 = 1.125
    assert traces["v"].flatten().tolist() == [0.5, 0.0] and state["v"].item() == 0.0


def test_the_threshold_itself_fires():
    assert scan(IF(), torch.ones(1, 1, 1)).output.item() == 1.0


def test_a_neuron_starts_and_leaks_at_its_reset_value():
    _, state, traces = scan(LIF(v_reset=-0.5, tau=2.0), torch.zeros(3, 1, 1), record=("v",))
    # v = -0.5 + (0 + 0.5 - 0.5 ...) / 2: the leak goes to v_reset, the input pulls towards v_reset + x.
    assert traces["v"].flatten().tolist() == [-0.5, -0.5, -0.5] and state["v"].item() == -0.5


def test_a_trace_shows_the_state_after_the_reset():
    s, _, traces = scan(LIF(), sequence(T, B, C), record=("v",))
    assert s.any() and (traces["v"][s == 1] == 0).all()


@pytest.mark.parametrize("record", [(), ("v",), ("a",), ("a", "v")], ids=lambda r: "+".join(r) or "nothing")
@pytest.mark.parametrize("length", [1, 3, 63])
def test_outputs_equal_the_reference_to_the_bit(length, record):
    x = sequence(length, B, C)
    got, expected = scan(TwoStates(), x, record=record), by_reference(TwoStates(), x, record=record)
    assert torch.equal(got.output, expected[0])
    assert list(got.traces) == list(record) and list(got.state) == ["v", "a"]
    for own, other in ((got.state, expected[1]), (got.traces, expected[2])):
        assert all(torch.equal(own[n], other[n]) for n in own)


def test_recording_twice_the_same_and_in_another_order_changes_nothing_else():
    x = sequence(T, B, C)
    one, other = scan(TwoStates(), x, record=("v", "a")), scan(TwoStates(), x, record=("a", "v"))
    assert torch.equal(one.output, other.output)
    assert all(torch.equal(one.traces[n], other.traces[n]) for n in ("v", "a"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_output_has_the_dtype_of_x_and_states_are_float32_or_float64(dtype):
    x = sequence(T, B, C, dtype=dtype)
    s, state, traces = scan(LIF(), x, record=("v",))
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    assert (s.dtype, state["v"].dtype, traces["v"].dtype) == (dtype, compute, compute)
    expected = by_reference(LIF(), x, record=("v",))
    assert torch.equal(s, expected[0]) and torch.equal(traces["v"], expected[2]["v"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_input_is_computed_in_float32(dtype):
    x = sequence(63, B, C, dtype=dtype)
    s, state, _ = scan(LIF(), x)
    in_float = scan(LIF(), x.float())
    assert torch.equal(s.float(), in_float.output) and torch.equal(state["v"], in_float.state["v"])
    v = scan(LI(tau=50.0), x).output  # an output that half cannot hold is rounded once
    assert torch.equal(v, scan(LI(tau=50.0), x.float()).output.to(dtype))


@given(
    shape=st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 5), st.integers(1, 3)),
    cuts=st.lists(st.integers(0, 9), max_size=3),
    reset=st.sampled_from([Hard(-0.25), Soft()]),
)
@settings(max_examples=40)
def test_chunks_equal_the_whole(shape, cuts, reset):
    x = sequence(*shape)
    neuron = LIF(reset=reset)
    whole = scan(neuron, x, record=("v",))
    state, spikes, traces = None, [], []
    ends = sorted(min(c, shape[0]) for c in cuts)
    for start, end in zip([0, *ends], [*ends, shape[0]], strict=True):
        s, state, trace = scan(neuron, x[start:end], state, record=("v",))
        spikes.append(s)
        traces.append(trace["v"])
    assert torch.equal(torch.cat(spikes), whole.output) and torch.equal(torch.cat(traces), whole.traces["v"])
    assert torch.equal(state["v"], whole.state["v"])


def test_samples_do_not_see_each_other():
    x = sequence(T, 5, C)
    apart = torch.cat([scan(TwoStates(), x[:, b : b + 1]).output for b in range(5)], dim=1)
    assert torch.equal(scan(TwoStates(), x).output, apart)


def test_long_sequences_of_few_lanes():
    x = sequence(3000, 3)
    got, expected = scan(TwoStates(), x, record=("a",)), by_reference(TwoStates(), x, record=("a",))
    assert torch.equal(got.output, expected[0]) and torch.equal(got.traces["a"], expected[2]["a"])
    assert torch.equal(got.state["v"], expected[1]["v"])


@pytest.mark.parametrize("lanes", [1, 15, 16, 17, 127, 129, 2047, 2048, 2049, 5000])
def test_any_number_of_lanes(lanes):
    x = sequence(3, 2, lanes)
    assert torch.equal(scan(LIF(), x).output, by_reference(LIF(), x)[0])


def test_steps_reads_one_row_again_and_again():
    x = sequence(1, B, C)
    s, state, traces = scan(TwoStates(), x, record=("v",), steps=9)
    expected = scan(TwoStates(), x.expand(9, B, C).contiguous(), record=("v",))
    assert s.shape == (9, B, C) and torch.equal(s, expected.output)
    assert torch.equal(traces["v"], expected.traces["v"]) and torch.equal(state["a"], expected.state["a"])


def test_no_steps_give_back_the_first_state():
    given_state = {"v": torch.rand(B, C), "a": torch.rand(B, C)}
    for x, steps in ((torch.zeros(0, B, C), None), (torch.zeros(1, B, C), 0)):
        s, state, traces = scan(TwoStates(), x, given_state, record=("a",), steps=steps)
        assert s.shape == traces["a"].shape == (0, B, C)
        assert all(torch.equal(state[n], given_state[n]) for n in state)
        assert all(state[n].data_ptr() != given_state[n].data_ptr() for n in state)
        assert scan(TwoStates(), x, steps=steps).state["a"].eq(0.125).all()


@pytest.mark.parametrize("shape", [(4, 0, 3), (4, 2, 0), (0, 0, 0), (0, 2, 3), (4, 0)])
def test_empty_inputs(shape):
    s, state, traces = scan(LIF(), torch.zeros(shape), record=("v",))
    assert s.shape == traces["v"].shape == shape and state["v"].shape == shape[1:]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_a_number_shows_at_once_and_stays_in_its_lane(value):
    x = sequence(5, B, C)
    x[2, 1, 1] = value
    s, state, _ = scan(LIF(), x)
    expected, last, _ = by_reference(LIF(), x)
    assert same_bits(s, expected).all() and same_bits(state["v"], last["v"]).all()
    if value != value:
        assert s[2:, 1, 1].isnan().all() and s.isnan().sum() == 3


def test_a_time_constant_that_is_nan_gives_nan_spikes():
    neuron = LIF().bind({"tau": torch.tensor([2.0, float("nan"), 2.0])})
    s = scan(neuron, sequence(T, B, C)).output
    assert s[..., 1].isnan().all() and not s[..., [0, 2]].isnan().any()


def test_subnormal_membranes_are_kept():
    # A compiler that flushes them to zero (as -ffast-math does for the whole process) would fire elsewhere.
    x = torch.full((1, 1, 4), 1e-40)
    assert scan(IF(v_threshold=1e-40), x).output.all()
    assert scan(LI(tau=2.0), x).output.eq(x / 2).all() and (x / 2 > 0).all()


def test_a_start_in_another_dtype_is_taken_in_float32():
    x, start = sequence(T, B, C), torch.rand(B, C, dtype=torch.float64)
    assert torch.equal(scan(LIF(), x, {"v": start}).output, scan(LIF(), x, {"v": start.float()}).output)


def test_results_share_no_memory_with_the_inputs():
    x, start = sequence(T, B, C), {"v": torch.rand(B, C)}
    copies = x.clone(), start["v"].clone()
    s, state, traces = scan(LIF(), x, start, record=("v",))
    for result in (s, state["v"], traces["v"]):
        result.fill_(7.0)
    assert torch.equal(x, copies[0]) and torch.equal(start["v"], copies[1])


def test_a_new_number_compiles_nothing(monkeypatch):
    x = sequence(T, B, C)
    scan(LIF(), x)
    scan(LIF(v_reset=0.1), x)  # another formula: a reset to 0 is a shorter one
    scan(LIF(tau=3.0), x)  # a division; powers of two are products
    monkeypatch.setattr(cpu, "library", lambda *_: pytest.fail("compiled again"))
    for neuron in (LIF(tau=3.5, v_threshold=0.7), LIF(v_reset=-0.3), LIF().bind({"surrogate.alpha": 5.0})):
        assert torch.equal(scan(neuron, x).output, by_reference(neuron, x)[0])


class TwoDivisors(Equation):
    """A state that is divided by two numbers; it never fires."""

    tau, scale, v_threshold = 2.0, -4.0, 1e30
    states = {"v": 0.0}

    def step(self, x, v):
        v = v + (x - v) / self.tau + v / self.scale
        return self.spike(v - self.v_threshold), {"v": v}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.5, -4.0, 3.0, -7.0])
@pytest.mark.parametrize("tau", [2.0, 16.0, 3.0, 2.0**126])
def test_a_quotient_has_its_bits_whatever_the_way_and_the_size(tau, scale, dtype):
    least, most = (-44, 36) if dtype == torch.float32 else (-322, 300)
    x = sequence(40, B, C, dtype=dtype) * 10.0 ** torch.linspace(least, most, 40, dtype=dtype).view(-1, 1, 1)
    x[37, 0, 0], x[38, 1, 1] = float("inf"), float("nan")
    neuron = TwoDivisors(tau=tau, scale=scale)
    _, _, traces = by_reference(neuron, x, record=("v",))
    assert same_bits(scan(neuron, x, record=("v",)).traces["v"], traces["v"]).all()


def test_a_layer_of_another_number_has_its_own_values():
    x = sequence(T, B, C)
    for tau in (2.0, 3.0, 5.0, 4.0):
        assert torch.equal(nn.LI(tau=tau)(x), by_reference(LI(tau=tau), x)[0])


def test_a_parameter_may_have_a_name_that_kernels_use_for_an_inverse():
    class Named(Equation):
        tau, over_tau, watch, v_threshold = 2.0, 0.5, 1.0, 1.0
        states = {"v": 0.0}

        def step(self, x, v):
            v = v + self.watch * (x - v * self.over_tau) / self.tau
            return self.spike(v - self.v_threshold), {"v": v}

    x = sequence(T, B, C)
    for tau in (2.0, 3.0):
        assert torch.equal(scan(Named(tau=tau), x).output, by_reference(Named(tau=tau), x)[0])


@needs_compiler
@pytest.mark.parametrize(
    ("neuron", "products"),
    [(LIF(), True), (LIF(tau=3.0), False), (TwoStates(), False), (TwoStates(tau_a=16.0), True), (IF(), False)],
)
def test_powers_of_two_are_multiplied_with_their_inverse(neuron, products):
    plan = plan_of(neuron)
    scan_cpu.kernel(plan.program, plan.constants, torch.float32, "", ())
    assert (plan.program.key, torch.float32, "", (), products) in scan_cpu._kernels


REFUSED = {
    "one axis": (dict(x=torch.zeros(3)), ValueError, r"at least 2 axes, got \(3,\)"),
    "integers": (dict(x=torch.zeros(3, 2, dtype=torch.int64)), TypeError, r"floating x, got torch.int64.*x\.float\(\)"),
    "complex": (dict(x=torch.zeros(3, 2, dtype=torch.complex64)), TypeError, "floating x, got torch.complex64"),
    "record as a string": (dict(record="v"), TypeError, r"got the string 'v'. Write record=\('v',\)"),
    "unknown record": (dict(record=("u",)), ValueError, r"LIF has no state 'u' to record\. It has: v"),
    "missing state": (dict(state={}), ValueError, "LIF has the states v, got none"),
    "unknown state": (dict(state={"u": torch.zeros(B, C)}), ValueError, "LIF has the states v, got u"),
    "state of another batch": (dict(state={"v": torch.zeros(B + 1, C)}), ValueError, r"of x\[0\], got \(3, 3\)"),
    "state with a time axis": (dict(state={"v": torch.zeros(1, B, C)}), ValueError, r"got \(1, 2, 3\)"),
    "steps and many rows": (dict(steps=4), ValueError, r"x has 7 rows: give x\[:1\]"),
    "negative steps": (dict(x=torch.zeros(1, B, C), steps=-2), ValueError, "steps must be >= 0, got -2"),
    "a parameter for other channels": (
        dict(neuron=LIF().bind({"tau": torch.ones(4)})), ValueError, r"shape \(4,\) does not broadcast to .* \(3,\)"),
    "a parameter with a batch axis": (
        dict(neuron=LIF().bind({"tau": torch.ones(B, C)})), ValueError, r"shape \(2, 3\) does not broadcast"),
    "a parameter that would widen x": (
        dict(x=torch.zeros(T, B, 1), neuron=LIF().bind({"tau": torch.ones(4)})), ValueError, "does not broadcast"),
    "float8": (dict(x=torch.zeros(3, 2).to(torch.float8_e4m3fn)), TypeError, r"floating x, got torch.float8.*x\.float"),
    "steps of 2.0": (dict(x=torch.zeros(1, B, C), steps=2.0), TypeError, "steps must be a whole number.*got 2.0"),
    "steps of True": (dict(x=torch.zeros(1, B, C), steps=True), TypeError, "whole number or None, got True"),
    "record of True": (dict(record=True), TypeError, "names of states, such as .*, got True"),
    "state as a number": (dict(state={"v": 0.0}), TypeError, r"'v' must be a tensor, got 0\.0\. A number: torch.full"),
    "state as a tensor": (dict(state=torch.zeros(B, C)), TypeError, "a dict of tensors, {'v': ...}, got a Tensor"),
    "complex state": (
        dict(state={"v": torch.zeros(B, C, dtype=torch.complex64)}), TypeError, "real, got torch.complex64. Take its"),
    "state elsewhere": (
        dict(state={"v": torch.zeros(B, C, device="meta")}), ValueError, "a state is on meta, x on cpu. Move one"),
    "parameter elsewhere": (
        dict(neuron=LIF().bind({"tau": torch.tensor(2.0, device="meta")})), ValueError, "a parameter is on meta, x on"),
    "a layer": (dict(neuron=nn.LIF()), TypeError, r"takes an equation .* got LIF. A layer is called: layer\(x"),
    "a class": (dict(neuron=LIF), TypeError, r"got type. .*A class is made: LIF\(\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_with_the_reason(case):
    arguments, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        scan(**({"neuron": LIF(), "x": torch.zeros(T, B, C)} | arguments))


@needs_compiler
def test_path_names_the_implementation_and_each_refusal(monkeypatch):
    assert path(LIF(), torch.zeros(T, B, C)) == "cpu"
    assert path(LIF(), torch.zeros(T, B, C, device="meta")) == "reference (cpu, cuda: x is on meta)"
    monkeypatch.setattr(cpu, "refusal", lambda: "no compiler: install g++")
    assert path(LIF(), torch.zeros(T, B, C)) == "reference (cpu: no compiler: install g++)"


class Branching(Equation):
    """Cannot be traced: what it does depends on a membrane."""

    states = {"v": 0.0}

    def step(self, x, v):
        return self.spike(x - 1.0), {"v": x if v > 0.0 else v}


def test_path_refuses_what_scan_refuses():
    with pytest.raises(TypeError, match="floating x, got torch.int32"):
        path(LIF(), torch.zeros(T, B, C, dtype=torch.int32))
    with pytest.raises(ValueError, match="at least 2 axes"):
        path(LIF(), torch.zeros(T))
    for call in (path, scan):
        with pytest.raises(TypeError, match=r"a tensor x, got ndarray. Write torch.as_tensor\(x\)"):
            call(LIF(), torch.zeros(T, B, C).numpy())
        with pytest.raises(TypeError, match="takes an equation of snnkit.equations, got type.* A class is made"):
            call(LIF, torch.zeros(T, B, C))
        with pytest.raises(TypeError, match=r"a dense x, got one of torch.sparse_coo. Convert it: x.to_dense\(\)"):
            call(LIF(), torch.zeros(T, B, C).to_sparse())
        with pytest.raises(ValueError, match=r"shape \(4,\) does not broadcast"):
            call(LIF().bind({"tau": torch.ones(4)}), torch.zeros(T, B, C))
        with pytest.raises(ValueError, match="a parameter is on meta, x on cpu. Move one"):
            call(LIF().bind({"tau": torch.tensor(2.0, device="meta")}), torch.zeros(T, B, C))
        with pytest.raises(TypeError, match="Branching.step cannot be traced"):
            call(Branching(), torch.zeros(T, B, C))


def test_without_a_compiler_outputs_and_gradients_are_the_same(monkeypatch):
    def run():
        x = sequence(T, B, C).requires_grad_()
        tau = torch.full((C,), 2.5, requires_grad=True)
        start = {"v": torch.full((B, C), 0.125, requires_grad=True)}
        s, state, traces = scan(LIF().bind({"tau": tau}), x, start, record=("v",))
        ((s + traces["v"]).sum() + state["v"].sum()).backward()
        return [s.detach(), state["v"].detach(), traces["v"].detach()], [x.grad, tau.grad, start["v"].grad]

    compiled = run()
    monkeypatch.setattr(cpu, "refusal", lambda: "hidden")
    monkeypatch.setattr(cpu, "library", lambda *_: pytest.fail("compiled"))
    plain = run()
    for a, b in zip(compiled[0], plain[0], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(compiled[1], plain[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    for x in (torch.zeros(0, B, C), torch.zeros(T, 0, C)):
        assert scan(LIF(), x).output.shape == x.shape and scan(LIF(), x).state["v"].shape == x.shape[1:]
    single = sequence(1, B, C).requires_grad_()
    scan(LIF(), single, steps=4).output.sum().backward()
    assert single.grad.shape == single.shape


NO_COMPILER = """
import warnings, torch
from snnkit.equations import LIF
from snnkit.ops import path, scan
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(3):
        s = scan(LIF(), torch.full((4, 1, 1), 1.5)).output
    print(path(LIF(), s))
print(s.flatten().tolist(), [str(w.message) for w in seen])
"""


def test_without_a_compiler_one_warning_with_the_remedy(tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path), "CXX": "", "SNNKIT_CACHE": str(tmp_path / "cache")}
    answer = subprocess.run(
        [sys.executable, "-c", NO_COMPILER], env=environment, capture_output=True, text=True, check=True
    )
    said, result = answer.stdout.splitlines()
    assert said.startswith("reference (cpu: no C++ compiler works") and "install g++" in said
    assert result.startswith("[0.0, 1.0, 0.0, 1.0]") and result.count("no C++ compiler works") == 1


@needs_compiler
@pytest.mark.parametrize("neuron", [LIF(), TwoStates()], ids=lambda n: type(n).__name__)
def test_where_there_are_vectors_of_64_bytes_the_reverse_takes_them(tmp_path, neuron):
    by = cpu.compiler()
    ask = subprocess.run([*by.command, *by.flags, "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, text=True)
    if "__AVX512F__" not in ask.stdout or "__clang__" in ask.stdout:
        pytest.skip("no AVX-512, or a compiler that knows no preference")
    (tmp_path / "scan.cpp").write_text(scan_cpu.text(plan_of(neuron).program, torch.float32, "", ()))
    command = [*by.command, "-O3", *by.flags, *cpu.REQUIRED, "-S", "-o", str(tmp_path / "scan.s")]
    subprocess.run([*command, str(tmp_path / "scan.cpp")], check=True)
    assert (tmp_path / "scan.s").read_text().count("zmm") > 50
