"""A neuron's training step beside a copy of its input, and beside SpikingJelly, snnTorch and Norse.

    python benchmarks/neurons.py
    python benchmarks/neurons.py --threads 1 --shape 100 128 256

A neuron does little arithmetic per number, so the yardstick is the time to copy its input once, memory warm. A step is
forward and backward to the input. Copy and step take turns, and the best of N counts; load makes it an upper bound.
Nothing is printed before our spikes equal the reference's bit for bit and SpikingJelly's, gradients to 1e-5.
"""

from __future__ import annotations

import argparse
import mmap
import sys
from collections.abc import Callable
from typing import Any

import torch
from _timing import best, keep_memory_warm, machine
from torch import Tensor

from snnkit import equations, nn
from snnkit.ops.reference import reference

SHAPES = [(4, 64, 50176), (100, 128, 256), (1000, 32, 256)]
Layer = Callable[[Tensor], Tensor]


def spikingjelly() -> Layer:
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(2.0), step_mode="m")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    return run


def snntorch() -> Layer:
    import snntorch as snn
    from snntorch import surrogate

    node = snn.Leaky(beta=0.5, spike_grad=surrogate.atan(2.0))

    def run(x: Tensor) -> Tensor:
        v = node.init_leaky() if hasattr(node, "init_leaky") else node.reset_mem()
        spikes = []
        for row in x:
            s, v = node(row, v)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def norse() -> Layer:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from norse.torch import LIF

    node = LIF()
    return lambda x: node(x)[0]


PEERS = {"SpikingJelly LIFNode": spikingjelly, "snnTorch Leaky": snntorch, "Norse LIF": norse}
OURS = {
    "snnkit LIF": nn.LIF, "snnkit ALIF": nn.ALIF, "snnkit AdLIF, numbers": lambda: nn.AdLIF(learn=()),
    "snnkit AdLIF, learnt": nn.AdLIF,
}  # fmt: skip


def training_step(layer: Layer, x: Tensor, g: Tensor) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(layer(x), x, g)


def disagreement(peers: dict[str, Layer]) -> str | None:
    """What is wrong with our numbers, or None."""
    torch.manual_seed(1)
    x, g = (2 * torch.rand(63, 5, 33)).requires_grad_(), torch.randn(63, 5, 33)
    lif = equations.LIF()
    expected, _, _ = reference(lif, x, {"v": torch.zeros(5, 33)})
    (g_expected,) = torch.autograd.grad(expected, x, g, retain_graph=True)
    others = {"the reference": (expected, g_expected)}
    if "SpikingJelly LIFNode" in peers:
        s = peers["SpikingJelly LIFNode"](x)
        others["SpikingJelly"] = (s, torch.autograd.grad(s, x, g)[0])
    for name, make in OURS.items():
        layer = make()
        neuron = layer.neuron.bind(layer._tensors())
        state = {n: torch.zeros(5, 33) for n in neuron.states}
        plain, _, _ = reference(neuron, x, state)
        s = layer(x)
        (g_plain,), (g_s,) = torch.autograd.grad(plain, x, g), torch.autograd.grad(s, x, g)
        if not torch.equal(s, plain) or not (g_s - g_plain).norm() <= 1e-5 * g_plain.norm():
            return f"{name} differs from its reference"
    ours = nn.LIF()(x)
    (g_ours,) = torch.autograd.grad(ours, x, g)
    for name, (s, g_s) in others.items():
        if not torch.equal(ours, s):
            return f"{int((ours != s).sum())} spikes differ from {name}"
        if not (g_ours - g_s).norm() <= 1e-5 * g_s.norm():
            return f"the gradient differs from {name}"
    return None


def fresh(count: int) -> Tensor:
    """Memory that nobody has touched: each page costs its first write."""
    return torch.frombuffer(mmap.mmap(-1, 4 * count), dtype=torch.float32)


def rows(shape: tuple[int, ...], peers: dict[str, Layer], rounds: int) -> None:
    x, g = torch.randn(shape).requires_grad_(), torch.randn(shape)
    source, target = x.detach(), torch.empty(shape)
    layers = {name: make() for name, make in OURS.items()}
    steps: dict[str, Callable[[], Any]] = {}
    for name, layer in layers.items():
        steps[f"copy before {name}"] = lambda: target.copy_(source)
        steps[name] = training_step(layer, x, g)
    steps["copy, fresh memory"] = lambda: fresh(source.numel()).copy_(source.view(-1))
    for step in steps.values():
        step()
    found = best(steps, rounds)
    found |= best({name: training_step(layer, x, g) for name, layer in peers.items()}, max(1, rounds // 10))
    copy = min(time for name, time in found.items() if name.startswith("copy before"))
    print(f"\n(T, B, N) = {shape}: copy {1e3 * copy:.2f} ms")
    for name, time in found.items():
        if not name.startswith("copy before"):
            print(f"  {name:24}{1e3 * time:10.2f} ms {time / copy:9.2f} x copy")


def small_call(rounds: int = 3000) -> None:
    """Overhead of a call that computes next to nothing."""
    x, g, w = torch.randn(10, 1, 64, requires_grad=True), torch.randn(10, 1, 64), torch.randn(10, 1, 64)
    layer = nn.LIF()
    steps = {"product": lambda: torch.autograd.grad(x * w, x, g), "snnkit LIF": training_step(layer, x, g)}
    found = best(steps, rounds)
    ratio = found["snnkit LIF"] / found["product"]
    print(
        f"\n(10, 1, 64), forward and backward: LIF {1e6 * found['snnkit LIF']:.1f} us, "
        f"x * w {1e6 * found['product']:.1f} us, ratio {ratio:.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--shape", type=int, nargs=3, action="append", help="T B N; may be repeated")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warm = keep_memory_warm()
    peers, missing = {}, {}
    for name, make in ({} if args.no_peers else PEERS).items():
        try:
            peers[name] = make()
        except ImportError as error:
            missing[name] = str(error)
    wrong = disagreement(peers)
    if wrong:
        print(f"no timings: {wrong}", file=sys.stderr)
        return 1
    print(f"{machine()}; memory {'warm' if warm else 'as the allocator gives it'}; best of {args.rounds}")
    for shape in map(tuple, args.shape or SHAPES):
        torch.manual_seed(0)
        rows(shape, peers, args.rounds)
    small_call()
    for name, reason in missing.items():
        print(f"{name}: not installed ({reason})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
