"""Depthwise mixers."""

import pytest
import torch
from torch.nn import functional as F

from snnkit.nn import DepthwiseMixer


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_each_channel_mixes_its_own_neighbours_and_adds_to_the_stream(kernel):
    torch.manual_seed(0)
    mixer = DepthwiseMixer(4, kernel).double().eval()
    u = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64) + 0.5
    s = (u > 1).double()
    conv, norm = mixer.layer.conv, mixer.layer.norm
    assert conv.weight.shape == (4, 1, kernel, kernel)
    z = torch.stack([
        torch.cat([
            F.conv2d(step[:, c : c + 1], conv.weight[c : c + 1], conv.bias[c : c + 1], padding=kernel // 2)
            for c in range(4)
        ], 1)
        for step in s
    ])  # fmt: skip
    new, spikes = mixer(u, s)
    torch.testing.assert_close(new, u + z / (1 + norm.eps) ** 0.5, rtol=1e-12, atol=1e-12)
    assert torch.equal(spikes, mixer.layer.neuron(new)) and 0 < spikes.mean() < 1


@pytest.mark.parametrize("kernel", [0, 4, -3])
def test_a_kernel_that_would_change_the_size_is_refused(kernel):
    with pytest.raises(ValueError, match=f"kernel must be odd and > 0, .* got {kernel}"):
        DepthwiseMixer(4, kernel)
