"""A training step of one delay layer: snnkit beside the package DCLS and a plain conv1d with as many taps.

    python benchmarks/delays.py
    python benchmarks/delays.py --device cuda --in 512 --out 512 --delay 31 --batch 128 --steps 100
    python benchmarks/delays.py --stream

A step is forward and backward, to the input too, as of a hidden layer. Each takes the layout it is written for: snnkit
[T, B, C], the others [B, C, T]; left padding with K - 1 zeros is part of the step. The candidates take turns. On the
CPU the best of N is shown; other load makes it an upper bound, so the load average is printed. On a GPU it is the
median, with TF32 off and on for all, eager and as a CUDA graph (the device's time alone). Nothing is printed before
outputs and gradients of all candidates agree.

On the CPU DCLS and the plain reference become slower as sigma shrinks: the far taps of a narrow gauss are subnormal
numbers, which processors multiply slowly. The compiled form sets them to zero, far below rounding.

``--stream`` measures instead one sample on the CPU, one step a call inside ``carry``, event by event: a layer (default
256 x 256 x 25, 5 % spikes) beside the dense convolution of a step, and the delay network for SHD.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import _delay_stream
import torch
from _timing import best, copy_rate, devices, graphed, machine, measure, titled
from torch import Tensor
from torch.nn import functional as F

from snnkit.nn import DelayLinear
from snnkit.ops import delayed_sum as over_time
from snnkit.ops.delay import Gauss, path, reference
from snnkit.ops.delayed_sum import delayed_sum

Step = Callable[[], dict[str, Tensor]]
OURS, KERNEL, SUM = "snnkit DelayLinear", "  of it: kernel", "  of it: sum over time"
DCLS, DCLS_KERNEL = "DCLS Dcls1d", "  of DCLS: kernel"
SIZES = {"in": (512, 256), "out": (512, 256), "delay": (31, 25)}  # of a training step, of a stream
FIRST = (OURS, KERNEL, SUM, DCLS, DCLS_KERNEL)  # at the top of a table


def named(y: Tensor, gradients: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip(("y", "x", "weight", "P"), (y, *gradients), strict=False))


def ours(layer: DelayLinear, x: Tensor, g: Tensor) -> Step:
    def step() -> dict[str, Tensor]:
        y = layer(x)
        return named(y, torch.autograd.grad(y, [x, layer.weight, layer.P], g))

    return step


def plain_pytorch(layer: DelayLinear, x: Tensor, g: Tensor) -> Step:
    shape, K = layer.weight.shape, layer.max_delay

    def step() -> dict[str, Tensor]:
        h = reference(layer.weight, layer.P.view(shape), layer.SIG.view(shape), size=K, profile=Gauss())
        y = F.conv1d(F.pad(x.permute(1, 2, 0), (K - 1, 0)), h).permute(2, 0, 1)
        return named(y, torch.autograd.grad(y, [x, layer.weight, layer.P], g))

    return step


def dcls(layer: DelayLinear, x: Tensor, g: Tensor) -> tuple[Step, Step] | str:
    """The layer's step, and that of the kernel alone."""
    try:
        from DCLS.construct.modules import Dcls1d
    except ImportError as error:
        return f"not installed ({error}; pip install DCLS)"
    K = layer.max_delay
    peer = Dcls1d(layer.in_features, layer.out_features, 1, dilated_kernel_size=K, bias=False, version="gauss")
    peer.load_state_dict(layer.state_dict())
    peer.to(x.device).SIG.requires_grad_(False)
    x, g = x.detach().permute(1, 2, 0).contiguous().requires_grad_(), g.permute(1, 2, 0).contiguous()
    g_kernel = torch.randn(*layer.weight.shape[:2], K, device=x.device)

    def step() -> dict[str, Tensor]:
        y = peer(F.pad(x, (K - 1, 0)))
        g_x, *others = torch.autograd.grad(y, [x, peer.weight, peer.P], g)
        return named(y.permute(2, 0, 1), (g_x.permute(2, 0, 1), *others))

    def kernel() -> dict[str, Tensor]:
        torch.autograd.grad(peer.DCK(peer.weight, peer.P, peer.SIG), [peer.weight, peer.P], g_kernel)
        return {}

    return step, kernel


def convolution(layer: DelayLinear, x: Tensor, g: Tensor) -> Step:
    K, h = layer.max_delay, layer.kernel().detach().contiguous().requires_grad_()
    x, g = x.detach().permute(1, 2, 0).contiguous().requires_grad_(), g.permute(1, 2, 0).contiguous()

    def step() -> dict[str, Tensor]:
        y = F.conv1d(F.pad(x, (K - 1, 0)), h)
        g_x, _ = torch.autograd.grad(y, [x, h], g)
        return named(y.permute(2, 0, 1), (g_x.permute(2, 0, 1),))

    return step


def kernel_alone(layer: DelayLinear) -> Step:
    g = torch.randn(layer.max_delay, *layer.weight.shape[:2], device=layer.weight.device).movedim(0, -1)

    def step() -> dict[str, Tensor]:
        torch.autograd.grad(layer.kernel(), [layer.weight, layer.P], g)
        return {}

    return step


def products_alone(layer: DelayLinear, x: Tensor, g: Tensor) -> Step:
    h = layer.kernel().detach().requires_grad_()

    def step() -> dict[str, Tensor]:
        y = delayed_sum(x, h)
        torch.autograd.grad(y, [x, h], g)
        return {}

    return step


