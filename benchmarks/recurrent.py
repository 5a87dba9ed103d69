"""A training step of two recurrent layers: snnkit beside plain PyTorch loops and SpikingJelly, on each device.

    python benchmarks/recurrent.py
    python benchmarks/recurrent.py --device cpu --threads 1 --size 256
    python benchmarks/recurrent.py --device cuda --profile

Linear -> recurrent layer, twice; forward and backward, all parameters learnt, ``[T, B, N]`` = 100 x 128 x 512, float32,
TF32 off. The candidates share their weights and take turns; after each the device is waited for. Best and median are
shown, with the load average, since other load makes them an upper bound. SE-adLIF: the plain loop comes as ``for row in
x``, with ``x[t]``, around a compiled step (``--compile``), and on a GPU as a CUDA graph; "products" are the matrix
products of the plain loop alone, called as there. LIF: SpikingJelly has no SE-adLIF, so the same network with a LIF
(tau = 2) stands beside its ``LinearRecurrentContainer``. Nothing is timed before results agree in float64.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from _recurrent_peers import compiled, indexed, plain, spikingjelly
from _timing import Step, devices, graphed, machine, titled
from torch import Tensor, nn

from snnkit.nn import LIF, Recurrent, SEAdLIF
from snnkit.ops.recurrent import path

Run = Callable[[Recurrent, Tensor], Tensor]


def network(size: int, dtype: torch.dtype, device: torch.device, adaptive: bool = True) -> nn.ModuleList:
    """Two linear and two recurrent layers; the weights are large enough for both to fire."""
    torch.manual_seed(0)
    layers = nn.ModuleList()
    for gain in (60.0, 30.0) if adaptive else (6.0, 4.0):
        linear = nn.Linear(size, size)
        linear.weight.data.mul_(gain)
        neuron = SEAdLIF(learn=("tau_u", "tau_w", "a", "b"), shape=(size,)) if adaptive else LIF(tau=2.0)
        layers.extend([linear, Recurrent(neuron, size)])
    return layers.to(device, dtype)


def events(steps: int, batch: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Sparse input."""
    torch.manual_seed(1)
    return (torch.rand(steps, batch, size) < 0.05).to(device, dtype)


