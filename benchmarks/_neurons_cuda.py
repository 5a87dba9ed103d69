"""Neurons on a GPU beside the memory traffic that no implementation avoids: the table of ``neurons.py`` for CUDA.

A forward must read x and write s; a backward must read x and grad s and write grad x. Their bytes over the bandwidth of
a large copy in the same run is the unit. Each candidate is measured as a user calls it (eager) and, where it can be
captured, as a CUDA graph; forward and backward apart and together. Before a candidate is timed, its spikes and
gradients at that very size and dtype are compared with the reference on the CPU, at lanes from all over the tensor.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from _neuron_peers import STEPWISE, Layer
from _timing import Step, copy_rate, graphed, measure
from torch import Tensor

from snnkit import nn
from snnkit.ops.reference import reference

CASES = [(4, 12_800_000), (16, 4_194_304), (1000, 8192)]  # T, N
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LIF = "snnkit LIF, tau=2"
OURS: dict[str, Callable[[], Any]] = {
    LIF: nn.LIF, "snnkit LIF, tau=3": lambda: nn.LIF(tau=3.0), "snnkit ALIF": nn.ALIF,
    "snnkit AdLIF, numbers": lambda: nn.AdLIF(learn=()), "snnkit AdLIF, learnt": nn.AdLIF,
    "snnkit PLIF, learnt": nn.PLIF, "snnkit CUBA": nn.CUBA,
}  # fmt: skip
LONG = 100  # from here on LIF alone
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # x is rounded, too
CUPY = "SpikingJelly 0.0.0.0.14"
PARTS = ("forward", "backward", "both")
Times = dict[str, float]


class Row(NamedTuple):
    """Seconds of the parts of a step, eager and as a graph; or why there are none."""

    eager: Times
    graph: Times
    said: str = ""


def parts(layer: Layer, x: Tensor, g: Tensor, parameters: list[Tensor]) -> dict[str, Step]:
    """A step's parts. The backward alone keeps what its forward made, on the stream of its first call."""
    made: list[Tensor] = []

    def backward() -> Any:
        if not made:
            made.append(layer(x))
        return torch.autograd.grad(made[0], [x, *parameters], g, retain_graph=True)

    return {
        "forward": lambda: layer(x),
        "backward": backward,
        "both": lambda: torch.autograd.grad(layer(x), [x, *parameters], g),
    }


def lanes_to_compare(lanes: int, count: int = 1000) -> Tensor:
    """The first and last lanes, and some between them."""
    ends = torch.arange(min(count, lanes))
    return torch.cat([ends, lanes - 1 - ends, torch.randint(lanes, (count,))]).unique()


def wrong(layer: Any, x: Tensor, g: Tensor) -> str | None:
    """How a layer of ours differs from the reference in float32 on the CPU, or None. A state is never rounded."""
    s = layer(x)
    (g_x,) = torch.autograd.grad(s, x, g)
    pick = lanes_to_compare(x[0].numel())

    def some(a: Tensor) -> Tensor:
        return a.detach().flatten(1)[:, pick.to(a.device)].float().cpu()[:, None]

    x_some = some(x).requires_grad_()
    neuron = layer.neuron.bind({name: p.detach().cpu() for name, p in layer._tensors().items()})
    plain, _, _ = reference(neuron, x_some, {name: torch.zeros_like(x_some[0]) for name in neuron.states})
    (g_plain,) = torch.autograd.grad(plain, x_some, some(g))
    if not torch.equal(some(s), plain):
        return f"{int((some(s) != plain).sum())} of {plain.numel()} spikes differ from the reference"
    error, norm = (some(g_x) - g_plain).norm().item(), g_plain.norm().item()
    if not error <= TOLERANCE[x.dtype] * norm:
        return f"the gradient differs from the reference: {error:.1e} of {norm:.1e}"
    return None


def differs(peer: Layer, x: Tensor, g: Tensor) -> str | None:
    """How a LIF of another library differs from ours, or None. In half it rounds its states, and may."""
    if x.dtype != torch.float32:
        return None
    ours, s = nn.LIF()(x), peer(x)
    if not torch.equal(ours, s):
        return f"{int((ours != s).sum())} of {s.numel()} spikes differ from ours"
    ours, s = torch.autograd.grad(ours, x, g)[0], torch.autograd.grad(s, x, g)[0]
    error, norm = (ours - s).norm().item(), s.norm().item()
    return None if error <= 1e-5 * norm else f"its gradient differs from ours: {error:.1e} of {norm:.1e}"


