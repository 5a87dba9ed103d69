"""Dense delay kernels: the official numbers, compiled = reference, and what torch's transforms see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnkit.ops import _delay_cpu, _delay_operator, delay
from snnkit.ops.delay import Bilinear, Gauss, Profile, Triangle, delay_kernel
from snnkit.ops.delayed_sum import delayed_sum
from tests.shared import Fixture, fixture

FIXTURES = ["v1", "v1_even", "vmax", "gauss", "gauss_narrow", "gauss_even", "gauss_groups"]
PROFILES = {"v1": Triangle(), "max": Triangle(), "gauss": Gauss()}
CASES = [(Bilinear(), False), (Triangle(), False), (Triangle(), True), (Gauss(), True)]
compiled = pytest.mark.skipif(_delay_cpu.refusal() is not None, reason=str(_delay_cpu.refusal()))


@pytest.fixture(params=["reference", pytest.param("compiled", marks=compiled)])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test that asks for it runs once for each implementation."""
    if request.param == "reference":
        monkeypatch.setattr(delay, "_refusal", lambda weight, profile: "cpu: not under this test")
    return request.param


def tensor(f: Fixture, name: str) -> Tensor:
    return torch.from_numpy(f[name]).double()


def parameters(f: Fixture) -> dict[str, Tensor]:
    """Weight, P and SIG as leaves, by name; P and SIG in the weight's shape."""
    weight = tensor(f, "state/weight").requires_grad_()
    found = {"weight": weight}
    for name in ("P", "SIG"):
        if f"state/{name}" in f:
            found[name] = tensor(f, f"state/{name}").view_as(weight).clone().requires_grad_()
    return found


def close(answer: Tensor, expected: np.ndarray | Tensor, tolerance: float = 1e-9) -> bool:
    """Norm of the difference over norm; absolute where the expected tensor is zero."""
    expected = torch.as_tensor(expected).double().flatten()
    scale = expected.norm().item() or 1.0
    return (answer.detach().double().flatten() - expected).norm().item() <= tolerance * scale


