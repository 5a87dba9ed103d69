"""LSQ's CUDA kernels: torch's own numbers, on the CPU and on a GPU; layouts, graphs, and the kernels of a pass."""

from __future__ import annotations

import copy
import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from snnkit.nn import quant
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.quant import LSQConv2d, LSQLinear, lsq
from snnkit.ops import cpu, cuda, lsq_cuda, nvrtc
from tests.closeness import error
from tests.cuda_on_cpu import Emulated
from tests.on_gpu import DEVICE, gpus

TROUBLE = cuda.nvrtc_trouble()
DTYPES = [torch.float32, torch.float64]
# Fewer weights a channel than threads, more, many channels, and one; channels-last, and axes turned.
SHAPES = {"depthwise": (70, 1, 3, 3), "wide": (5, 70, 3, 3), "pointwise": (6, 40, 1, 1), "linear": (1, 700)}
LAYOUTS = {
    "contiguous": lambda w: w.contiguous(),
    "channels-last": lambda w: w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 else w,
    "turned": lambda w: w.transpose(1, -1).contiguous().transpose(1, -1),
}


def takes_cpu(weight: Tensor, *others: Tensor) -> bool:
    """As ``lsq_cuda.takes``, for tensors of the CPU."""
    plain = all(map(lsq_cuda.is_plain, (weight, *others))) and not lsq_cuda.transformed()
    return plain and lsq_cuda._channels_are_rows(weight.shape, weight.stride())


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """The kernels' texts run as C++, and init_state is not looked at, as on a GPU."""
    lsq_cuda._function.cache_clear()
    with (
        mock.patch.object(lsq_cuda, "Function", Emulated),
        mock.patch.object(lsq_cuda, "takes", takes_cpu),
        mock.patch.object(quant._Quantized, "_known_to_be_set", lambda self: False),
    ):
        yield
    lsq_cuda._function.cache_clear()


@contextmanager
def by_torch() -> Iterator[None]:
    """No kernels: the reference."""
    with mock.patch.object(lsq_cuda, "takes", lambda *tensors: False):
        yield


DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(cpu.refusal() is not None, reason=f"no compiler: {cpu.refusal()}")),
    pytest.param(DEVICE, marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]),
]
devices = pytest.mark.parametrize("device", DEVICES)


@contextmanager
def kernels(device: str) -> Iterator[None]:
    """Inside, the kernels run, and nothing else does their work."""
    if device == "cpu":
        with on_the_cpu():
            yield
    else:
        assert cuda.refusal(0) is None
        yield


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


def steps_of(channels: int, **options) -> Tensor:
    """Steps of which some weights fall outside; learning may turn the sign of one."""
    alpha = drawn(channels, seed=1, **options).abs() * 0.2 + 0.2
    alpha[0] *= -1
    return alpha


def weight_and_gradients(weight: Tensor, alpha: Tensor, g: Tensor, bits: int) -> list[Tensor]:
    leaves = [weight.detach().requires_grad_(), alpha.detach().requires_grad_()]
    w_q = lsq(*leaves, bits)
    return [w_q.detach(), *torch.autograd.grad(w_q, leaves, g)]


@pytest.mark.skipif(TROUBLE is not None and TROUBLE.absent, reason=f"no NVRTC: {TROUBLE}")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_text_compiles(dtype, architecture):
    for threads in lsq_cuda._THREADS:
        code = lsq_cuda.text(dtype, threads) + f"static_assert(sizeof(Arguments) == {len(lsq_cuda._pack(*[0] * 12))});"
        image = nvrtc.cubin(code, architecture).read_bytes()
        assert all(name in image for name in (b"lsq_steps", b"lsq_forward", b"lsq_backward"))