def gradients(out: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Output, and gradients of all parameters, as a training loop gets them."""
    for p in parameters:
        p.grad = None
    out.mean().backward()
    return [out, *(p.grad for p in parameters if p.grad is not None)]


def step(layers: nn.ModuleList, x: Tensor, run: Run | None = None) -> list[Tensor]:
    """A training step, with the recurrent layers run in another way."""
    for linear, recurrent in zip(layers[::2], layers[1::2], strict=True):
        x = recurrent(linear(x)) if run is None else run(recurrent, linear(x))
    return gradients(x, list(layers.parameters()))


def products(layers: nn.ModuleList, x: Tensor) -> None:
    """The products of a step of the plain loop, forward and backward."""
    weight, rows, flat = layers[1].weight.detach(), x[0].clone(), x.flatten(0, 1)
    for first in (True, False):
        flat @ weight.T
        for _ in range(len(x)):
            torch.mm(rows, weight.T), torch.mm(rows, weight), torch.mm(rows.T, rows)
        flat.T @ flat
        None if first else flat @ weight


def spikingjelly_step(layers: nn.ModuleList) -> Callable[[Tensor], list[Tensor]]:
    """A training step of the LIF network in SpikingJelly."""
    run, parameters = spikingjelly(layers)
    return lambda x: gradients(run(x), parameters)


def disagreement(device: torch.device, peer: bool) -> str | None:
    """What is wrong with our numbers on a device, or None."""
    for size in (48, 70):
        x = events(20, 37, size, torch.float64, device)
        layers = network(size, torch.float64, device)
        for mine, theirs in zip(step(layers, x), step(layers, x, plain), strict=True):
            if not (mine - theirs).norm() <= 1e-10 * theirs.norm():
                return "SE-adLIF differs from the plain loop"
        if not peer:
            continue
        layers = network(size, torch.float64, device, adaptive=False)
        mine, (out, *theirs) = step(layers, x), spikingjelly_step(layers)(x)
        joined = [torch.cat([mine[1], mine[3]], 1), mine[2], torch.cat([mine[4], mine[6]], 1), mine[5]]
        for a, b in zip([mine[0], *joined], [out, *theirs], strict=True):
            if not (a - b).norm() <= 1e-10 * b.norm():
                return "LIF differs from SpikingJelly"
    return None


def times(steps: dict[str, Step], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each step, the device empty before and after; the steps take turns, and the first round warms up."""
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, run in steps.items():
            wait()
            begin = time.perf_counter()
            run()
            wait()
            found[name].append(time.perf_counter() - begin)
    return {name: seconds[1:] for name, seconds in found.items()}


def captured(steps: dict[str, Step], device: torch.device) -> dict[str, Step]:
    """The steps as CUDA graphs; one that cannot be captured is left out, with a line that says why."""
    found: dict[str, Step] = {}
    for name, run in steps.items():
        try:
            found[f"{name}, CUDA graph"] = graphed(run, device)
        except RuntimeError as error:
            print(f"{name}: no CUDA graph ({str(error).splitlines()[0]})")
    return found


def table(steps: dict[str, Step], unit: str, rounds: int, device: torch.device) -> None:
    """Print the times of some steps beside one of them."""
    found = times(steps, rounds, device)
    one = statistics.median(found[unit])
    print(f"{'':34}{'best':>10}{'median':>10}")
    for name, seconds in found.items():
        median = statistics.median(seconds)
        print(f"{name:34}{1e3 * min(seconds):10.2f}{1e3 * median:10.2f} ms   {unit} x {one / median:.2f}")


def profile(layers: nn.ModuleList, x: Tensor) -> None:
    """Print the kernels of a training step that take longest."""
    with torch.profiler.profile() as seen:
        step(layers, x)
        torch.cuda.synchronize(x.device)
    print(seen.key_averages().table(sort_by="self_device_time_total", row_limit=12, max_name_column_width=60))


def measure(device: torch.device, a: argparse.Namespace) -> str | None:
    """Compare, then print the tables of a device; or say what is wrong."""
    try:
        spikingjelly(network(4, torch.float32, device, adaptive=False))
        missing = None
    except ImportError as error:
        missing = str(error)
    wrong = disagreement(device, missing is None)
    if wrong:
        return wrong
    gpu, x = device.type == "cuda", events(a.steps, a.batch, a.size, torch.float32, device)
    print(f"\n{titled(device)}: [{a.steps}, {a.batch}, {a.size}], two layers; {path(x)}")
    layers = network(a.size, torch.float32, device)
    steps: dict[str, Step] = {
        "snnkit SE-adLIF": lambda: step(layers, x),
        "plain loop": lambda: step(layers, x, plain),
        "plain loop, x[t]": lambda: step(layers, x, indexed),
    }
    if a.compile:
        run = compiled()
        steps["plain loop, compiled step"] = lambda: step(layers, x, run)
    if gpu:
        steps |= captured({name: steps[name] for name in ("snnkit SE-adLIF", "plain loop")}, device)
    steps["products"] = lambda: products(layers, x)
    table(steps, "plain loop", a.rounds, device)
    lif = network(a.size, torch.float32, device, adaptive=False)
    steps = {"snnkit LIF": lambda: step(lif, x)}
    if missing is None:
        peer = spikingjelly_step(lif)
        steps["SpikingJelly LIF in container"] = lambda: peer(x)
    if gpu:
        steps |= captured(dict(steps), device)
    table(steps, "snnkit LIF", a.rounds, device)
    if missing is not None:
        print(f"SpikingJelly: not installed ({missing})")
    if gpu and a.profile:
        profile(layers, x)
    return None


def main() -> int:
    """Compare, then measure, on each device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda", "all"), default="all")
    for name, value in dict(steps=100, batch=128, size=512, threads=torch.get_num_threads(), rounds=10).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--compile", action="store_true", help="the plain loop around a compiled step, too")
    parser.add_argument("--profile", action="store_true", help="GPU: the kernels that take longest")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    found = devices(a.device)
    if not found:
        print("no timings: torch finds no CUDA device", file=sys.stderr)
        return 1
    print(f"{machine()}; best and median of {a.rounds}")
    for device in found:
        wrong = measure(device, a)
        if wrong:
            print(f"no timings on {device}: {wrong}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
