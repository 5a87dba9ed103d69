"""The loss on a readout's answer."""

import pytest
import torch

from snnkit.nn.losses import cross_entropy
from snnkit.nn.readout import SumOfSoftmax
from tests.shared import fixture


def formula(m, q):
    """-sum_c q log softmax(m), the mean over the batch."""
    return -(q * (m - m.exp().sum(1, keepdim=True).log())).sum(1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_numbers_and_probabilities_give_the_formula(smoothing):
    m, target = torch.randn(3, 5, dtype=torch.float64), torch.tensor([4, 0, 2])
    one_hot = torch.eye(5, dtype=torch.float64)[target]
    expected = formula(m, (1 - smoothing) * one_hot + smoothing / 5)
    for form in (target, target.to(torch.int32), target.to(torch.uint8), one_hot, one_hot.float()):
        torch.testing.assert_close(cross_entropy(m, form, smoothing), expected, rtol=1e-12, atol=0)


def test_mixed_samples_have_mixed_targets():
    m, q = torch.randn(3, 5, dtype=torch.float64), torch.rand(3, 5, dtype=torch.float64)
    torch.testing.assert_close(cross_entropy(m, q), formula(m, q), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    m, target = torch.randn(3, 5).to(dtype).requires_grad_(), torch.tensor([4, 0, 2])
    loss = cross_entropy(m, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(m.float(), target))
    torch.testing.assert_close(cross_entropy(m, torch.eye(5, dtype=dtype)[target]), loss)
    loss.backward()
    assert m.grad.dtype == dtype


def test_a_sequence_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"expects answers \[B, C\], got \(4, 3, 5\). .* needs a readout first"):
        cross_entropy(torch.zeros(4, 3, 5), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("target", [torch.zeros(3), torch.zeros(3, 5, dtype=torch.long), torch.zeros(4).long()])
def test_a_target_of_neither_form_is_refused(target):
    with pytest.raises(ValueError, match=r"class numbers \[B\] = \(3,\) or probabilities \[B, C\] = \(3, 5\), got"):
        cross_entropy(torch.zeros(3, 5), target)


def test_the_loss_equals_the_official_one():
    numbers = fixture("snn_delays_train")
    v = torch.from_numpy(numbers["output/v_seq"])
    loss = cross_entropy(SumOfSoftmax()(v), torch.from_numpy(numbers["input/target_onehot"]))
    torch.testing.assert_close(loss, torch.tensor(numbers["loss"].item(), dtype=torch.float64), rtol=1e-9, atol=0)