@devices
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_those_of_torch_in_every_layout(shape, layout, dtype, device):
    weight = LAYOUTS[layout](drawn(*shape, dtype=dtype, device=device))
    alpha = steps_of(shape[0], dtype=dtype, device=device)
    arriving = drawn(*shape, seed=2, dtype=dtype, device=device)
    for g in (arriving, LAYOUTS["channels-last"](arriving), arriving[:, :1].expand(shape)):
        for bits in (2, 4, 8):
            with by_torch():
                expected = weight_and_gradients(weight, alpha, g, bits)
            with kernels(device), mock.patch.object(Tensor, "clamp", side_effect=RuntimeError("torch's own way")):
                found = weight_and_gradients(weight, alpha, g, bits)
            assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
            assert found[0].stride() == expected[0].stride() and found[2].shape == alpha.shape
            # Torch adds up in the weight's own dtype, and here in double.
            assert error(found[2], expected[2]) < (1e-5 if dtype == torch.float32 else 1e-13)
            assert (found[1] == 0).any() == (bits < 8) and found[1].any()


@devices
def test_one_step_for_all_channels_gets_the_sum_of_their_gradients(device):
    weight, g, alpha = drawn(5, 40, device=device), drawn(5, 40, seed=2, device=device), torch.full((1,), 0.3).double()
    found = []
    for way in (by_torch(), kernels(device)):
        step = alpha.to(device).requires_grad_()
        with way:
            w_q = lsq(weight, step.expand(5), 3)
            found.append([w_q, *torch.autograd.grad(w_q, step, g)])
    assert torch.equal(found[0][0], found[1][0]) and error(found[1][1], found[0][1]) < 1e-12


@devices
def test_nan_weights_are_seen_and_the_ends_pass_gradients(device):
    weight = torch.tensor([[math.nan, 1.0], [-2.0, 1.001]], device=device)
    with kernels(device):
        w_q, dw, g_alpha = weight_and_gradients(weight, torch.ones(2, device=device), torch.ones_like(weight), 2)
    assert w_q.isnan().tolist() == [[True, False], [False, False]] and w_q[1].tolist() == [-2.0, 1.0]
    assert dw.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert g_alpha.isnan().tolist() == [True, False] and g_alpha[1].item() == 0.5  # (0 + 1) / sqrt(4)


@devices
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_first_pass_sets_the_steps_of_the_reference_and_no_later_one_does(dtype, device):
    torch.manual_seed(0)
    module = LSQConv2d(70, 6, 3, bits=3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        module.weight.mul_(3.0)  # as if loaded from a layer of full precision
        module.alpha.fill_(math.nan)
    plain = copy.deepcopy(module)
    with by_torch():
        expected = plain._weight_of_this_pass()
    with kernels(device), torch.no_grad():
        before = module.eval()._weight_of_this_pass()  # in eval mode as it will be, and nothing is kept
        assert module.init_state.item() == 0 and module.alpha.isnan().all()
    with kernels(device):
        w_q = module.train()._weight_of_this_pass()
    close = 1e-6 if dtype == torch.float32 else 1e-14
    assert torch.equal(before, w_q) and error(module.alpha, plain.alpha) < close and error(w_q, expected) < close
    assert module.init_state.tolist() == [1.0] and module.init_state.dtype == dtype
    alpha = module.alpha.detach().clone()
    with torch.no_grad():
        module.weight.mul_(2.0)
    with kernels(device):
        module._weight_of_this_pass()
        assert torch.equal(module.alpha, alpha)
        module.init_state.zero_()  # as a checkpoint of a layer that never ran
        module._weight_of_this_pass()
    assert error(module.alpha, 2 * alpha) < close and module.init_state.item() == 1


@devices
def test_a_layer_of_zeros_waits_with_its_steps(device):
    module = LSQLinear(6, 5, device=device)
    nn.init.zeros_(module.weight)
    with kernels(device):
        assert not module._weight_of_this_pass().any()
        assert module.init_state.item() == 0 and (module.alpha == 1).all()
        with torch.no_grad():
            module.weight[0, 0] = 3.0
        module._weight_of_this_pass()
    expected = 2 * 3.0 / 30 / math.sqrt(7)
    assert module.init_state.item() == 1 and module.alpha[4].item() == pytest.approx(expected, rel=1e-6)


def trained(module: nn.Module, x: Tensor, passes: int = 3) -> list[Tensor]:
    """Parameters, buffers and gradients after some steps of gradient descent."""
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(passes):
        optimizer.zero_grad()
        (module(x).square().mean() + module(x[1:]).square().mean()).backward()
        optimizer.step()
    return [*module.state_dict().values(), *(p.grad for p in module.parameters())]


@devices
def test_a_network_trains_as_with_the_reference_in_eval_mode_too(device):
    torch.manual_seed(0)
    net = nn.Sequential(LSQConv2d(3, 8, 3, bits=3), nn.Flatten(), LSQLinear(8 * 9, 4, bits=2)).double().to(device)
    plain, x = copy.deepcopy(net), drawn(6, 3, 5, 5, device=device)
    with by_torch():
        expected = trained(plain, x)
    with kernels(device):
        found = trained(net, x)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and error(a, b) < 1e-11
    for each in (net, plain):
        each.eval().zero_grad()
    with by_torch():
        plain(x).sum().backward()
    with kernels(device):
        net(x).sum().backward()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        assert error(p.grad, q.grad) < 1e-11


@devices
def test_a_second_derivative_and_a_checkpointed_pass_are_those_of_the_reference(device):
    def second(module: nn.Module) -> Tensor:
        y = checkpoint(module, drawn(3, 7, device=device).requires_grad_())
        found = torch.autograd.grad(y.square().sum(), [module.weight, module.alpha], create_graph=True)
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(sum(g.square().sum() for g in found), list(module.parameters()))]
        )

    torch.manual_seed(0)
    module = LSQLinear(7, 5, bias=False, bits=3, dtype=torch.float64, device=device)
    plain = copy.deepcopy(module)
    with by_torch():
        expected = second(plain)
    with kernels(device):
        found = second(module)
    assert expected.all() and error(found, expected) < 1e-12


