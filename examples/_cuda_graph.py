"""A training step as a CUDA graph: the host starts a few hundred kernels with one call.

Spiking networks of small pictures leave the GPU waiting for Python. Forward and backward of a batch are recorded once
and replayed for each later batch of that shape. Answers, gradients, random numbers and running statistics are those of
the plain calls; batches of another shape, and networks in evaluation mode, are called plainly.
"""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn


def replayed(network: nn.Module, settings: Any, accelerator: Accelerator) -> Callable[[Tensor], Any]:
    """The call of a network, replayed where that can be done: in one process, on a GPU, with batches in one part.

    Parts of a batch would add up gradients that lie in the same memory.
    """
    fits = accelerator.device.type == "cuda" and accelerator.num_processes == 1 and settings.accumulate == 1
    return Replayed(network) if fits and settings.cuda_graph else network


class Replayed:
    """Call a network; from the second training batch of a shape on, as a graph of that shape."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.shape: torch.Size | None = None
        self.graph: Callable[[Tensor], Any] | None = None

    def __call__(self, x: Tensor) -> Any:
        """The network's answer. That of a graph is overwritten by the next call."""
        if not self.network.training:
            return self.network(x)
        if self.shape is None:  # the first pass sets up what is set up once: kernels, steps of quantised weights
            self.shape = x.shape
            return self.network(x)
        if x.shape != self.shape:
            return self.network(x)
        if self.graph is None:
            self.graph = _recorded(self.network, x)
        return self.graph(x)


def _recorded(network: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
    """The graph; the passes that are made to record it leave no trace in running statistics or random numbers."""
    kept = [buffer.clone() for buffer in network.buffers()]
    with torch.random.fork_rng([x.device]):
        plain = network.__dict__.get("forward")  # accelerate's, with autocast
        torch.cuda.make_graphed_callables(network, (x.clone(),), allow_unused_input=True)
        graph = network.forward
        if plain is None:
            del network.forward
        else:
            network.forward = plain
    with torch.no_grad():
        for buffer, before in zip(network.buffers(), kept, strict=True):
            buffer.copy_(before)
    return graph
