"""What a recurrent layer would be otherwise: plain PyTorch loops of SE-adLIF, SpikingJelly's container around a LIF.

SpikingJelly has no adaptive neuron of this kind; its ``LinearRecurrentContainer`` holds the input's weights and the
recurrent ones in one matrix, ``rc = [input, recurrent]``, and takes both products at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from snnkit.nn import Recurrent


class Spike(torch.autograd.Function):
    """s = [d >= 0], with the derivative exp(-5 |d|)."""

    @staticmethod
    def forward(ctx, d: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(d)
        return (d >= 0).to(d.dtype)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        (d,) = ctx.saved_tensors
        return g * torch.exp(-5.0 * d.abs())


State = tuple[Tensor, Tensor, Tensor]
Step = Callable[..., State]


def one_step(row: Tensor, u: Tensor, w: Tensor, s: Tensor, weight: Tensor, decay_u: Tensor, decay_w: Tensor,
             a: Tensor, b: Tensor) -> State:  # fmt: skip
    """A step of SE-adLIF as papers write it."""
    u = decay_u * u + (1 - decay_u) * (torch.addmm(row, s, weight.T) - w)
    s = Spike.apply(u - 1.0)
    u = u * (1 - s.detach())
    return u, decay_w * w + (1 - decay_w) * 120.0 * (a * u + b * s), s


def loop(layer: Recurrent, x: Tensor, rows: Iterable[Tensor], step: Step = one_step) -> Tensor:
    """A layer's output, step by step, under autograd."""
    n = layer.neuron
    decay_u, decay_w = torch.exp(-1 / n.tau_u), torch.exp(-1 / n.tau_w)
    u = w = s = torch.zeros_like(x[0])
    spikes = []
    for row in rows:
        u, w, s = step(row, u, w, s, layer.weight, decay_u, decay_w, n.a, n.b)
        spikes.append(s)
    return torch.stack(spikes)


def plain(layer: Recurrent, x: Tensor) -> Tensor:
    """The plain loop over the rows of x."""
    return loop(layer, x, x)


def indexed(layer: Recurrent, x: Tensor) -> Tensor:
    """The same with x[t], whose backward fills a whole sequence with zeros at each step."""
    return loop(layer, x, (x[t] for t in range(len(x))))


def compiled() -> Callable[[Recurrent, Tensor], Tensor]:
    """The plain loop around a step that torch.compile made; all steps together would take it minutes to compile."""
    step = torch.compile(one_step)
    return lambda layer, x: loop(layer, x, x, step)


def spikingjelly(layers: nn.ModuleList) -> tuple[Callable[[Tensor], Tensor], list[nn.Parameter]]:
    """The network of linear and recurrent LIF layers in SpikingJelly, with the same weights, and its parameters.

    Raises:
        ImportError: SpikingJelly is not installed.
    """
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    made = []
    for linear, recurrent in zip(layers[::2], layers[1::2], strict=True):
        size = recurrent.features
        node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(2.0), step_mode="s")
        made.append(layer.LinearRecurrentContainer(node, size, size, bias=True, step_mode="m"))
        made[-1].to(linear.weight)
        with torch.no_grad():
            made[-1].rc.weight.copy_(torch.cat([linear.weight, recurrent.weight], 1))
            made[-1].rc.bias.copy_(linear.bias)
    net = nn.Sequential(*made)

    def run(x: Tensor) -> Tensor:
        functional.reset_net(net)
        return net(x)

    return run, list(net.parameters())