def test_rows_of_channels_are_known_by_their_strides():
    w = torch.zeros(6, 4, 3, 5)
    for whole in (w, w.contiguous(memory_format=torch.channels_last), w.transpose(2, 3), w[2:4], w[:1, :, :, :]):
        assert lsq_cuda._channels_are_rows(whole.shape, whole.stride())
    for other in (w.transpose(0, 1), w[::2], w[:, 1:], w[:1, :1].expand_as(w), w[..., 0], torch.zeros(())):
        assert not lsq_cuda._channels_are_rows(other.shape, other.stride())
    assert not lsq_cuda.takes(w)


# --- on a GPU -----------------------------------------------------------------------------------------------------


def layer(dtype: torch.dtype = torch.float32, size: int = 200) -> LSQConv2d:
    torch.manual_seed(0)
    return LSQConv2d(size, 70, 3, padding=1, dtype=dtype, device=DEVICE).to(memory_format=torch.channels_last)


def one_pass(module: LSQConv2d, g: Tensor) -> list[Tensor]:
    w_q = module._weight_of_this_pass()
    return [w_q, *torch.autograd.grad(w_q, [module.weight, module.alpha], g)]


@gpus()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_and_gaps_keep_to_torchs_operations(dtype):
    assert lsq_cuda.takes(layer().weight) and not lsq_cuda.takes(layer(dtype).weight)
    assert not lsq_cuda.takes(layer().weight.transpose(0, 1)) and not lsq_cuda.takes(layer().weight, torch.ones(70))
    module = layer(dtype)
    assert module(drawn(2, 200, 5, 4, dtype=dtype, device=DEVICE)).dtype == dtype and module.init_state.item() == 1
    with torch.autocast(DEVICE, dtype=dtype):
        assert layer()(drawn(2, 200, 5, 4, dtype=torch.float32, device=DEVICE)).dtype == dtype