def disagreement(steps: dict[str, Step], tolerance: float = 1e-5) -> str | None:
    """The first tensor that is not the first candidate's, by norm of the difference over norm, or None."""
    (first, step), *others = steps.items()
    expected = {name: value.detach().clone() for name, value in step().items()}
    for other, step in others:
        for name, value in step().items():
            error = ((value.reshape(expected[name].shape) - expected[name]).norm() / expected[name].norm()).item()
            if not error <= tolerance:
                return (
                    f"{name} of {other} differs from that of {first}: {error:.1e} of its norm, allowed {tolerance:.0e}"
                )
    return None


def show(found: dict[str, float], on_device: dict[str, float], peer: object) -> None:
    own = found[OURS]
    for name, seconds in found.items():
        graph = f" {1e3 * on_device[name]:9.3f} ms" if name in on_device else ""
        print(f"{name:26}{1e3 * seconds:9.3f} ms{graph} {seconds / own:7.2f} x")
    if isinstance(peer, str):
        print(f"{DCLS:26}{peer}")
        return
    for times, where in ((found, ""), (on_device, " on the device")):
        if times:
            layer, kernel = times[OURS] / times[DCLS], times[KERNEL] / times[DCLS_KERNEL]
            print(f"snnkit takes {layer:.2f} of the time of DCLS{where}, {kernel:.2f} for the kernel alone")


def run(device: torch.device, args: dict[str, Any], sigma: float, tf32: bool, said: str) -> str | None:
    """Measure and print one table, or return what is wrong."""
    C, out, K, T = (args[name] for name in ("in", "out", "delay", "steps"))
    B = args["batch"] or (128 if device.type == "cuda" else 16)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.manual_seed(0)
    layer = DelayLinear(C, out, K).to(device)
    layer.SIG.requires_grad_(False)
    torch.nn.init.constant_(layer.SIG, sigma)
    x = (torch.rand(T, B, C, device=device) < 0.1).float().requires_grad_()
    g = torch.randn(T, B, out, device=device)
    peer = dcls(layer, x, g)
    steps: dict[str, Step] = {OURS: ours(layer, x, g)}
    parts = {KERNEL: kernel_alone(layer), SUM: products_alone(layer, x, g)}
    if not isinstance(peer, str):
        steps[DCLS], parts[DCLS_KERNEL] = peer
    steps["plain PyTorch reference"] = plain_pytorch(layer, x, g)
    steps["conv1d, kernel given"] = convolution(layer, x, g)
    wrong = disagreement(steps, 3e-2 if tf32 else 1e-5)  # TF32 has 10 bits, and sums of either sign follow
    if wrong:
        return wrong
    steps |= parts
    on_device = {}
    if device.type == "cuda":
        found = measure(steps, args["rounds"], device)
        on_device = measure({name: graphed(step, device) for name, step in steps.items()}, args["rounds"], device)
        how = f"median of {args['rounds']}, eager and as a CUDA graph; TF32 {'on' if tf32 else 'off'}"
    else:
        found = best(steps, args["rounds"], time.process_time if args["cpu_time"] else time.perf_counter)
        how = f"best of {args['rounds']}{', processor time' if args['cpu_time'] else ''}"
    if said:
        print(said)
    print(
        f"\n{C} x {out} x {K}, B={B}, T={T}, float32, SIG={sigma:g}; forward and backward; {how}\n"
        f"{machine()}; kernel: {path(layer.weight, layer.profile)}; over time: {over_time.path(x, layer.kernel())}"
    )
    show({name: found[name] for name in (*FIRST, *found) if name in found}, on_device, peer)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda", "all"), default="all")
    for name, value in (("steps", 100), ("rounds", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, (value, streamed) in SIZES.items():
        parser.add_argument(f"--{name}", type=int, help=f"default {value}, of a stream {streamed}")
    parser.add_argument("--stream", action="store_true", help="one sample, one step a call")
    parser.add_argument("--rate", type=float, default=0.05, help="spikes of a stream's input")
    parser.add_argument("--batch", type=int, help="default 16 on the CPU, 128 on a GPU")
    parser.add_argument("--sigma", type=float, nargs="+", help="SIG; default K // 2, and on the CPU 0.23, too")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, for one thread on a busy machine")
    args = vars(parser.parse_args())
    for name, (value, streamed) in SIZES.items():
        args[name] = args[name] or (streamed if args["stream"] else value)
    if args["stream"]:
        print(titled(torch.device("cpu")))
        sizes = (args["in"], args["out"], args["delay"])
        wrong = _delay_stream.run(*sizes, args["rate"], args["rounds"], args["cpu_time"])
        if wrong:
            print(f"no timings: {wrong}", file=sys.stderr)
        return bool(wrong)
    for device in devices(args["device"]):
        gpu = device.type == "cuda"
        said = f"\n{titled(device)}" + (f", copy {copy_rate(device) / 1e12:.3f} TB/s" if gpu else "")
        for sigma in args["sigma"] or [float(args["delay"] // 2)] + [0.23] * (not gpu):
            for tf32 in (False, True) if gpu else (False,):
                wrong = run(device, args, sigma, tf32, said)
                if wrong:
                    print(f"no timings: {wrong}", file=sys.stderr)
                    return 1
                said = ""
    return 0


if __name__ == "__main__":
    sys.exit(main())