def drive(T: int, N: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Input and gradient, ``[T, 1, N]``."""
    torch.manual_seed(0)
    x = 2 * torch.rand(T, 1, N, device=device)
    return x.to(dtype).requires_grad_(), torch.randn(T, 1, N, device=device).to(dtype)


def rows(
    T: int, N: int, dtype: torch.dtype, peers: dict[str, Layer], rounds: int, device: torch.device
) -> tuple[dict[str, Row], str | None]:
    """The rows of one size and dtype; or the reason why nothing of it may be printed."""
    x, g = drive(T, N, dtype, device)
    found: dict[str, Row] = {}
    eager: dict[tuple[str, str], Step] = {}
    graphs: dict[tuple[str, str], Step] = {}

    def add(name: str, layer: Layer, parameters: list[Tensor]) -> None:
        for part, step in parts(layer, x, g, parameters).items():
            eager[name, part] = step
        if device.type == "cuda" and name not in STEPWISE:
            for part, step in parts(layer, x, g, parameters).items():
                graphs[name, part] = graphed(step, device)

    for name, make in OURS.items():
        if "LIF, tau" not in name and (T >= LONG or dtype == torch.bfloat16):
            continue
        layer = make().to(device)
        reason = wrong(layer, x, g)
        if reason:
            return {}, f"{name}, T={T}, N={N}, {dtype}: {reason}"
        add(name, layer, list(layer.parameters()))
    for name, peer in peers.items():
        if name in STEPWISE and dtype != torch.float32:
            continue
        try:
            torch.autograd.grad(peer(x), x, g)
            reason = differs(peer, x, g) if name not in STEPWISE else None
            if reason is None:
                add(name, peer, [])
        except Exception as error:  # whatever a peer does not take: said in its row
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:90] if str(error) else ''}"
        if reason:
            found[name] = Row({}, {}, f"no timings: {reason}")
    slow = {key: step for key, step in eager.items() if key[0] in STEPWISE}
    times = measure({k: s for k, s in eager.items() if k not in slow}, rounds, device)
    times |= measure(slow, 3, device, warm=1)
    graph_times = measure(graphs, rounds, device)
    for name in dict.fromkeys(name for name, _ in eager):
        found.setdefault(name, Row(*({p: t[name, p] for p in PARTS if (name, p) in t} for t in (times, graph_times))))
    return found, None


def cupy_rows(folder: str, cases: list[tuple[int, int]], rounds: int, device: torch.device) -> dict[str, Row]:
    """SpikingJelly 0.0.0.0.14 with CuPy, from ``folder``, in a process of its own: a row a case, by ``key``."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_spikingjelly_cupy.py")
    call = [sys.executable, script, folder, str(device), str(rounds), json.dumps(cases)]
    done = subprocess.run(call, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"": Row({}, {}, last[:120])}
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            answer = json.loads(line)
            found[answer["key"]] = Row(answer.get("times", {}), {}, answer.get("said", ""))
    return found


def key(T: int, N: int, dtype: torch.dtype) -> str:
    return f"T={T}, N={N}, {str(dtype).removeprefix('torch.')}"


def show(title: str, found: dict[str, Row], traffic: Times) -> None:
    """Print a case. Ratios are of graph times, where there are any."""
    print(f"\n{title}: traffic {', '.join(f'{part} {1e3 * traffic[part]:.3f}' for part in PARTS)} ms")
    print(f"  {'':24}{'eager, ms':^30}{'CUDA graph, ms':^30}{'times the traffic':^29}{'of LIF':>7}")
    print(f"  {'':24}{' '.join(f'{part:>9}' for part in PARTS * 3)}")
    own = found[LIF].graph or found[LIF].eager
    for name, row in found.items():
        if row.said:
            print(f"  {name:24} {row.said}")
            continue
        times = row.graph or row.eager
        cells = [f"{1e3 * t[p]:9.3f}" if p in t else f"{'-':>9}" for t in (row.eager, row.graph) for p in PARTS]
        ratios = [f"{times[part] / traffic[part]:9.2f}" for part in PARTS]
        print(f"  {name:24}{' '.join([*cells, *ratios])}{times['both'] / own['both']:7.2f}")


def table(
    device: torch.device, cases: list[tuple[int, int]], peers: dict[str, Layer], rounds: int, cupy: str | None
) -> str | None:
    """Print all cases on a device; or return what is wrong."""
    old = cupy_rows(cupy, cases, rounds, device) if cupy else {}
    rate = copy_rate(device, 2**30 if device.type == "cuda" else 2**24)
    print(f"copy {rate / 1e12:.3f} TB/s, read and written; median of {rounds}")
    for T, N in cases:
        for dtype in DTYPES:
            found, reason = rows(T, N, dtype, peers, rounds, device)
            if reason:
                return reason
            row = old.get(key(T, N, dtype), old.get(""))
            if row:
                found[f"{CUPY} CuPy"] = row
            moved = T * N * dtype.itemsize / rate
            show(key(T, N, dtype), found, {"forward": 2 * moved, "backward": 3 * moved, "both": 5 * moved})
            del found
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return None
