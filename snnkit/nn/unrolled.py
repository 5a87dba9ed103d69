"""An integer network run with binary spikes: each time step becomes D steps, and the answers stay.

A neuron that sends n of 0 .. D fires n times in D steps; a linear layer W sees binary spikes in each of them, and the
D answers are added: W(n / divisor) = sum over D of (W / divisor) s. What is not linear in the spikes (products of q, k
and v) needs the sums: ``UnrolledIELIF.summed``. Qiu et al. 2025 (QSD-Transformer) describe it; their code trains only.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkit._suggest import NamedArguments
from snnkit.equations import IF, Soft
from snnkit.nn.folding import weight_of
from snnkit.nn.integer import IELIF, PassGradient
from snnkit.nn.time import KeepsTime, at_least_float32, require_time_first
from snnkit.ops.program import plan_of
from snnkit.ops.scan import run

_FIRE = plan_of(IF(reset=Soft()))


class UnrolledIELIF(NamedArguments, nn.Module):
    """IF with v = 1/2 at the start, threshold 1 and soft reset, whose input is z at the first of D steps and then 0.

    It fires floor(clamp(z, 0, D) + 1/2) times: as often as the integer neuron says.

    Args:
        neuron: the integer neuron; z, D and divisor are its own.

    ``[T, B, ...]`` becomes ``[T D, B, ...]``: binary spikes, the D steps of a time step in a row. ``firing_rates``
    gives their mean, which is that of the integer neuron times divisor / D. The gradient is the integer neuron's,
    shared by the D steps.

    Raises:
        TypeError: the neuron is not an ``IELIF``.
        ValueError: it rounds halves to even, which an IF neuron cannot.

    >>> UnrolledIELIF(IELIF())(torch.tensor([0.0, 0.25, 0.6, 1.0]).reshape(1, 1, 4))[:, 0].T.tolist()
    [[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    """

    _observer: Any = None

    def __init__(self, neuron: IELIF) -> None:
        super().__init__()
        _require_integer(neuron)
        if neuron.half_to_even:
            raise ValueError("An IF neuron rounds halves up, and this IELIF to even. Train it with half_to_even=False.")
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to binary spikes ``[T D, B, ...]`` in the dtype of x."""
        neuron, z = self.neuron, self.neuron.scaled(x)
        pulse = torch.cat([z[None], z.new_zeros(neuron.D - 1, *z.shape)])  # [D, T, B, ...]
        fired = run(_FIRE, {}, pulse, {"v": torch.full_like(z, 0.5)}, (), None, final=False).output
        s = fired.transpose(0, 1).to(x.dtype)
        rows, passes = x[:, None].expand_as(s), neuron.passes(z)[:, None].expand_as(s)
        s = PassGradient.apply(rows, s, passes, neuron.gain / neuron.D).flatten(0, 1)
        if self._observer is not None:
            self._observer(s)
        return s

    def summed(self, s: Tensor) -> Tensor:
        """The integer neuron's y ``[T, B, ...]`` from its binary spikes ``[T D, B, ...]``, bit for bit."""
        _require_steps(self, s, self.neuron.D)
        n = at_least_float32(s).unflatten(0, (-1, self.neuron.D)).sum(1)
        return (n / self.neuron.divisor).to(s.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_observer"}


class SummedIELIF(UnrolledIELIF):
    """An ``UnrolledIELIF`` that hands on ``summed(s)``, ``[T, B, ...]``: for products, which need whole numbers.

    ``firing_rates`` sees its binary spikes.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to the integer neuron's answer, by way of binary spikes."""
        return self.summed(super().forward(x))


class UnrolledLayer(KeepsTime, NamedArguments, nn.Module):
    """y = sum over D of (W / divisor) s + bias: a linear layer that an integer neuron feeds, on its binary spikes.

    Args:
        layer: ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d``, or one of LSQ's. Its weights of now are copied, as buffers.
        neuron: the integer neuron before it, which gives D and divisor.

    ``[T D, B, ...]`` becomes ``[T, B, ...]``. Time stays apart here: where the layer was called on ``[T B, C, H, W]``,
    this is called on ``[T D, B, C, H, W]`` (``PerStep`` does so).

    Raises:
        TypeError: another layer or neuron.
        ValueError: a convolution that pads with anything but zeros; another number of axes; steps that are no
            multiple of D.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Module, neuron: IELIF) -> None:
        super().__init__()
        _require_integer(neuron)
        self.steps = neuron.D
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            if layer.padding_mode != "zeros":
                raise ValueError(f"UnrolledLayer pads with zeros, and this layer with {layer.padding_mode!r}.")
            conv: Any = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
            self._map = functools.partial(
                conv, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups
            )
            self._axes: int | None = layer.weight.ndim + 1
        elif isinstance(layer, nn.Linear):
            self._map, self._axes = functools.partial(F.linear), None
        else:
            raise TypeError(f"UnrolledLayer takes Linear, Conv1d or Conv2d, got {type(layer).__name__}.")
        weight = weight_of(layer)
        self.register_buffer("weight", weight.detach() / neuron.divisor)
        bias = layer.bias
        if bias is not None:  # after the channels of a convolution come the places
            bias = bias.detach().clone().reshape(-1, *[1] * (weight.ndim - 2))
        self.register_buffer("bias", bias)

    def forward(self, s: Tensor) -> Tensor:
        """Map binary spikes ``[T D, B, ...]`` to ``[T, B, ...]``."""
        _require_steps(self, s, self.steps)
        if self._axes is not None and s.ndim != self._axes:
            raise ValueError(
                f"UnrolledLayer of this convolution expects [T D, B, C, ...], {self._axes} axes, got {tuple(s.shape)}. "
                "Time stays apart: do not fold it into the batch."
            )
        y = self._map(s.flatten(0, 1), self.weight).unflatten(0, (-1, self.steps, s.shape[1])).sum(1)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Sizes of the weight, and the number of steps."""
        return f"{'x'.join(map(str, self.weight.shape))}, steps={self.steps}"


def _require_integer(neuron: Any) -> None:
    if not isinstance(neuron, IELIF):
        raise TypeError(f"Only IELIF can be unrolled, got {type(neuron).__name__}.")


def _require_steps(layer: nn.Module, s: Tensor, steps: int) -> None:
    require_time_first(layer, s)
    if len(s) % steps:
        raise ValueError(
            f"{type(layer).__name__} expects [T D, B, ...] with D = {steps}, got {len(s)} steps. "
            "Run UnrolledIELIF of the same neuron before it."
        )
