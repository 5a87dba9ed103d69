"""A training step as a CUDA graph: the host starts a few hundred kernels with one call.

Spiking networks of small pictures leave the GPU waiting for Python. Forward and backward of a batch are recorded once
and replayed for each later batch of that size. Answers, gradients, random numbers and running statistics are those of
the plain calls; batches of another size, and networks in evaluation mode, are called plainly.
"""

import warnings
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
    return Replayed(network, settings.batch) if fits and settings.cuda_graph else network


class Replayed:
    """Call a network; in training, batches ``[B, C, H, W]`` or ``[T, B, C, H, W]`` of B = ``batch`` as a graph."""

    def __init__(self, network: nn.Module, batch: int) -> None:
        self.network, self.batch = network, batch
        self.graph: Callable[[Tensor], Any] | None = None

    def __call__(self, x: Tensor) -> Any:
        """The network's answer. That of a graph is overwritten by the next call."""
        if not self.network.training:
            return self.network(x)
        if self.graph is None:  # at the first call: a plain step's autograd graph, still alive, would spoil the record
            rows = torch.arange(self.batch, device=x.device) % x.shape[-4]
            self.graph = _recorded(self.network, x.index_select(x.ndim - 4, rows))
        return self.graph(x) if x.shape[-4] == self.batch else self.network(x)


def _recorded(network: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
    """The graph; the passes that are made to record it leave no trace in weights, statistics or random numbers."""
    # Recorded on a stream of its own, replayed on the usual one: autograd waits for one there, and says so each time.
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")
    state = list(network.state_dict().values())
    kept = [value.clone() for value in state]
    with torch.random.fork_rng([x.device]):
        plain = network.__dict__.get("forward")  # accelerate's, with autocast
        torch.cuda.make_graphed_callables(network, (x,), allow_unused_input=True)
        graph = network.forward
        if plain is None:
            del network.forward
        else:
            network.forward = plain
    with torch.no_grad():
        for value, before in zip(state, kept, strict=True):
            value.copy_(before)
    return graph
