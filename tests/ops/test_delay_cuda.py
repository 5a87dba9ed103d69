"""Delay kernels and delayed sums on the GPU: the bits of the CPU, every way over time, graphs and streams."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from snnkit.ops import _delay_cuda, _delay_operator, _time_products, _time_spectra, _time_unfolded, cuda, delay, nvrtc
from snnkit.ops import delayed_sum as module
from snnkit.ops.delay import Bilinear, Gauss, Profile, Triangle, delay_kernel
from snnkit.ops.delayed_sum import delayed_sum, path
from tests.on_gpu import gpus
from tests.shared import needs_compiler

CASES = [(Bilinear(), False), (Triangle(), False), (Triangle(), True), (Gauss(), True)]
NAMES = ["bilinear", "v1", "triangle", "gauss"]
DTYPES = [torch.float32, torch.float64]
WAYS = {"spectra": _time_spectra, "products": _time_products, "one product": _time_unfolded, "conv1d": None}


gpu = gpus()


def leaves_of(wide: bool, size: int, M: int, dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
    """Weight, position (some whole, all on the taps) and width as leaves; the same numbers on every device."""
    random = torch.Generator().manual_seed(0)
    shape = (5, 70, M)  # 350 elements: two blocks of 128 and a part
    weight = torch.randn(shape, generator=random, dtype=dtype)
    position = (torch.rand(shape, generator=random, dtype=dtype) - 0.5) * size
    position[0, :9] = position[0, :9].round()
    position.clamp_(-(size // 2), size - 1 - size // 2)
    width = 2 * torch.randn(shape, generator=random, dtype=dtype)
    return [x.to(device).requires_grad_() for x in ((weight, position, width) if wide else (weight, position))]


def kernel_and_gradients(leaves: list[Tensor], size: int, profile: Profile) -> list[Tensor]:
    g = torch.randn(5, 70, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(leaves[0])
    h = delay_kernel(*leaves, size=size, profile=profile)
    return [h.detach(), *torch.autograd.grad(h, leaves, g)]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("code", range(3), ids=_delay_cuda.PROFILES)
def test_every_text_compiles(code: int, dtype: torch.dtype, architecture: str) -> None:
    try:
        nvrtc.version()
    except nvrtc.NoNVRTC as reason:
        pytest.skip(str(reason))
    for wide in (False, True):
        image = nvrtc.cubin(_delay_cuda.text(dtype, code, wide), architecture).read_bytes()
        assert b"delay_forward" in image and b"delay_backward" in image


def test_profiles_have_the_names_of_the_texts() -> None:
    named = {Bilinear: "BILINEAR", Triangle: "TRIANGLE", Gauss: "GAUSS"}
    assert [_delay_cuda.PROFILES[p.code] for p in named if p.code is not None] == list(named.values())


@needs_compiler
@gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize(("profile", "wide"), CASES, ids=NAMES)
@pytest.mark.parametrize(("size", "M"), [(1, 1), (2, 3), (31, 1), (63, 2)])
def test_bits_equal_those_of_the_cpu(profile: Profile, wide: bool, size: int, M: int, dtype: torch.dtype) -> None:
    assert cuda.refusal(0) is None
    on_cpu = kernel_and_gradients(leaves_of(wide, size, M, dtype), size, profile)
    on_gpu = kernel_and_gradients(leaves_of(wide, size, M, dtype, "cuda"), size, profile)
    for name, a, b in zip(("kernel", "weight", "position", "width"), on_gpu, on_cpu, strict=False):
        assert torch.equal(a.cpu(), b), name


@gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize(("profile", "wide"), CASES, ids=NAMES)
def test_compiled_equals_the_reference_on_the_gpu(profile: Profile, wide: bool, dtype: torch.dtype) -> None:
    leaves = leaves_of(wide, 31, 2, dtype, "cuda")
    found = kernel_and_gradients(leaves, 31, profile)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delay, "_refusal", lambda weight, profile: "cuda: not under this test")
        expected = kernel_and_gradients(leaves, 31, profile)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= (1e-12 if dtype == torch.float64 else 1e-5) * b.norm()


@gpu
def test_path_half_and_nan() -> None:
    leaves = leaves_of(True, 9, 1, torch.float32, "cuda")
    assert delay.path(leaves[0], Gauss()) == "cuda"
    h = delay_kernel(*[x.bfloat16() for x in leaves], size=9, profile=Gauss())
    expected = delay_kernel(*[x.bfloat16().float() for x in leaves], size=9, profile=Gauss())
    assert h.dtype == torch.bfloat16 and torch.equal(h, expected.bfloat16())
    nan = torch.full((1,), math.nan, device="cuda")
    assert delay_kernel(torch.ones_like(nan), nan, size=3, profile=Triangle()).isnan().all()
    assert delay_kernel(torch.zeros(0, 4, 1, device="cuda"), torch.zeros(0, 4, 1, device="cuda"), size=3,
                        profile=Bilinear()).shape == (0, 4, 3)  # fmt: skip


@gpu
@pytest.mark.parametrize("wide", [False, True])
def test_ops_pass_opcheck_on_the_gpu(wide: bool) -> None:
    profile: Profile = Gauss() if wide else Triangle()
    tensors = [x.detach() for x in leaves_of(wide, 4, 2, torch.float32, "cuda")] + [None] * (not wide)
    constants = (4, profile.code, profile.base)
    torch.library.opcheck(_delay_operator._forward.op, (*tensors, *constants))
    g = torch.randn(5, 70, 4, device="cuda")
    torch.library.opcheck(_delay_operator._backward.op, (g, *tensors, *constants, wide))
    x, kernel = torch.randn(9, 2, 3, device="cuda"), torch.randn(5, 3, 4, device="cuda")
    for dtype in (torch.float32, torch.bfloat16):
        x, kernel, g = x.to(dtype), kernel.to(dtype), torch.randn(11, 2, 5, device="cuda", dtype=dtype)
        torch.library.opcheck(module._forward.op, (x, kernel, 0, 11))
        torch.library.opcheck(module._backward.op, (g, x, kernel, 0, True, True))


@gpu
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [None, 6])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
def test_every_way_over_time_gives_the_sums_of_the_cpu(
    way: str, before: int | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(40, 3, 16, generator=random), torch.randn(24, 16, 9, generator=random)
    past = None if before is None else torch.randn(before, 3, 16, generator=random)
    g = torch.randn(44, 3, 24, generator=random, dtype=torch.float64)

    def run(device: str, dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.to(device, dtype).requires_grad_() for t in (x, kernel)]
        y = delayed_sum(*leaves, tail=4, past=None if past is None else past.to(device, dtype))
        return [y.detach(), *torch.autograd.grad(y, leaves, g.to(device, dtype))]

    expected = run("cpu", torch.float64)
    monkeypatch.setattr(module, "_way", lambda *call: WAYS[way])
    monkeypatch.setattr(module, "_by_products", lambda *call: way != "conv1d")
    with torch.backends.cudnn.flags(allow_tf32=False):
        for a, b in zip(run("cuda", dtype), expected, strict=True):
            assert (a.cpu() - b).norm() <= (1e-12 if dtype == torch.float64 else 2e-6) * b.norm()


@gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("piece", [2**28, 2**14])
def test_half_sums_are_those_of_double_rounded_once(
    piece: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_time_unfolded, "LARGEST_PIECE", piece)
    random = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(40, 3, 70, generator=random), torch.randn(24, 70, 31, generator=random)
    past, g = torch.randn(6, 3, 70, generator=random), torch.randn(44, 3, 24, generator=random)
    x, kernel, past, g = (t.to("cuda", dtype) for t in (x, kernel, past, g))
    assert path(x, kernel) == "one product"

    def run(dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.to(dtype).requires_grad_() for t in (x, kernel)]
        y = delayed_sum(*leaves, tail=4, past=past.to(dtype))
        return [y.detach(), *torch.autograd.grad(y, leaves, g.to(dtype))]

    found, again, expected = run(dtype), run(dtype), run(torch.float64)
    for a, b, exact in zip(found, again, expected, strict=True):
        assert torch.equal(a, b) and a.dtype == dtype
        assert (a.double() - exact).norm() < torch.finfo(dtype).eps / 2 * exact.norm()


@gpu
def test_rule_sends_large_layers_to_spectra_and_half_and_small_ones_to_one_product() -> None:
    x, kernel = torch.zeros(100, 128, 512, device="cuda"), torch.zeros(512, 512, 31, device="cuda")
    assert path(x, kernel) == "spectra (194 products)"
    assert path(x[:, :1], kernel) == path(x.half(), kernel.half()) == "one product"
    assert path(x, kernel[:, :256]) == "conv1d"  # groups


@gpu
def test_a_graph_replays_a_training_step_and_holds_its_own_memory() -> None:
    leaves = leaves_of(True, 9, 1, torch.float32, "cuda")
    x = torch.randn(12, 3, 70, device="cuda")

    def step() -> list[Tensor]:
        y = delayed_sum(x, delay_kernel(*leaves, size=9, profile=Gauss()))
        return [y, *torch.autograd.grad(y.square().sum(), leaves)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_way", lambda *call: _time_spectra)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        x.normal_()
        graph.replay()
        expected = step()
    for a, b in zip(captured, expected, strict=True):
        torch.testing.assert_close(a, b)


@gpu
def test_compiles_in_one_graph_on_the_gpu() -> None:
    leaves = leaves_of(True, 9, 1, torch.float32, "cuda")
    x = torch.randn(200, 64, 70, device="cuda")

    def loss(*leaves: Tensor) -> Tensor:
        return delayed_sum(x, delay_kernel(*leaves, size=9, profile=Gauss())).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for a, b in zip(torch.autograd.grad(compiled(*leaves), leaves), torch.autograd.grad(loss(*leaves), leaves),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b)


@gpu
def test_the_same_call_gives_the_same_bits() -> None:
    leaves = leaves_of(True, 31, 2, torch.float32, "cuda")
    x = torch.randn(100, 128, 70, device="cuda")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_way", lambda *call: _time_spectra)
        found = []
        for _ in range(2):
            y = delayed_sum(x, delay_kernel(*leaves, size=31, profile=Gauss()))
            found.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@gpu
def test_gradients_per_sample_work_on_the_gpu() -> None:
    weight, position, width = (x.detach()[0, :3] for x in leaves_of(True, 5, 1, torch.float64, "cuda"))
    g = torch.randn(4, 3, 5, dtype=torch.float64, device="cuda")

    def loss(position: Tensor, g: Tensor) -> Tensor:
        return (delay_kernel(weight, position, width, size=5, profile=Gauss()) * g).sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(position, g)
    for i in range(4):
        torch.testing.assert_close(each[i], torch.func.grad(loss)(position, g[i]))


@gpu
def test_a_busy_side_stream_is_waited_for() -> None:
    given = [x.detach() for x in leaves_of(True, 9, 1, torch.float32, "cuda")]
    expected = kernel_and_gradients([x.clone().requires_grad_() for x in given], 9, Gauss())
    leaves = [torch.ones_like(x).requires_grad_() for x in given]
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(100_000_000)  # what does not wait for this takes ones for the parameters
        for leaf, x in zip(leaves, given, strict=True):
            leaf.data.copy_(x)
        found = kernel_and_gradients(leaves, 9, Gauss())
    side.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@gpus(2)
@pytest.mark.parametrize("order", [("cuda:0", "cuda:1"), ("cuda:1", "cuda:0")], ids="then".join)
@pytest.mark.parametrize("current", [0, 1])
def test_tensors_on_another_gpu_than_the_current_one(current: int, order: tuple[str, str]) -> None:
    _delay_cuda._function.cache_clear()  # each order loads its kernels anew
    x, found = torch.randn(12, 3, 70, generator=torch.Generator().manual_seed(0)), []
    with torch.cuda.device(current):
        for device in order:
            leaves = leaves_of(True, 9, 1, torch.float32, device)
            h, *gradients = kernel_and_gradients(leaves, 9, Gauss())
            y = delayed_sum(x.to(device), delay_kernel(*leaves, size=9, profile=Gauss()))
            results = [h, *gradients, y.detach(), *torch.autograd.grad(y.square().sum(), leaves)]
            assert {t.device for t in results} == {torch.device(device)} and torch.cuda.current_device() == current
            found.append([t.cpu() for t in results])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)) and found[0][0].any()
