"""RepConv: convolutions and norms that train as five layers and fold into one 3 x 3 convolution.

Source: Yao et al. 2024 (ICLR, Meta-SpikeFormer; the queries, keys, values and projections of its attention), after
Ding et al. 2021 (CVPR, RepVGG). QSD-Transformer has the same unit with quantised weights.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkit._suggest import NamedArguments
from snnkit.nn.checkpoint import first_answer
from snnkit.nn.folding import fold_norm, scale_and_shift, weight_of
from snnkit.nn.time import require_tensor


class RepConv(NamedArguments, nn.Module):
    """``y = norm(pointwise(depthwise(frame(mix_norm(mix(x))))))`` on ``[N, C, H, W]``, H and W kept.

    Args:
        inputs: C of x.
        outputs: C of y.
        conv: makes the three convolutions, called as ``nn.Conv2d(inputs, outputs, size, groups=, bias=False)``; a
            quantised one says what it multiplies by in ``quantized_weight()``.

    ``mix`` and ``pointwise`` are 1 x 1, ``depthwise`` is 3 x 3 without padding, none has a bias. ``frame`` puts one
    pixel around the picture, ``c = beta - mu gamma / sqrt(var + eps)`` of ``mix_norm``: what it makes of zeros in eval
    mode, so that the unit is one zero-padded convolution, ``folded()``. In training, too, mu and var are the running
    statistics, those after this call's update, and c has no gradient; so the border of training and that of eval mode
    agree once the statistics have settled. In ``snnkit.nn.checkpoint`` the second run has the first one's frame.

    N is time and batch in one, ``x.flatten(0, 1)`` or ``PerStep(RepConv(...))``. ``SyncBatchNorm``'s converter works.

    Raises:
        ValueError: x has other axes than ``[N, C, H, W]``.

    >>> layer, x = RepConv(6, 10).eval(), torch.rand(2, 6, 5, 7)
    >>> layer(x).shape, torch.allclose(layer(x), layer.folded()(x), atol=1e-5)
    (torch.Size([2, 10, 5, 7]), True)
    """

    def __init__(self, inputs: int, outputs: int, conv: Callable[..., Any] = nn.Conv2d) -> None:
        super().__init__()
        self.mix = conv(inputs, inputs, 1, bias=False)
        self.mix_norm = nn.BatchNorm2d(inputs)
        self.depthwise = conv(inputs, inputs, 3, groups=inputs, bias=False)
        self.pointwise = conv(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, inputs, H, W]`` to ``[N, outputs, H, W]``."""
        require_tensor(self, x)
        if x.ndim != 4:
            raise ValueError(
                f"RepConv expects [N, C, H, W], got {tuple(x.shape)}. For [T, B, C, H, W]: PerStep(RepConv(...))."
            )
        y = self._framed(self.mix_norm(self.mix(x)))
        return self.norm(self.pointwise(self.depthwise(y)))

    def _framed(self, y: Tensor) -> Tensor:
        height, width = y.shape[2:]
        framed = F.pad(y, (1, 1, 1, 1))
        with torch.no_grad():  # a constant: the padding's gradient leaves the frame out, whatever stands in it
            shift = self._shift()
            framed[:, :, :: height + 1] = shift[:, None, None]
            framed[:, :, :, :: width + 1] = shift[:, None, None]
        return framed

    def _shift(self) -> Tensor:
        def ask() -> Tensor:
            return scale_and_shift(self.mix_norm)[1]

        # Training has just updated the statistics, and does so once more when a checkpointed block runs again.
        return first_answer(ask) if self.mix_norm.training else ask()

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """One zero-padded 3 x 3 convolution with bias, equal to the unit in eval mode, borders included.

        With ``a x + c`` = mix_norm, ``a' x + c'`` = norm, and the weights W of mix, D of depthwise, P of pointwise::

            weight[o, i, u, v] = a'[o] sum_m P[o, m] D[m, u, v] a[m] W[m, i]
            bias[o] = c'[o] + a'[o] sum_m P[o, m] c[m] sum_uv D[m, u, v]

        Quantised convolutions enter with their quantised weights; the result is not quantised.
        """
        mix, depthwise, pointwise = (weight_of(conv) for conv in (self.mix, self.depthwise, self.pointwise))
        dtype = mix.dtype
        mix, shift = fold_norm(mix[:, :, 0, 0], None, self.mix_norm)
        depthwise, pointwise = depthwise[:, 0].to(mix), pointwise[:, :, 0, 0].to(mix)
        weight = torch.einsum("om,muv,mi->oiuv", pointwise, depthwise, mix)
        weight, bias = fold_norm(weight, pointwise @ (shift * depthwise.sum((1, 2))), self.norm)
        outputs, inputs = weight.shape[:2]
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, device="meta")  # meta: draws no random weights
        conv.weight, conv.bias = nn.Parameter(weight.to(dtype)), nn.Parameter(bias.to(dtype))
        return conv
