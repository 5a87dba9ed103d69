"""Delayed sums over time: products = torch's convolution, for every way to start and end a sequence."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnkit.ops import _time_products, _time_spectra, _time_unfolded
from snnkit.ops import delayed_sum as module
from snnkit.ops.delayed_sum import delayed_sum, path


@pytest.fixture(autouse=True)
def products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small cases would go to conv1d."""
    monkeypatch.setattr(module, "LEAST_MATRIX", 0)


def case(T: int, K: int = 7, dtype: torch.dtype = torch.float64, B: int = 2, C: int = 3) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(T)
    x = torch.randn(T, B, C, generator=random, dtype=dtype)
    return x.requires_grad_(), torch.randn(5, C, K, generator=random, dtype=dtype).requires_grad_()


def by_hand(x: Tensor, kernel: Tensor, tail: int, past: Tensor | None) -> Tensor:
    """The formula, one step and delay at a time."""
    whole = x if past is None else torch.cat([past, x])
    first, K = len(whole) - len(x), kernel.shape[-1]
    rows = []
    for t in range(first, len(whole) + tail):
        terms = [whole[t - D] @ kernel[..., K - 1 - D].T for D in range(K) if 0 <= t - D < len(whole)]
        rows.append(sum(terms, x.new_zeros(x.shape[1], len(kernel))))
    y = torch.stack(rows) if rows else x.new_zeros(0, x.shape[1], len(kernel))
    return y + 0 * kernel.sum()  # keeps the graph where no term exists


