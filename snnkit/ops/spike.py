"""The spike alone, for loops that are written by hand: a step forwards, a surrogate gradient backwards."""

from __future__ import annotations

from torch import Tensor

from snnkit.equations import IF, ATan, Surrogate
from snnkit.ops.reference import TensorValue, on_tensors
from snnkit.ops.scan_call import compute_dtype


def spike(d: Tensor, surrogate: Surrogate | None = None) -> Tensor:
    """s = [d >= 0], whose gradient is taken to be ds/dd = surrogate.derivative(d).

    Args:
        d: distance of the membrane to its threshold, ``v - v_threshold``, of any shape and floating dtype.
        surrogate: an object of ``snnkit.equations``. Default: ``ATan(2.0)``.

    Returns:
        0 or 1 in the shape and dtype of d; NaN where d is NaN.

    Raises:
        TypeError: d is not a floating tensor, or the surrogate is none of ours.

    It consists of torch's own operations, so autograd, ``torch.compile`` and ``torch.func`` take it, on any device. A
    loop over it is slow: a neuron that is an equation runs compiled (``neuron_module``, docs/your_own_neuron.md).
    Neftci, Mostafa, Zenke, "Surrogate Gradient Learning in Spiking Neural Networks", 2019; ATan: Fang et al. 2021.

    >>> import torch
    >>> v = torch.tensor([0.5, 1.0, 1.5], requires_grad=True)
    >>> s = spike(v - 1.0)
    >>> s.tolist(), torch.autograd.grad(s.sum(), v)[0][1].item()
    ([0.0, 1.0, 1.0], 1.0)
    """
    if not isinstance(d, Tensor) or not d.is_floating_point():
        got = f"a tensor of {d.dtype}" if isinstance(d, Tensor) else repr(d)
        raise TypeError(f"spike expects a floating tensor v - v_threshold, got {got}.")
    distance = TensorValue(d.to(compute_dtype(d)), compute_dtype(d))
    output: TensorValue = on_tensors(IF(surrogate=ATan() if surrogate is None else surrogate)).spike(distance)
    return output.tensor.to(d.dtype)
