"""Neurons that a user would have otherwise, each as a function of the sequence. An ImportError says what is missing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import metadata

import torch
from torch import Tensor

Layer = Callable[[Tensor], Tensor]


def spikingjelly(tau: float = 2.0) -> Layer:
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(tau=tau, surrogate_function=surrogate.ATan(2.0), step_mode="m")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    return run


def snntorch() -> Layer:
    import snntorch as snn
    from snntorch import surrogate

    node = snn.Leaky(beta=0.5, spike_grad=surrogate.atan(2.0))

    def run(x: Tensor) -> Tensor:
        node.to(x.device)
        v = node.init_leaky() if hasattr(node, "init_leaky") else node.reset_mem()
        spikes = []
        for row in x:
            s, v = node(row, v)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def norse() -> Layer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from norse.torch import LIF

    node = LIF()
    return lambda x: node(x)[0]


PEERS = {"SpikingJelly LIFNode": spikingjelly, "snnTorch Leaky": snntorch, "Norse LIF": norse}
STEPWISE = {"snnTorch Leaky", "Norse LIF"}  # a Python loop over the steps: a hundred times the time


def installed() -> tuple[dict[str, Layer], dict[str, str]]:
    """The peers at hand, and why the others are not."""
    peers, missing = {}, {}
    for name, make in PEERS.items():
        try:
            peers[name] = make()
        except ImportError as error:
            missing[name] = str(error)
    return peers, missing


def versions() -> str:
    """Which peers these are."""
    found = []
    for name in ("spikingjelly", "snntorch", "norse"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            pass
    return ", ".join(found)
