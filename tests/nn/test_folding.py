"""A batch norm folds into the layer before it."""

import pytest
import torch
from torch import nn

from snnkit.nn.folding import fold_norm, scale_and_shift, weight_of
from snnkit.nn.norm import BatchNorm


def settled(norm):
    """The norm in eval mode with numbers that nothing divides out of by chance."""
    with torch.no_grad():
        for tensor in (norm.running_mean, *norm.parameters()):
            tensor.normal_()
        norm.running_var.uniform_(0.2, 3.0)
    return norm.double().eval()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, BatchNorm, nn.SyncBatchNorm])
def test_scale_and_shift_are_the_norm_of_eval_mode(norm, affine):
    norm, x = settled(norm(5, eps=0.01, affine=affine)), torch.randn(4, 3, 5, dtype=torch.float64)
    a, c = scale_and_shift(norm)
    y = norm(x) if isinstance(norm, BatchNorm) else norm(x.flatten(0, 1)).view(x.shape)
    torch.testing.assert_close(a * x + c, y, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "norm", "x"),
    [
        (lambda bias: nn.Linear(3, 5, bias), nn.BatchNorm1d(5), (4, 3)),
        (lambda bias: nn.Conv1d(4, 6, 3, groups=2, bias=bias), nn.BatchNorm1d(6), (2, 4, 7)),
        (lambda bias: nn.Conv2d(3, 5, (1, 3), bias=bias), nn.BatchNorm2d(5), (2, 3, 4, 7)),
    ],
    ids=["linear", "conv1d", "conv2d"],
)
def test_a_layer_takes_over_the_norm_behind_it(layer, norm, x, bias):
    layer, norm, x = layer(bias).double(), settled(norm), torch.randn(x, dtype=torch.float64)
    y = norm(layer(x))
    weight, shift = fold_norm(layer.weight, layer.bias, norm)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(shift)
    torch.testing.assert_close(layer(x), y, rtol=1e-12, atol=1e-12)


def test_half_precision_folds_in_float32():
    weight, bias = fold_norm(torch.ones(3, 2, dtype=torch.bfloat16), None, nn.BatchNorm1d(3).bfloat16())
    assert weight.dtype == bias.dtype == torch.float32


def test_a_norm_without_statistics_and_one_of_another_layer_are_refused():
    with pytest.raises(ValueError, match=r"folds with running statistics, got BatchNorm1d.* track_running_stats=True"):
        scale_and_shift(nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ValueError, match="must have the 5 channels of the layer before it, got 3"):
        fold_norm(torch.zeros(5, 2), None, nn.BatchNorm1d(3))


def test_the_weight_of_a_quantised_layer_is_the_quantised_one():
    layer = nn.Linear(2, 3)
    assert weight_of(layer) is layer.weight
    layer.quantized_weight = layer.weight.round
    torch.testing.assert_close(weight_of(layer), layer.weight.round())
