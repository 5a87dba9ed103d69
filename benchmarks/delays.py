"""A training step of one delay layer: snnkit beside the package DCLS and a plain conv1d with as many taps.

    python benchmarks/delays.py --in 512 --out 512 --delay 31 --batch 16 --steps 100

A step is forward and backward, to the input too, as of a hidden layer. Each takes the layout it is written for: snnkit
[T, B, C], the others [B, C, T]; left padding with K - 1 zeros is part of the step. The candidates take turns, and the
best of N is shown; other load makes it an upper bound, so the load average is printed. Nothing is printed before
outputs and gradients of all candidates agree.

DCLS and the plain reference become slower as sigma shrinks: the far taps of a narrow gauss are subnormal numbers, which
processors multiply slowly. The compiled form sets them to zero, far below rounding.
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch
from _timing import best, machine
from torch import Tensor
from torch.nn import functional as F

from snnkit.nn import DelayLinear
from snnkit.ops.delay import Gauss, path, reference
from snnkit.ops.delayed_sum import delayed_sum

Step = Callable[[], dict[str, Tensor]]


def ours(layer: DelayLinear, x: Tensor, g: Tensor) -> Step:
    def step() -> dict[str, Tensor]:
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        y.backward(g)
        return {"y": y, "x": x.grad, "weight": layer.weight.grad, "P": layer.P.grad}

    return step


def plain_pytorch(layer: DelayLinear, x: Tensor, g: Tensor) -> Step:
    shape, K = layer.weight.shape, layer.max_delay

    def step() -> dict[str, Tensor]:
        layer.zero_grad()
        x.grad = None
        h = reference(layer.weight, layer.P.view(shape), layer.SIG.view(shape), size=K, profile=Gauss())
        y = F.conv1d(F.pad(x.permute(1, 2, 0), (K - 1, 0)), h).permute(2, 0, 1)
        y.backward(g)
        return {"y": y, "x": x.grad, "weight": layer.weight.grad, "P": layer.P.grad}

    return step


def dcls(layer: DelayLinear, x: Tensor, g: Tensor) -> Step | str:
    try:
        from DCLS.construct.modules import Dcls1d
    except ImportError as error:
        return f"not installed ({error}; pip install DCLS)"
    K = layer.max_delay
    peer = Dcls1d(layer.in_features, layer.out_features, 1, dilated_kernel_size=K, bias=False, version="gauss")
    peer.load_state_dict(layer.state_dict())
    peer.SIG.requires_grad_(False)
    x, g = x.detach().permute(1, 2, 0).contiguous().requires_grad_(), g.permute(1, 2, 0).contiguous()

    def step() -> dict[str, Tensor]:
        peer.zero_grad()
        x.grad = None
        y = peer(F.pad(x, (K - 1, 0)))
        y.backward(g)
        return {"y": y.permute(2, 0, 1), "x": x.grad.permute(2, 0, 1), "weight": peer.weight.grad, "P": peer.P.grad}

    return step


def convolution(layer: DelayLinear, x: Tensor, g: Tensor) -> Step:
    K, h = layer.max_delay, layer.kernel().detach().contiguous().requires_grad_()
    x, g = x.detach().permute(1, 2, 0).contiguous().requires_grad_(), g.permute(1, 2, 0).contiguous()

    def step() -> dict[str, Tensor]:
        x.grad = h.grad = None
        y = F.conv1d(F.pad(x, (K - 1, 0)), h)
        y.backward(g)
        return {"y": y.permute(2, 0, 1), "x": x.grad.permute(2, 0, 1)}

    return step


def kernel_alone(layer: DelayLinear) -> Step:
    g = torch.randn(layer.max_delay, *layer.weight.shape[:2]).movedim(0, -1)

    def step() -> dict[str, Tensor]:
        layer.zero_grad()
        layer.kernel().backward(g)
        return {}

    return step


def products_alone(layer: DelayLinear, x: Tensor, g: Tensor) -> Step:
    h = layer.kernel().detach().requires_grad_()

    def step() -> dict[str, Tensor]:
        x.grad = h.grad = None
        y = delayed_sum(x, h)
        y.backward(g)
        return {"y": y, "x": x.grad}

    return step


def disagreement(steps: dict[str, Step], tolerance: float = 1e-5) -> str | None:
    """The first tensor that is not the first candidate's, by norm of the difference over norm, or None."""
    (first, step), *others = steps.items()
    expected = {name: value.detach().clone() for name, value in step().items()}
    for other, step in others:
        for name, value in step().items():
            error = ((value - expected[name]).norm() / expected[name].norm()).item()
            if not error <= tolerance:
                return (
                    f"{name} of {other} differs from that of {first}: {error:.1e} of its norm, allowed {tolerance:.0e}"
                )
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("in", 512), ("out", 512), ("delay", 31), ("batch", 16), ("steps", 100), ("rounds", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--sigma", type=float, nargs="+", default=None, help="SIG; default K // 2 and 0.23")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, for one thread on a busy machine")
    args = vars(parser.parse_args())
    C, out, K, T, B = (args[name] for name in ("in", "out", "delay", "steps", "batch"))
    clock = time.process_time if args["cpu_time"] else time.perf_counter

    torch.manual_seed(0)
    layer = DelayLinear(C, out, K)
    x = (torch.rand(T, B, C) < 0.1).float().requires_grad_()
    g = torch.randn(T, B, out)
    for sigma in args["sigma"] or (float(K // 2), 0.23):
        torch.nn.init.constant_(layer.SIG, sigma)
        steps: dict[str, Step] = {"snnkit DelayLinear": ours(layer, x, g)}
        peer = dcls(layer, x, g)
        if not isinstance(peer, str):
            steps["DCLS Dcls1d"] = peer
        steps["plain PyTorch reference"] = plain_pytorch(layer, x, g)
        steps["conv1d, kernel given"] = convolution(layer, x, g)
        parts = {"  of it: kernel": kernel_alone(layer), "  of it: sum over time": products_alone(layer, x, g)}
        wrong = disagreement(steps)
        if wrong:
            print(f"no timings: {wrong}", file=sys.stderr)
            return 1
        found = best(steps | parts, args["rounds"], clock)
        print(
            f"\n{C} x {out} x {K}, B={B}, T={T}, float32, SIG={sigma:g}; best of {args['rounds']}, forward and backward"
            f"{', processor time' if args['cpu_time'] else ''}\n"
            f"{machine()}; {path(layer.weight, layer.profile)}"
        )
        own = found["snnkit DelayLinear"]
        for name in [next(iter(steps)), *parts, *list(steps)[1:]]:
            print(f"{name:26}{1e3 * found[name]:9.1f} ms {found[name] / own:7.2f} x")
        if isinstance(peer, str):
            print(f"{'DCLS Dcls1d':26}{peer}")
        else:
            print(f"snnkit takes {own / found['DCLS Dcls1d']:.2f} of the time of DCLS")
    return 0


if __name__ == "__main__":
    sys.exit(main())
