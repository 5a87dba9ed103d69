"""A neuron's training step beside a copy of its input, and beside SpikingJelly, snnTorch and Norse, on each device.

    python benchmarks/neurons.py
    python benchmarks/neurons.py --device cpu --threads 1 --shape 100 128 256
    python benchmarks/neurons.py --device cuda --spikingjelly14 FOLDER

A neuron does little arithmetic per number, so the yardstick is memory. On the CPU: the time to copy its input once,
memory warm; a step and the copy take turns, nothing else between them, and the best of N counts (of N / 10 for the
peers); load makes it an upper bound. The training step of torch.relu, in the table, too, moves as much as a neuron's
and computes next to nothing. On a GPU: the time of the traffic that cannot be avoided at the bandwidth of a copy
(``_neurons_cuda.py``). A step is forward and backward to the input. Nothing is printed before our spikes equal the
reference's bit for bit and SpikingJelly's, gradients to 1e-5.

FOLDER holds the release that papers use: ``pip install --no-deps --target FOLDER spikingjelly==0.0.0.0.14``.
"""

from __future__ import annotations

import argparse
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any

import _neurons_cuda
import torch
from _neuron_peers import Layer, installed, versions
from _timing import best, devices, keep_memory_warm, machine, titled
from torch import Tensor

from snnkit import equations, nn
from snnkit.ops.reference import reference

SHAPES = [(4, 64, 50176), (100, 128, 256), (1000, 32, 256)]
OURS = {
    "snnkit LIF": nn.LIF, "snnkit ALIF": nn.ALIF, "snnkit AdLIF, numbers": lambda: nn.AdLIF(learn=()),
    "snnkit AdLIF, learnt": nn.AdLIF,
}  # fmt: skip
RELU = ("torch.relu", torch.relu)


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
    steps = {name: training_step(layer, x, g) for name, layer in [*((n, make()) for n, make in OURS.items()), RELU]}
    steps["copy, fresh memory"] = lambda: fresh(source.numel()).copy_(source.view(-1))
    steps |= {name: training_step(layer, x, g) for name, layer in peers.items()}
    print(f"\n(T, B, N) = {shape}")
    for name, step in steps.items():
        pair = {"copy": lambda: target.copy_(source), name: step}
        best(pair, 1)
        found = best(pair, max(1, rounds // 10) if name in peers else rounds)
        copy, time = 1e3 * found["copy"], 1e3 * found[name]
        print(f"  {name:24}{time:10.2f} ms {time / copy:9.2f} x copy ({copy:.2f} ms)")


def small_call(device: torch.device, rounds: int = 3000) -> None:
    """Overhead of a call that computes next to nothing: host time, the device's queue empty before and after."""
    x, g, w = (torch.randn(10, 1, 64, device=device) for _ in range(3))
    x.requires_grad_()
    layer = nn.LIF()
    steps = {"product": lambda: torch.autograd.grad(x * w, x, g), "snnkit LIF": training_step(layer, x, g)}
    found = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            found[name] = min(found[name], best({name: step}, 1)[name])
    ratio = found["snnkit LIF"] / found["product"]
    print(
        f"\n(10, 1, 64), forward and backward, host time: LIF {1e6 * found['snnkit LIF']:.1f} us, "
        f"x * w {1e6 * found['product']:.1f} us, ratio {ratio:.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda", "all"), default="all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--shape", type=int, nargs=3, action="append", help="CPU: T B N; may be repeated")
    parser.add_argument("--cuda-shape", type=int, nargs=2, action="append", help="GPU: T N; may be repeated")
    parser.add_argument("--spikingjelly14", default=os.environ.get("SPIKINGJELLY14"), help="folder; its CuPy neurons")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = devices(args.device)
    if not found:
        print("no timings: torch finds no CUDA device", file=sys.stderr)
        return 1
    warm = any(device.type == "cpu" for device in found) and keep_memory_warm()
    peers, missing = ({}, {}) if args.no_peers else installed()
    wrong = disagreement({} if args.device == "cuda" else peers)
    if wrong:
        print(f"no timings: {wrong}", file=sys.stderr)
        return 1
    memory = f"memory {'warm' if warm else 'as the allocator gives it'}"
    print(f"{machine()}; {memory}; best of {args.rounds} on the CPU; {versions()}")
    for device in found:
        print(f"\n{titled(device)}")
        if device.type == "cpu":
            for shape in map(tuple, args.shape or SHAPES):
                torch.manual_seed(0)
                rows(shape, peers, args.rounds)
        else:
            cases = [tuple(case) for case in args.cuda_shape or _neurons_cuda.CASES]
            wrong = _neurons_cuda.table(device, cases, peers, args.rounds, args.spikingjelly14)
            if wrong:
                print(f"no timings: {wrong}", file=sys.stderr)
                return 1
        small_call(device)
    for name, reason in missing.items():
        print(f"{name}: not installed ({reason})")
    if not args.spikingjelly14 and found[-1].type == "cuda":
        print(f"{_neurons_cuda.CUPY} (CuPy): not installed (--spikingjelly14 FOLDER)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