@pytest.mark.parametrize(
    "way", ["products", "halves", "quarters", "spectra", "blocks of spectra", "one product", "conv1d"]
)
@pytest.mark.parametrize("before", [None, 2, 6, 30])
@pytest.mark.parametrize("tail", [0, 3, 20])
@pytest.mark.parametrize("T", [0, 1, 3, 63])
def test_equals_the_formula(T: int, tail: int, before: int | None, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way in ("halves", "quarters"):
        monkeypatch.setattr(_time_products, "depth", lambda *sizes: 1 if way == "halves" else 2)
    if way == "blocks of spectra":
        monkeypatch.setattr(_time_spectra, "_blocks", lambda K, length: (4, (length + 3) // 4))
    if way.endswith("spectra"):
        monkeypatch.setattr(module, "_way", lambda *call: _time_spectra)
    if way == "one product":
        monkeypatch.setattr(module, "_way", lambda *call: _time_unfolded)
        monkeypatch.setattr(_time_unfolded, "LARGEST_PIECE", 1500)  # bytes of 4 steps of x, of 2 of the gradient
    if way == "conv1d":
        monkeypatch.setattr(module, "LEAST_MATRIX", 10**9)
    x, kernel = case(T)
    past = None if before is None else torch.randn(before, 2, 3, dtype=torch.float64, requires_grad=True)
    leaves = [x, kernel] if past is None else [x, kernel, past]
    y, expected = delayed_sum(x, kernel, tail=tail, past=past), by_hand(x, kernel, tail, past)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    g = torch.randn(y.shape, dtype=torch.float64)
    if T + tail:
        gradients = torch.autograd.grad(y, leaves, g, allow_unused=True)
        for a, b in zip(gradients, torch.autograd.grad(expected, leaves, g, allow_unused=True), strict=True):
            a, b = (torch.zeros(1, dtype=torch.float64) if q is None else q for q in (a, b))
            torch.testing.assert_close(a, b.expand_as(a), rtol=1e-12, atol=1e-11)


def test_groups_and_a_transposed_input() -> None:
    x = torch.randn(6, 4, 11, dtype=torch.float64)  # [B, C, T]
    kernel = torch.randn(6, 2, 3, dtype=torch.float64)
    y = delayed_sum(x.permute(2, 0, 1), kernel)
    expected = torch.nn.functional.conv1d(torch.nn.functional.pad(x, (2, 0)), kernel, groups=2)
    torch.testing.assert_close(y.permute(1, 2, 0), expected)
    full = torch.randn(6, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(
        delayed_sum(x.permute(2, 0, 1), full), delayed_sum(x.permute(2, 0, 1).contiguous(), full)
    )


@given(at=st.integers(0, 9), tap=st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_an_impulse_comes_out_at_its_delay_and_nowhere_else(at: int, tap: int) -> None:
    x, kernel = torch.zeros(10, 2, 3), torch.zeros(4, 3, 5)
    x[at, 1, 2], kernel[3, 2, tap] = 1.0, 7.0
    y = delayed_sum(x, kernel, tail=4)
    assert y.nonzero().tolist() == [[at + 4 - tap, 1, 3]] and y.max() == 7


def test_every_size_can_be_halved() -> None:
    random = torch.Generator().manual_seed(0)
    for T, length, K in itertools.product((1, 2, 3, 8), (1, 2, 9, 14), (1, 2, 3, 8, 9)):
        x, taps, g = (
            torch.randn(shape, generator=random, dtype=torch.float64)
            for shape in ((T, 2, 3), (K, 5, 3), (length, 2, 5))
        )
        found = []
        for halvings in (0, 1, 2, 3):
            g_taps = torch.full_like(taps, torch.nan)
            _time_products.gradient_of_taps(g, x, g_taps, 0, halvings)
            g_x = _time_products.gradient_of_x(g, taps, T, 0, halvings)
            found.append((_time_products.forward(x, taps, 0, length, halvings), g_x, g_taps))
        for other in found[1:]:
            for a, b in zip(other, found[0], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("out", "small", "piece"), [(5, 0, 2**14), (8, 0, 2**14), (5, 2**12, 2**28)])
def test_one_product_rounds_half_answers_once(
    out: int, small: int, piece: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_time_unfolded, "LARGEST_PIECE", piece)
    monkeypatch.setattr(_time_unfolded, "SMALL_TAPS", small)
    random = torch.Generator().manual_seed(0)
    x, taps, g = (
        torch.randn(shape, generator=random).to(dtype) for shape in ((40, 3, 24), (63, out, 24), (43, 3, out))
    )
    g_taps, expected = torch.full_like(taps, torch.nan), torch.empty(taps.shape, dtype=torch.float64)
    _time_unfolded.gradient_of_taps(g, x, g_taps, 2)
    _time_products.gradient_of_taps(g.double(), x.double(), expected, 2)
    exact = [
        (_time_unfolded.forward(x, taps, 2, 43), _time_products.forward(x.double(), taps.double(), 2, 43)),
        (_time_unfolded.gradient_of_x(g, taps, 40, 2), _time_products.gradient_of_x(g.double(), taps.double(), 40, 2)),
        (g_taps, expected),
    ]
    for found, sums in exact:
        assert found.dtype == dtype
        roundings = 0.5 if dtype.itemsize == 2 else 5  # sums are made in float32 or float64
        assert (found.double() - sums).norm() < roundings * torch.finfo(dtype).eps * sums.norm()


def test_one_product_unfolds_even_pieces_and_a_step_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    real = _time_unfolded.mm
    monkeypatch.setattr(_time_unfolded, "mm", lambda a, b, out: (rows.append(len(a)), real(a, b, out=out)))
    x, taps = torch.randn(10, 2, 3), torch.randn(5, 7, 3)  # 3 channels of 4 bytes, filled up to 16
    expected = _time_products.forward(x, taps, 0, 10)
    for piece, steps in ((2**28, [10]), (2 * 5 * 16 * 9, [5, 5]), (2 * 5 * 16 * 4, [4, 4, 2]), (1, [1] * 10)):
        monkeypatch.setattr(_time_unfolded, "LARGEST_PIECE", piece)
        torch.testing.assert_close(_time_unfolded.forward(x, taps, 0, 10), expected)
        assert [count // 2 for count in rows] == steps
        rows.clear()


def test_spectra_round_no_worse_than_a_few_units_and_hand_back_what_is_wanted() -> None:
    random = torch.Generator().manual_seed(0)
    x = (torch.rand(100, 2, 256, generator=random) < 0.1).float()
    taps, g = torch.randn(31, 8, 256, generator=random), torch.randn(100, 2, 8, generator=random)
    exact = [t.double() for t in (x, taps, g)]
    y = _time_products.forward(exact[0], exact[1], 0, 100)
    assert (_time_spectra.forward(x, taps, 0, 100).double() - y).norm() < 1e-6 * y.norm()
    g_taps = torch.empty_like(taps)
    assert _time_spectra.gradients(g, x, None, g_taps, 0) is None
    expected = torch.empty_like(exact[1])
    _time_products.gradient_of_taps(exact[2], exact[0], expected, 0)
    assert (g_taps.double() - expected).norm() < 1e-6 * expected.norm()
    g_x, expected = _time_spectra.gradients(g, x, taps, None, 0), _time_products.gradient_of_x(*exact[2:0:-1], 100, 0)
    assert g_x is not None and (g_x.double() - expected).norm() < 1e-6 * expected.norm()


def test_spectra_count_their_products_for_every_length() -> None:
    for sizes in itertools.product((1, 2, 9), (1, 4, 5), (0, 3), (1, 2, 30)):
        steps, K, start, length = sizes
        analysis, _, _ = _time_spectra._matrices(*sizes, torch.zeros(()))
        assert len(analysis) == _time_spectra.points(steps, K, start, length), sizes


def test_long_sequences_are_cut_into_even_blocks_and_the_work_stays_in_proportion() -> None:
    blocks = [_time_spectra._blocks(31, length) for length in (0, 192, 193, 1000)]
    assert blocks == [(1, 0), (1, 192), (2, 97), (6, 167)]
    assert _time_spectra._blocks(100, 600) == (1, 600)
    assert _time_spectra.points(1000, 31, 0, 1000) == (3 * 197 - 1) // 2
    sizes = (16, 512, 512)
    short, long = (_time_spectra.work(T, 31, 0, T, *sizes) for T in (1000, 8000))
    assert 7 < long / short < 9


def test_spectra_run_under_autocast_in_float32() -> None:
    x, taps = torch.rand(9, 2, 3), torch.rand(4, 5, 3)
    expected = _time_spectra.forward(x, taps, 0, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(_time_spectra.forward(x, taps, 0, 9), expected)


def test_path_says_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel = torch.zeros(100, 16, 512), torch.zeros(512, 512, 31)
    assert path(x, kernel) == "products over time (halved twice)"
    assert path(x[:, :1], kernel) == "products over time (one a delay)"
    assert path(x, kernel[:, :256]) == path(x.bfloat16(), kernel.bfloat16()) == "conv1d"
    with torch.autocast("cpu", torch.bfloat16):
        assert path(x, kernel) == "conv1d"
    monkeypatch.setattr(module, "_way", lambda *call: _time_spectra)
    assert path(x, kernel) == "spectra (194 products)"
    monkeypatch.setattr(module, "_way", lambda *call: _time_unfolded)
    assert path(x, kernel) == "one product"


def test_on_cuda_spectra_run_where_they_save_enough_and_one_product_elsewhere() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    def say(T: int, B: int, inputs: int, out: int, K: int, dtype: torch.dtype = torch.float32) -> str:
        with FakeTensorMode():
            x, kernel = (torch.empty(s, device="cuda:0", dtype=dtype) for s in ((T, B, inputs), (out, inputs, K)))
            return path(x, kernel).split(" (")[0]

    before = torch.get_float32_matmul_precision()
    try:
        for precision, medium in (("highest", "spectra"), ("high", "one product")):  # high: TF32
            torch.set_float32_matmul_precision(precision)
            assert say(100, 128, 512, 512, 31) == "spectra"
            assert say(100, 16, 512, 512, 31) == medium
            assert say(100, 16, 512, 512, 31, torch.float64) == "spectra"
            assert say(100, 8, 128, 128, 31) == say(100, 128, 512, 512, 31, torch.bfloat16) == "one product"
            assert say(100, 512, 512, 512, 1) == "one product"
            assert say(100, 128, 256, 512, 31) == "spectra"
    finally:
        torch.set_float32_matmul_precision(before)


def test_large_layers_alone_are_halved() -> None:
    assert [_time_products.depth(*sizes) for sizes in ((1600, 512 * 512, 31), (800, 2**16, 31), (1600, 2**12, 25))] == [
        2,
        1,
        0,
    ]
    assert _time_products.depth(10**6, 10**6, 7) == 0


@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_nothing_is_heard_before_it_happened(halvings: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_time_products, "depth", lambda *sizes: halvings)
    x, kernel = case(20)
    changed = x.detach().clone()
    changed[11:] += 1
    assert torch.equal(delayed_sum(x, kernel)[:11], delayed_sum(changed, kernel)[:11])


@given(cuts=st.lists(st.integers(0, 12), max_size=3), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_chunks_equal_the_whole_bit_for_bit(cuts: list[int], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 2, (12, 2, 3), generator=random).float()
    kernel = torch.randint(-64, 64, (5, 3, 7), generator=random) / 64.0  # any order of these sums is exact
    edges = [0, *sorted(cuts), 12]
    parts = [delayed_sum(x[a:b], kernel, past=x[:a]) for a, b in zip(edges, edges[1:], strict=False)]
    assert torch.equal(torch.cat(parts), delayed_sum(x, kernel))


def test_ops_pass_opcheck() -> None:
    for dtype in (torch.float32, torch.float64):
        T = 1 if dtype == torch.float64 else 9
        x, kernel = (q.detach() for q in case(T, dtype=dtype))
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
        torch.library.opcheck(module._forward.op, (x, kernel, 0, T + 2))
        for wanted in ((True, True), (True, False), (False, True)):
            torch.library.opcheck(module._backward.op, (torch.randn(T + 2, 2, 5, dtype=dtype), x, kernel, 0, *wanted))


def test_ops_pass_opcheck_by_one_product_of_half_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_way", lambda *call: _time_unfolded)
    x, kernel = (q.detach() for q in case(9, dtype=torch.bfloat16))
    torch.library.opcheck(module._forward.op, (x, kernel, 0, 11))
    torch.library.opcheck(module._backward.op, (torch.randn(11, 2, 5, dtype=x.dtype), x, kernel, 0, True, True))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_in_one_graph_for_several_lengths(backend: str) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend  # a second to import

    torch.compiler.reset()
    counter = CompileCounterWithBackend(backend)
    run = torch.compile(
        lambda x, kernel: delayed_sum(x, kernel, tail=2).square().sum(), fullgraph=True, backend=counter
    )
    for T in (5, 8, 11):
        x, kernel = case(T)
        expected = torch.autograd.grad(delayed_sum(x, kernel, tail=2).square().sum(), [x, kernel])
        for a, b in zip(torch.autograd.grad(run(x, kernel), [x, kernel]), expected, strict=True):
            torch.testing.assert_close(a, b)
    assert counter.frame_count <= 2


def test_gradients_per_sample_equal_a_loop() -> None:
    x, kernel = (q.detach() for q in case(6, B=4))

    def loss(kernel: Tensor, x: Tensor) -> Tensor:
        return delayed_sum(x[:, None], kernel).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(kernel, x)
    for b in range(4):
        torch.testing.assert_close(each[b], torch.func.grad(loss)(kernel, x[:, b]))


def test_first_and_second_derivatives_agree_with_finite_differences() -> None:
    x, kernel = case(4, K=3)
    assert torch.autograd.gradcheck(lambda *a: delayed_sum(*a, tail=1), (x, kernel))
    assert torch.autograd.gradgradcheck(lambda *a: delayed_sum(*a, tail=1).sum(), (x, kernel))


def test_half_and_autocast_answer_in_their_dtype() -> None:
    x, kernel = (q.detach() for q in case(6, dtype=torch.float32))
    full = delayed_sum(x, kernel)
    assert delayed_sum(x.bfloat16(), kernel.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        y = delayed_sum(x, kernel)
    assert y.dtype == torch.bfloat16
    assert (y.float() - full).norm() < 0.01 * full.norm()  # products of 8-bit mantissas, summed once in float32
    assert delayed_sum((x > 0), kernel).dtype == torch.float32
    x, kernel = (q.detach().bfloat16() for q in case(63, K=63, dtype=torch.float32))
    exact = delayed_sum(x.double(), kernel.double())
    # The answer is rounded once, to 8 bits: at most 2^-9 of each number. 63 sums in half would be far off.
    assert (delayed_sum(x, kernel).double() - exact).norm() < 2**-8 * exact.norm()


def test_changing_the_input_in_place_is_noticed() -> None:
    x, kernel = case(6)
    x = x.detach().clone()
    y = delayed_sum(x, kernel)
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_bad_input_is_named() -> None:
    x, kernel = torch.zeros(4, 2, 6), torch.zeros(5, 6, 3)
    with pytest.raises(ValueError, match="For a single step"):
        delayed_sum(x[0], kernel)
    with pytest.raises(ValueError, match="does not fit x with 6 channels"):
        delayed_sum(x, kernel[:, :4])
    with pytest.raises(ValueError, match="does not fit"):
        delayed_sum(x, torch.zeros(5, 3, 3))
    with pytest.raises(ValueError, match="does not continue"):
        delayed_sum(x, kernel, past=torch.zeros(2, 3, 6))
    with pytest.raises(ValueError, match="got -1"):
        delayed_sum(x, kernel, tail=-1)
