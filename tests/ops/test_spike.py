"""The spike for loops written by hand: the step, the surrogate's gradient, transforms, and a loop beside a layer."""

import pytest
import torch

from snnkit import nn
from snnkit.equations import ATan, Sigmoid, Surrogate
from snnkit.ops import spike
from tests.equations_under_test import SURROGATES

D = torch.tensor([-2.0, -0.3, -0.0, 0.0, 0.1, 0.7, 3.0])


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_forwards_a_step_and_backwards_the_derivative(name, dtype):
    d = D.to(dtype).requires_grad_()
    s = spike(d, SURROGATES[name])
    assert s.dtype == dtype and s.tolist() == [0, 0, 1, 1, 1, 1, 1]
    (g,) = torch.autograd.grad(s, d, torch.full_like(s, 2.0))
    expected = [2.0 * float(SURROGATES[name].derivative(float(each))) for each in d.detach()]
    rounding = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2.0**-8}[dtype]
    near = 1e-14 if dtype == torch.float64 else 1e-6  # 1 - sigmoid(12) loses its digits in float32
    torch.testing.assert_close(g.double(), torch.tensor(expected, dtype=torch.float64), rtol=rounding, atol=near)


def test_a_loop_by_hand_is_the_layer():
    torch.manual_seed(0)
    x = (2.0 * torch.randn(20, 3, 5, dtype=torch.float64)).requires_grad_()
    v, out = torch.zeros(3, 5, dtype=torch.float64), []
    for row in x:
        v = v + (row - v) / 2.0
        s = spike(v - 1.0)
        v = v * (1.0 - s)
        out.append(s)
    layer = nn.LIF(tau=2.0, surrogate=ATan())
    expected, g = layer(x), torch.randn_like(x)
    assert torch.equal(torch.stack(out), expected) and expected.sum() > 10
    ours, theirs = (torch.autograd.grad(y, x, g)[0] for y in (torch.stack(out), expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_a_surrogates_number_may_be_a_tensor_that_is_learnt():
    alpha, d = torch.tensor(2.0, requires_grad=True), D.clone().requires_grad_()
    (g,) = torch.autograd.grad(spike(d, ATan(alpha)).sum(), d)
    assert torch.equal(g, torch.autograd.grad(spike(d, ATan(2.0)).sum(), d)[0])
    assert spike(d, ATan(torch.tensor(-1.0)))[0] == 0


def test_nan_stays_nan():
    assert spike(torch.tensor([float("nan"), 1.0])).isnan().tolist() == [True, False]


def test_transforms_and_the_compiler_take_it():
    def loss(d):
        return spike(d, Sigmoid(4.0)).sum()

    plain = torch.autograd.grad(loss(d := D.clone().requires_grad_()), d)[0]
    assert torch.equal(torch.func.grad(loss)(D), plain)
    assert torch.equal(torch.func.vmap(torch.func.grad(loss))(D[:, None])[:, 0], plain)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.equal(torch.autograd.grad(compiled(d), d)[0], plain)


@pytest.mark.parametrize("d, got", [(torch.arange(3), "a tensor of torch.int64"), (0.5, "0.5")])
def test_what_is_no_floating_tensor_is_refused(d, got):
    with pytest.raises(TypeError, match=f"spike expects a floating tensor v - v_threshold, got {got}"):
        spike(d)


def test_what_is_no_surrogate_is_refused():
    with pytest.raises(TypeError, match="surrogate must be an object such as"):
        spike(D, "atan")
    with pytest.raises(TypeError, match="Surrogate has no derivative"):
        spike(D, Surrogate())