@gpus()
def test_a_pass_waits_for_nothing_and_gives_the_same_bits_again():
    g = drawn(70, 200, 3, 3, seed=2, dtype=torch.float32, device=DEVICE)
    one_pass(layer(), g)  # compiles
    modules = [layer(), layer()]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [[*one_pass(module, g), module.alpha] for module in modules]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def nodes(module: LSQConv2d, g: Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    """Kernels and copies of a training pass, in a graph."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # which takes kernels, too
    one_pass(module, g)
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph):
        one_pass(module, g)
    count = ctypes.c_size_t()
    status = ctypes.CDLL("libcuda.so.1").cuGraphGetNodes(
        ctypes.c_void_p(graph.raw_cuda_graph()), None, ctypes.byref(count)
    )
    assert status == 0
    return count.value


@gpus()
@pytest.mark.parametrize("shape", [(70, 200, 3, 3), (70, 200, 1, 1)], ids=["3 x 3", "1 x 1"])
def test_a_training_pass_takes_three_kernels_wherever_a_gradient_of_its_layout_comes_from(shape, monkeypatch):
    torch.manual_seed(0)
    module = LSQConv2d(*shape[1::-1], shape[2], device=DEVICE).to(memory_format=torch.channels_last)
    x = torch.randn(2, 200, 5, 4, device=DEVICE).contiguous(memory_format=torch.channels_last)
    w_q = module._weight_of_this_pass().detach().requires_grad_()
    g = torch.autograd.grad(nn.functional.conv2d(x, w_q).square().sum(), w_q)[0]  # as cuDNN lays it
    assert nodes(module, g, monkeypatch) == 3
    with by_torch():
        assert nodes(module, g, monkeypatch) > 20


@gpus()
def test_a_graph_replays_training_steps_of_which_the_first_sets_the_steps():
    def step(module: LSQConv2d, x: Tensor) -> None:
        gradients = torch.autograd.grad(module(x).square().mean(), list(module.parameters()))
        with torch.no_grad():
            for p, g in zip(module.parameters(), gradients, strict=True):
                p -= 0.1 * g

    x = drawn(2, 8, 5, 4, device=DEVICE)
    module, eager = layer(torch.float64, 8), layer(torch.float64, 8)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(copy.deepcopy(module), x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(module, x)
    assert module.init_state.item() == 0
    for _ in range(3):
        graph.replay()
        step(eager, x)
    for a, b in zip(module.state_dict().values(), eager.state_dict().values(), strict=True):
        assert error(a, b) < 1e-12
    assert module.init_state.item() == 1


@gpus()
def test_it_compiles_in_one_graph_with_the_same_numbers():
    torch._dynamo.reset()
    module, other = layer(torch.float64, 8), layer(torch.float64, 8)
    compiled, x = torch.compile(module, backend="aot_eager", fullgraph=True), drawn(2, 8, 5, 4, device=DEVICE)
    for _ in range(2):
        y, expected = compiled(x), other(x)
        y.square().sum().backward()
        expected.square().sum().backward()
        assert error(y, expected) < 1e-12
    for p, q in zip(module.parameters(), other.parameters(), strict=True):
        assert error(p, q) < 1e-12 and error(p.grad, q.grad) < 1e-12


@gpus()
def test_gradients_per_sample_work_on_the_gpu():
    weight, alpha = drawn(4, 3, 2, device=DEVICE), drawn(4, 3, seed=1, device=DEVICE).abs() + 0.1
    got = torch.func.vmap(torch.func.grad(lambda w, a: lsq(w, a, 3).square().sum(), argnums=(0, 1)))(weight, alpha)
    for i in range(4):
        w, a = weight[i].clone().requires_grad_(), alpha[i].clone().requires_grad_()
        for ours, one in zip(got, torch.autograd.grad(lsq(w, a, 3).square().sum(), (w, a)), strict=True):
            torch.testing.assert_close(ours[i], one)


@gpus(2)
@pytest.mark.parametrize("current", [0, 1])
def test_a_layer_on_another_gpu_than_the_current_one(current):
    g = drawn(70, 200, 3, 3, seed=2, dtype=torch.float32)
    found = []
    for device in (0, 1):
        with torch.cuda.device(current):
            found.append([t.cpu() for t in one_pass(layer().to(f"cuda:{device}"), g.to(f"cuda:{device}"))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
