"""Small layers with a state, for tests of what every layer with state must obey."""

import torch
from torch import Tensor, nn

from snnkit.nn.carry import Stateful


class Leak(Stateful):
    """v[t] = v[t-1] / 2 + x[t], from v[-1] = initial: exact in any order for inputs that are multiples of 2^-6."""

    def __init__(self, initial: float = 0.0) -> None:
        super().__init__()
        self.initial = initial

    def forward(self, x: Tensor) -> Tensor:
        state = self.carried(x.shape[1], x.shape[2:])
        v = torch.full_like(x[0], self.initial) if state is None else state["v"]
        steps = []
        for row in x.unbind(0):
            v = 0.5 * v + row
            steps.append(v)
        self.keep({"v": v}, {"v": self.initial})
        if self._observer is not None:
            self._observer((v > 0).to(x.dtype)[None])
        return torch.stack(steps)


def network(initial: float = 0.0) -> nn.Sequential:
    """Two layers with state between linear ones, weights multiples of 2^-6."""
    net = nn.Sequential(nn.Linear(5, 4), Leak(initial), nn.Linear(4, 6), Leak(initial)).double()
    for p in net.parameters():
        p.data = (p.data * 64).round() / 64
    return net


def spikes(*shape: int, seed: int = 0) -> Tensor:
    """Random zeros and ones in float64."""
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.4).double()
