"""A training step of two recurrent SE-adLIF layers: snnkit beside a plain PyTorch loop.

    python benchmarks/recurrent.py
    python benchmarks/recurrent.py --threads 1 --size 256

Linear -> recurrent layer, twice; forward and backward, all parameters learnt, ``[T, B, N]`` = 100 x 128 x 512. The
candidates share their weights and take turns; the best of each is shown, with the load average, since other load makes
it an upper bound. The plain loop comes in two spellings: ``for row in x``, and ``x[t]``, whose backward fills a whole
sequence with zeros at each step. "products" is what the matrix products of the plain loop take alone, called as there.
Nothing is printed before outputs and gradients of both agree in float64.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from snnkit.nn import Recurrent, SEAdLIF


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


def plain(layer: Recurrent, x: Tensor) -> Tensor:
    """The same layer as papers write it, over the rows of x."""
    return loop(layer, x, x)


def indexed(layer: Recurrent, x: Tensor) -> Tensor:
    """The same with x[t]."""
    return loop(layer, x, (x[t] for t in range(len(x))))


def loop(layer: Recurrent, x: Tensor, rows: Iterable[Tensor]) -> Tensor:
    """Step by step, under autograd."""
    n = layer.neuron
    decay_u, decay_w = torch.exp(-1 / n.tau_u), torch.exp(-1 / n.tau_w)
    u = w = s = torch.zeros_like(x[0])
    spikes = []
    for row in rows:
        u = decay_u * u + (1 - decay_u) * (torch.addmm(row, s, layer.weight.T) - w)
        s = Spike.apply(u - 1.0)
        u = u * (1 - s.detach())
        w = decay_w * w + (1 - decay_w) * 120.0 * (n.a * u + n.b * s)
        spikes.append(s)
    return torch.stack(spikes)


def network(size: int, dtype: torch.dtype) -> nn.ModuleList:
    """Two linear and two recurrent layers; the weights are large enough for both to fire."""
    torch.manual_seed(0)
    layers = nn.ModuleList()
    for gain in (60.0, 30.0):
        linear = nn.Linear(size, size)
        linear.weight.data.mul_(gain)
        layers.extend([linear, Recurrent(SEAdLIF(learn=("tau_u", "tau_w", "a", "b"), shape=(size,)), size)])
    return layers.to(dtype)


def step(layers: nn.ModuleList, x: Tensor, run: Callable[[Recurrent, Tensor], Tensor]) -> list[Tensor]:
    """Output, and gradients of all parameters, as a training loop gets them."""
    layers.zero_grad()
    for linear, recurrent in zip(layers[::2], layers[1::2], strict=True):
        x = run(recurrent, linear(x))
    x.mean().backward()
    return [x, *(p.grad for p in layers.parameters())]


def products(layers: nn.ModuleList, x: Tensor) -> None:
    """The products of a step of the plain loop, forward and backward."""
    weight, rows, flat = layers[1].weight.detach(), x[0].clone(), x.flatten(0, 1)
    for first in (True, False):
        flat @ weight.T
        for _ in range(len(x)):
            torch.mm(rows, weight.T), torch.mm(rows, weight), torch.mm(rows.T, rows)
        flat.T @ flat
        None if first else flat @ weight


def main() -> None:
    """Compare, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in dict(steps=100, batch=128, size=512, threads=torch.get_num_threads(), rounds=5).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    ours = lambda layer, x: layer(x)  # noqa: E731

    layers = network(48, torch.float64)
    x = (torch.rand(20, 7, 48, dtype=torch.float64) < 0.1).double()
    for mine, theirs in zip(step(layers, x, ours), step(layers, x, plain), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-13)

    layers = network(a.size, torch.float32)
    x = (torch.rand(a.steps, a.batch, a.size) < 0.05).float()
    candidates: dict[str, Callable[[], object]] = {
        "snnkit": lambda: step(layers, x, ours),
        "plain loop": lambda: step(layers, x, plain),
        "with x[t]": lambda: step(layers, x, indexed),
        "products": lambda: products(layers, x),
    }
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(a.rounds + 1):  # the first warms up
        for name, run in candidates.items():
            begin = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - begin)
    print(f"[{a.steps}, {a.batch}, {a.size}], {a.threads} threads, load {os.getloadavg()[0]:.1f}")
    for name, seconds in best.items():
        print(f"{name:12} {1000 * seconds:8.1f} ms   x{best['plain loop'] / seconds:.2f}")


if __name__ == "__main__":
    main()
