"""Losses on a readout's answer. The readout says what is summed over time, the loss is one cross entropy.

| loss of SNN-delays | answer m ``[B, C]`` |
|---|---|
| ``sum`` (the published one) | ``SumOfSoftmax``: m = sum_t softmax(v[t]), a softmax on top of a sum of softmaxes |
| ``mean`` | ``MeanOverTime``: m = mean_t v[t] |
| ``max`` | ``MaxOverTime``: m = max_t v[t] |
| ``spike_count`` | ``SumOverTime`` of the output neurons' spikes (threshold 2 there) |

Source: Hammouamri, Khalfaoui-Hassani, Masquelier 2024 (ICLR, arXiv 2306.17670).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(m: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """``mean_b -sum_c q[b, c] log softmax(m[b])[c]``, q = the target's distribution.

    Args:
        m: the readout's answer, ``[B, C]``; half precision is computed in float32.
        target: class numbers ``[B]`` (integers), or probabilities ``[B, C]`` (mixed samples, soft labels).
        label_smoothing: q = (1 - label_smoothing) target + label_smoothing / C.

    Returns:
        A scalar.

    Raises:
        ValueError: m still has a time axis, or the target fits neither form.

    >>> from snnkit.nn.readout import SumOfSoftmax
    >>> v = torch.zeros(3, 2, 4)  # membranes of the output neurons
    >>> f"{cross_entropy(SumOfSoftmax()(v), torch.tensor([0, 3])):.4f}"
    '1.3863'
    """
    if m.ndim != 2:
        raise ValueError(
            f"cross_entropy expects answers [B, C], got {tuple(m.shape)}. "
            "A sequence [T, B, C] needs a readout first, e.g. SumOfSoftmax()(v)."
        )
    if target.shape == m.shape and target.is_floating_point():
        target = target.to(m.dtype)
    elif target.shape == m.shape[:1] and not target.is_floating_point():
        target = target.long()
    else:
        raise ValueError(
            f"cross_entropy expects class numbers [B] = ({m.shape[0]},) or probabilities [B, C] = {tuple(m.shape)}, "
            f"got {tuple(target.shape)} of {target.dtype}."
        )
    if m.dtype in (torch.float16, torch.bfloat16):
        m, target = m.float(), target.float() if target.is_floating_point() else target
    return F.cross_entropy(m, target, label_smoothing=label_smoothing)
