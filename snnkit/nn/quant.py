"""Layers with weights of few bits, whose step size is learnt: LSQ, one step for each output channel.

Esser et al. 2020 (ICLR, arXiv 1902.08153), with the details of QSD-Transformer's code (Qiu et al. 2025, ICLR).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkit._suggest import NamedArguments
from snnkit.ops import lsq_cuda
from snnkit.ops.registered import is_plain, transformed, wants_graph


def lsq(weight: Tensor, alpha: Tensor, bits: int) -> Tensor:
    """w_q = round(clamp(w / alpha, -2^(bits - 1), 2^(bits - 1) - 1)) alpha, halves to even.

    Args:
        weight: ``[cout, ...]``.
        alpha: the step of each output channel, ``[cout]``.
        bits: 2 to 16.

    Backwards, with u = w / alpha, the ends Qn and Qp, and G the gradient that arrives: dw is G where u is in [Qn, Qp],
    else 0; dalpha is g times the sum over the channel of G (round(u) - u) inside, G Qn below and G Qp above, where
    g = 1 / sqrt(weight.numel() Qp).

    Raises:
        ValueError: impossible bits; an alpha that is not one number a channel.

    >>> lsq(torch.tensor([[0.2, 0.3, -9.0, 9.0]]), torch.tensor([0.5]), bits=3).tolist()
    [[0.0, 0.5, -2.0, 1.5]]
    """
    largest = _largest(bits)
    if alpha.shape != weight.shape[:1]:
        raise ValueError(
            f"alpha must be one step for each output channel, ({weight.shape[0] if weight.ndim else ''},), "
            f"got {tuple(alpha.shape)}. For one step in all: alpha.expand(len(weight))."
        )
    steps = alpha.reshape(-1, *[1] * (weight.ndim - 1))
    # Where somebody looks on (torch.func, torch.compile, ...), the spelling that they know.
    function = _QuantizeAtOnce if is_plain(weight) and not transformed() else _Quantize
    return function.apply(weight, steps, largest)


def _largest(bits: int) -> int:
    """Qp, the largest level."""
    if isinstance(bits, bool) or not isinstance(bits, int):
        raise TypeError(f"bits must be a whole number, got {bits!r}.")
    if bits == 1:
        raise ValueError("bits must be >= 2, got 1: the largest level 2^(bits - 1) - 1 would be 0. Take bits=2.")
    if not 2 <= bits <= 16:
        raise ValueError(f"bits must be from 2 to 16, got {bits}. For weights of full precision: torch.nn's layer.")
    return 2 ** (bits - 1) - 1


class _Quantize(torch.autograd.Function):
    """The formula of ``lsq``. It keeps the weight and the steps, and divides again in the backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, steps: Tensor, most: int) -> Tensor:
        """Quantised weights."""
        if lsq_cuda.takes(weight, steps):
            return lsq_cuda.quantized(weight, steps, most)
        return (weight / steps).clamp(-most - 1, most).round() * steps

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor | None) -> None:
        """Keep what the backward reads."""
        weight, steps, ctx.most = inputs
        ctx.save_for_backward(weight, steps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the weight and of the steps."""
        weight, steps = ctx.saved_tensors
        if lsq_cuda.takes(weight, steps, grad) and not wants_graph():
            return *lsq_cuda.gradients(grad, weight, steps, ctx.most), None
        least, most = -ctx.most - 1, ctx.most
        u = weight / steps
        inside = (u >= least) & (u <= most)
        by_step = torch.where(inside, u.round() - u, u.clamp(least, most))
        scale = 1 / math.sqrt(weight.numel() * most)
        return torch.where(inside, grad, 0.0), (grad * by_step).sum_to_size(steps.shape) * scale, None


class _QuantizeAtOnce(torch.autograd.Function):
    """The same in eager mode, where the spelling that torch.func needs costs the host 50 microseconds a call."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Quantised weights."""
        _Quantize.setup_context(ctx, inputs, None)
        return _Quantize.forward(*inputs)

    backward = staticmethod(_Quantize.backward)


class _SetSteps(torch.autograd.Function):
    """The steps of a training pass, which a kernel sets if they are not set yet; a copy of alpha, with its gradient."""

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, weight: Tensor, init_state: Tensor, most: int) -> Tensor:
        """The steps."""
        return lsq_cuda.steps(weight, alpha, init_state, most, keep=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient of alpha."""
        return grad, None, None, None


class _Quantized(NamedArguments, nn.Module):
    """What the layers share: the steps, where they start, and the quantised weight. ``weight`` is the layer's own.

    Attributes:
        alpha: the steps, ``[cout]``.
        init_state: ``[1]``, 0 until the steps have been set from the weights.
    """

    weight: Tensor
    alpha: Tensor
    init_state: Tensor

    def _add_steps(self, bits: int) -> None:
        self.bits = bits
        self.register_buffer("init_state", self.weight.new_zeros(1).detach())
        self.alpha = nn.Parameter(self._start().detach().repeat(self.weight.shape[0]))

    def reset_parameters(self) -> None:
        """Draw the weight as torch does, and forget the steps."""
        super().reset_parameters()  # type: ignore[misc]
        if "alpha" in self._parameters:  # torch's constructor comes here before there are steps
            with torch.no_grad():
                self.init_state.zero_()
                self.alpha.copy_(self._start())

    def _start(self) -> Tensor:
        """2 mean|w| / sqrt(Qp), over the whole tensor; 1 if all weights are 0, where w / 0 would be NaN."""
        start = 2 * self.weight.detach().abs().mean() / math.sqrt(_largest(self.bits))
        return torch.where(start > 0, start, 1.0)

    def _steps(self) -> Tensor:
        """The steps as they are, or as they will start."""
        if self._known_to_be_set():
            return self.alpha.clone()
        if self._by_kernel() and not (torch.is_grad_enabled() and self.alpha.requires_grad):
            return lsq_cuda.steps(self.weight, self.alpha, self.init_state, _largest(self.bits), keep=False)
        return torch.where(self.init_state == 0, self._start(), self.alpha)

    def _known_to_be_set(self) -> bool:
        """Whether init_state is 1, as far as a look at it costs nothing and nobody traces the call."""
        state = self.init_state
        return is_plain(state) and state.is_cpu and not transformed() and state.item() == 1

    def _by_kernel(self) -> bool:
        """Whether a kernel gives the steps."""
        return lsq_cuda.takes(self.weight, self.alpha, self.init_state) and self.alpha.is_contiguous()

    def quantized_weight(self) -> Tensor:
        """w_q, with its gradients to weight and alpha. Changes nothing: steps that are not set are as they will be."""
        return lsq(self.weight, self._steps(), self.bits)

    def _weight_of_this_pass(self) -> Tensor:
        """As ``quantized_weight``; in training it sets the steps, once, without looking at a value on a GPU."""
        if not self.training:
            return self.quantized_weight()
        if self._by_kernel():
            steps = _SetSteps.apply(self.alpha, self.weight, self.init_state, _largest(self.bits))
            return lsq(self.weight, steps, self.bits)
        if not self._known_to_be_set():
            with torch.no_grad():
                self.alpha.copy_(self._steps())
                # A layer that starts at 0 takes its steps when it has left it.
                self.init_state.copy_(torch.where((self.weight != 0).any(), 1.0, self.init_state))
        # Cloned: the next pass writes into alpha, and this one's backward may still be to come.
        return lsq(self.weight, self.alpha.clone(), self.bits)

    def extra_repr(self) -> str:
        """Torch's text, and the bits."""
        return f"{super().extra_repr()}, bits={self.bits}"


class _QuantizedConv(_Quantized):
    """A convolution with quantised weights."""

    _conv_forward: Any  # torch's

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
        dtype: Any = None, *, bits: int = 4,
    ) -> None:  # fmt: skip
        _largest(bits)
        super().__init__(  # torch's convolution comes next in the order of classes
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self._add_steps(bits)

    def forward(self, x: Tensor) -> Tensor:
        """Map torch's layout ``[N, cin, ...]`` to ``[N, cout, ...]``."""
        return self._conv_forward(x, self._weight_of_this_pass(), self.bias)


class LSQConv1d(_QuantizedConv, nn.Conv1d):
    """``torch.nn.Conv1d`` whose weights have few bits. Arguments and behaviour: see ``LSQConv2d``."""


class LSQConv2d(_QuantizedConv, nn.Conv2d):
    """``torch.nn.Conv2d`` whose weights have few bits: y = conv(x, lsq(weight, alpha, bits)) + bias.

    Args:
        bits: 2 to 16; 4 is QSD-Transformer's.
        others: as in ``torch.nn.Conv2d``, in its order. The bias keeps full precision.

    Parameters are ``weight``, ``bias`` and the steps ``alpha [cout]``; the buffer ``init_state [1]`` is 0 until the
    first pass in train mode sets all steps to 2 mean|w| / sqrt(Qp), Qp = 2^(bits - 1) - 1. So weights can be loaded
    from a layer of full precision before. In eval mode such a layer uses the same steps without keeping them (the
    paper's code reads uninitialised memory). Nothing keeps a learnt alpha positive, as published.

    Raises:
        ValueError: bits out of range: 1 leaves no level above 0.

    >>> LSQConv2d(3, 8, 3, bits=2)
    LSQConv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), bits=2)
    """


class LSQLinear(_Quantized, nn.Linear):
    """``torch.nn.Linear`` whose weights have few bits: y = x lsq(weight, alpha, bits)^T + bias. See ``LSQConv2d``."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None, *,
        bits: int = 4,
    ) -> None:  # fmt: skip
        _largest(bits)
        super().__init__(in_features, out_features, bias, device, dtype)
        self._add_steps(bits)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., in_features]`` to ``[..., out_features]``."""
        return F.linear(x, self._weight_of_this_pass(), self.bias)