def random_case(
    profile: Profile, wide: bool, size: int, M: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[Tensor]:
    """Weight, position (some whole, some outside the taps) and width as leaves."""
    random = torch.Generator().manual_seed(seed)
    shape = (3, 70, M)  # 210 elements: more than three blocks of 64, the last one not full
    weight = torch.randn(shape, generator=random, dtype=dtype)
    position = (torch.rand(shape, generator=random, dtype=dtype) - 0.5) * (size + 1)
    position[0, :9] = position[0, :9].round()
    width = 2 * torch.randn(shape, generator=random, dtype=dtype)
    return [x.requires_grad_() for x in ((weight, position, width) if wide else (weight, position))]


@pytest.mark.parametrize("name", FIXTURES)
def test_official_kernel_and_its_gradients_are_met(name: str, form: str) -> None:
    f = fixture(f"dcls1d_{name}")
    leaves = parameters(f)
    profile, size = PROFILES[f.config["version"]], f.config["dilated_kernel_size"]
    h = delay_kernel(*leaves.values(), size=size, profile=profile)
    assert close(h, f["output/kernel"])
    gradients = torch.autograd.grad((h * tensor(f, "input/kernel_loss_weight")).sum(), list(leaves.values()))
    for key, g in zip(leaves, gradients, strict=True):
        assert close(g, f[f"grad_kernel_loss/{key}"]), key


@pytest.mark.parametrize("name", FIXTURES)
def test_official_convolution_and_its_gradients_are_met(name: str, form: str) -> None:
    f = fixture(f"dcls1d_{name}")
    leaves = parameters(f)
    profile, size = PROFILES[f.config["version"]], f.config["dilated_kernel_size"]
    x = tensor(f, "input/x").requires_grad_()
    left, right = f.info["pad"]
    assert left == size - 1
    y = delayed_sum(x.permute(2, 0, 1), delay_kernel(*leaves.values(), size=size, profile=profile), tail=right)
    if "state/bias" in f:
        leaves["bias"] = tensor(f, "state/bias").requires_grad_()
        y = y + leaves["bias"]
    y = y.permute(1, 2, 0)
    assert close(y, f["output/y"])
    loss = (y * tensor(f, "input/loss_weight")).sum()
    *gradients, g_x = torch.autograd.grad(loss, [*leaves.values(), x])
    assert close(g_x, f["grad_input/x"])
    for key, g in zip(leaves, gradients, strict=True):
        assert close(g, f[f"grad/{key}"]), key


@pytest.mark.parametrize("name", FIXTURES)
def test_official_discrete_kernel_is_met(name: str, form: str) -> None:
    f = fixture(f"dcls1d_{name}")
    leaves, size = parameters(f), f.config["dilated_kernel_size"]
    position = leaves["P"].round().clamp(-(size // 2), size // 2)  # the official range, which loses synapses if even
    h = delay_kernel(leaves["weight"], position, size=size, profile=Triangle())
    assert close(h, f["output_eval/kernel_rounded"])


@compiled
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("profile", "wide"), CASES, ids=["bilinear", "v1", "triangle", "gauss"])
@pytest.mark.parametrize("size", [2, 3, 31, 63])
def test_compiled_equals_reference(profile: Profile, wide: bool, size: int, dtype: torch.dtype) -> None:
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    g = torch.randn(3, 70, size, dtype=dtype, generator=torch.Generator().manual_seed(1))
    leaves = random_case(profile, wide, size, dtype=dtype)
    with torch.no_grad():  # one tap alone: the gradient is the 1e-7 in the sum, and its digits cancel in either form
        leaves[1].clamp_(-(size // 2), size - 1 - size // 2)
    expected = delay.reference(*leaves, size=size, profile=profile)
    answer = delay_kernel(*leaves, size=size, profile=profile)
    assert answer.dtype == dtype and answer.shape == (3, 70, size)
    assert close(answer, expected.detach(), 1e-12 if dtype == torch.float64 else 1e-6)
    for a, b in zip(torch.autograd.grad(answer, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True):
        assert close(a, b, tolerance)


@compiled
@pytest.mark.parametrize("threads", [1, 2])
def test_bits_do_not_depend_on_the_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (70, 80, 1)  # above 4096 elements, from where threads are used
    random = torch.Generator().manual_seed(0)
    leaves = [torch.randn(shape, generator=random).requires_grad_() for _ in range(3)]

    def run() -> list[Tensor]:
        h = delay_kernel(*leaves, size=5, profile=Gauss())
        return [h.detach(), *torch.autograd.grad(h.square().sum(), leaves)]

    monkeypatch.setattr("snnkit.ops.cpu.threads", lambda: threads)
    first = run()
    monkeypatch.setattr("snnkit.ops.cpu.threads", lambda: 1)
    assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


@pytest.mark.parametrize(("profile", "wide"), CASES, ids=["bilinear", "v1", "triangle", "gauss"])
def test_finite_differences_agree_away_from_kinks(profile: Profile, wide: bool, form: str) -> None:
    weight = torch.tensor([[0.7, -1.3], [0.4, 2.0]], dtype=torch.float64)
    position = torch.tensor([[0.31, -1.43], [1.77, -2.9]], dtype=torch.float64)  # no tap at u = 0, +-1 or +-s
    width = torch.tensor([[0.4, -0.77], [1.33, 0.15]], dtype=torch.float64)
    leaves = [x.requires_grad_() for x in ((weight, position, width) if wide else (weight, position))]
    assert torch.autograd.gradcheck(lambda *a: delay_kernel(*a, size=7, profile=profile), leaves)


def test_triangle_on_a_whole_tap_has_no_gradient_of_position(form: str) -> None:
    leaves = [torch.tensor([2.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)]
    h = delay_kernel(*leaves, size=5, profile=Triangle())
    assert torch.autograd.grad(h[3] + 2 * h[4] - h[2], leaves)[1].item() == 0


@given(
    position=st.floats(-9, 9, allow_nan=False),
    width=st.floats(-20, 20, allow_nan=False),
    size=st.integers(1, 40),
    case=st.sampled_from(CASES[1:]),
)
@settings(max_examples=60, deadline=None)
def test_taps_of_an_element_sum_to_its_weight(
    position: float, width: float, size: int, case: tuple[Profile, bool]
) -> None:
    profile, wide = case
    position = max(-(size // 2), min(size - 1 - size // 2, position))
    arguments = [
        torch.tensor([value], dtype=torch.float64) for value in ((3.0, position, width) if wide else (3.0, position))
    ]
    h = delay_kernel(*arguments, size=size, profile=profile)
    # Inside the taps the raw profile sums to at least exp(-1 / (8 * 0.27^2)) = 0.18, so eps takes at most 6e-7.
    assert (h >= 0).all() and abs(h.sum().item() - 3.0) < 3.0 * 6e-7


@given(tap=st.integers(0, 12), case=st.sampled_from(CASES[:2]))
@settings(max_examples=30, deadline=None)
def test_whole_positions_sit_on_one_tap(tap: int, case: tuple[Profile, bool]) -> None:
    h = delay_kernel(torch.tensor([1.0]), torch.tensor([tap - 6.0]), size=13, profile=case[0])
    assert h.nonzero().flatten().tolist() == [tap]


@compiled
def test_half_computes_in_float32_and_returns_half() -> None:
    leaves = random_case(Gauss(), True, 9, dtype=torch.float32)
    half = [x.detach().bfloat16().requires_grad_() for x in leaves]
    h = delay_kernel(*half, size=9, profile=Gauss())
    assert h.dtype == torch.bfloat16
    assert torch.equal(h, delay_kernel(*[x.float() for x in half], size=9, profile=Gauss()).bfloat16())
    assert all(g.dtype == torch.bfloat16 for g in torch.autograd.grad(h.sum(), half))


@pytest.mark.parametrize(("profile", "wide"), CASES[1:], ids=["v1", "triangle", "gauss"])
def test_nan_position_gives_nan_taps(profile: Profile, wide: bool, form: str) -> None:
    arguments = [torch.ones(1), torch.full((1,), float("nan")), torch.ones(1)]
    assert delay_kernel(*arguments[: 2 + wide], size=3, profile=profile).isnan().all()


def test_a_delay_per_input_broadcasts_over_the_outputs(form: str) -> None:
    weight = torch.randn(3, 5, 1, dtype=torch.float64)
    position = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None].requires_grad_()
    h = delay_kernel(weight, position, size=7, profile=Triangle())
    full = position.detach().expand(3, 5, 1).clone().requires_grad_()
    torch.testing.assert_close(h, delay_kernel(weight, full, size=7, profile=Triangle()))
    (g,) = torch.autograd.grad(h.square().sum(), position)
    (expected,) = torch.autograd.grad(delay_kernel(weight, full, size=7, profile=Triangle()).square().sum(), full)
    torch.testing.assert_close(g, expected.sum(0))


@compiled
def test_an_empty_layer_is_an_empty_kernel() -> None:
    assert delay_kernel(torch.zeros(0, 4, 1), torch.zeros(0, 4, 1), size=3, profile=Bilinear()).shape == (0, 4, 3)


@compiled
@pytest.mark.parametrize("wide", [False, True])
def test_ops_pass_opcheck(wide: bool) -> None:
    profile: Profile = Gauss() if wide else Triangle()
    for dtype in (torch.float32, torch.float64):
        tensors = [x.detach() for x in random_case(profile, wide, 4, dtype=dtype)] + [None] * (not wide)
        constants = (4, profile.code, profile.base)
        torch.library.opcheck(_delay_operator._forward.op, (*tensors, *constants))
        tensors[0] = tensors[0].transpose(0, 1).contiguous().transpose(0, 1)
        torch.library.opcheck(_delay_operator._forward.op, (*tensors, *constants))
        for g in (torch.randn(3, 70, 4, dtype=dtype), torch.randn(4, 3, 70, dtype=dtype).movedim(0, -1)):
            torch.library.opcheck(_delay_operator._backward.op, (g, *tensors, *constants, wide))


@compiled
def test_compiles_in_one_graph() -> None:
    leaves = random_case(Gauss(), True, 9)

    def loss(*arguments: Tensor) -> Tensor:
        return delay_kernel(*arguments, size=9, profile=Gauss()).square().sum()

    expected = torch.autograd.grad(loss(*leaves), leaves)
    answer = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*leaves), leaves)
    for a, b in zip(answer, expected, strict=True):
        assert close(a, b, 1e-14)


def test_gradients_per_sample_hessians_and_tangents_work() -> None:
    weight, position, width = (x.detach()[0, :3, :1] for x in random_case(Gauss(), True, 5))
    g = torch.randn(4, 3, 5, dtype=torch.float64)

    def loss(position: Tensor, g: Tensor) -> Tensor:
        return (delay_kernel(weight, position, width, size=5, profile=Gauss()) * g).sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(position, g)
    for i in range(4):
        leaf = position.clone().requires_grad_()
        torch.testing.assert_close(each[i], torch.autograd.grad(loss(leaf, g[i]), leaf)[0])
    _, tangent = torch.func.jvp(lambda p: loss(p, g[0]), (position,), (torch.ones_like(position),))
    torch.testing.assert_close(tangent, each[0].sum())
    hessian = torch.func.hessian(lambda p: loss(p, g[0]))(position)
    assert hessian.shape == (3, 1, 3, 1) and hessian.abs().sum() > 0


def test_second_derivatives_are_right_although_the_upstream_gradient_is_constant(form: str) -> None:
    weight, position, width = (x.detach()[0, 10:12].requires_grad_() for x in random_case(Gauss(), True, 5))
    assert torch.autograd.gradgradcheck(
        lambda *a: delay_kernel(*a, size=5, profile=Gauss()).sum(0), (weight, position, width)
    )
    twice = delay_kernel(weight, weight, width, size=5, profile=Gauss()).square().sum()  # one tensor, two roles
    (with_graph,) = torch.autograd.grad(twice, weight, create_graph=True)
    torch.testing.assert_close(with_graph, torch.autograd.grad(twice, weight)[0])


def test_an_own_profile_runs_as_reference() -> None:
    class Box(Profile):
        def taps(self, u: Tensor, s: Tensor | float) -> Tensor:
            return (u.abs() < 1.5).to(u.dtype)

    h = delay_kernel(torch.tensor([3.0]), torch.tensor([0.0]), size=5, profile=Box())
    torch.testing.assert_close(h, torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]))
    assert delay.path(torch.zeros(1), Box()) == "reference (cpu: Box has no compiled form)"


def test_path_says_what_is_taken_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    if _delay_cpu.refusal() is None:
        assert delay.path(torch.zeros(1), Gauss()) == "cpu (compiled C++)"
    assert delay.path(torch.zeros(1, device="meta"), Gauss()) == "reference (cpu: weight is on meta)"
    monkeypatch.setattr(_delay_cpu, "refusal", lambda: "no C++ compiler works: install g++")
    assert delay.path(torch.zeros(1), Gauss()) == "reference (cpu: no C++ compiler works: install g++)"
    assert delay_kernel(torch.ones(1), torch.zeros(1), size=1, profile=Bilinear()).item() == 1


def test_bad_input_is_named() -> None:
    weight, position = torch.ones(3, 5, 1), torch.zeros(3, 5, 1)
    with pytest.raises(ValueError, match=r"position \(4, 1\) does not broadcast to weight \(3, 5, 1\)"):
        delay_kernel(weight, torch.zeros(4, 1), size=3, profile=Triangle())
    with pytest.raises(ValueError, match="position is on meta, weight on cpu"):
        delay_kernel(weight, position.to("meta"), size=3, profile=Triangle())
    with pytest.raises(ValueError, match="at least 1, got 0"):
        delay_kernel(weight, position, size=0, profile=Triangle())
    with pytest.raises(ValueError, match="Gauss needs a width"):
        delay_kernel(weight, position, size=3, profile=Gauss())
    with pytest.raises(ValueError, match="Bilinear has no width"):
        delay_kernel(weight, position, weight, size=3, profile=Bilinear())
    with pytest.raises(ValueError, match="must be floating"):
        delay_kernel(weight.long(), position, size=3, profile=Bilinear())
