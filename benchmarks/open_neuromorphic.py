"""The Open Neuromorphic benchmark: a Linear and a LIF layer, batch of 16, 500 steps, as many inputs as neurons.

    python benchmarks/open_neuromorphic.py
    python benchmarks/open_neuromorphic.py --neurons 512 16384 --rounds 5

https://open-neuromorphic.org/blog/spiking-neural-network-framework-benchmarking/ (2023, 2024): forward, and backward of
the sum of all spikes to weight and bias. Input is noise and wants no gradient. What is kept apart here:

* Forward and backward are timed by the host's clock with the device idle before and after; candidates take turns, the
  best of N counts.
* float32 for all, TF32 off for all (JAX would use it unasked).
* The linear layer sees all steps at once where the library allows it; snnTorch's stands in the loop over the steps, as
  in its tutorials and in the original.
* tau = 2 (the original: another one a library), so that SpikingJelly's spikes can be compared with ours: nothing is
  timed unless they are equal and the gradients agree to 1e-4.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from _timing import best, devices, machine, titled
from torch import Tensor, nn

import snnkit


class Candidate(NamedTuple):
    """A forward that returns the spikes, and a backward of what the last forward left; both wait for the device."""

    forward: Callable[[], Any]
    backward: Callable[[], Any]
    weight: Tensor | None = None


def of_torch(model: Callable[[Tensor], Tensor], linear: nn.Linear, x: Tensor) -> Candidate:
    held: list[Tensor] = []

    def forward() -> Tensor:
        held[:] = [model(x)]
        return held[0].detach()

    def backward() -> None:
        linear.weight.grad = linear.bias.grad = None
        held.pop().sum().backward()

    return Candidate(forward, backward, linear.weight)


def ours(linear: nn.Linear, x: Tensor) -> Candidate:
    return of_torch(nn.Sequential(linear, snnkit.nn.LIF(tau=2.0)), linear, x)


def ours_compiled(linear: nn.Linear, x: Tensor) -> Candidate:
    model = nn.Sequential(linear, snnkit.nn.LIF(tau=2.0))
    return of_torch(torch.compile(model, fullgraph=True, dynamic=False), linear, x)


def spikingjelly(linear: nn.Linear, x: Tensor) -> Candidate:
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(2.0), step_mode="m")

    def model(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(linear(x))

    return of_torch(model, linear, x)


def snntorch(linear: nn.Linear, x: Tensor) -> Candidate:
    import snntorch as snn

    node = snn.Leaky(beta=0.5).to(x.device)

    def model(x: Tensor) -> Tensor:
        v, spikes = node.init_leaky(), []
        for row in x:
            s, v = node(linear(row), v)
            spikes.append(s)
        return torch.stack(spikes)

    return of_torch(model, linear, x)


def norse(linear: nn.Linear, x: Tensor) -> Candidate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from norse.torch import LIFBoxCell

    cell = LIFBoxCell()

    def model(x: Tensor) -> Tensor:
        state, spikes = None, []
        for row in linear(x):
            s, state = cell(row, state)
            spikes.append(s)
        return torch.stack(spikes)

    return of_torch(model, linear, x)


def spyx(linear: nn.Linear, x: Tensor) -> Candidate:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    if (jax.default_backend() == "gpu") != x.is_cuda:
        raise ImportError(f"jax runs on {jax.default_backend()}, torch on {x.device.type}")
    jax.config.update("jax_default_matmul_precision", "highest")
    import spyx.nn
    from flax import nnx

    tensors = (linear.weight.T.contiguous(), linear.bias, x)
    weight, bias, inputs = (jax.numpy.from_dlpack(tensor.detach()) for tensor in tensors)
    lif = spyx.nn.LIF((len(bias),), beta=0.5, rngs=nnx.Rngs(0))

    def spikes(parameters: Any, inputs: Any) -> Any:
        return spyx.nn.run(lif, inputs @ parameters[0] + parameters[1])[0]

    run = jax.jit(lambda parameters, inputs: jax.vjp(lambda p: spikes(p, inputs), parameters))
    back = jax.jit(lambda pull, s: pull(jax.numpy.ones_like(s)))
    held: list[Any] = []

    def forward() -> None:
        held[:] = jax.block_until_ready(run((weight, bias), inputs))

    return Candidate(forward, lambda: jax.block_until_ready(back(held[1], held[0])))


OURS, PEER = "snnkit LIF", "SpikingJelly LIFNode"
CANDIDATES: dict[str, Callable[[nn.Linear, Tensor], Candidate]] = {
    OURS: ours, "snnkit LIF, torch.compile": ours_compiled, PEER: spikingjelly, "snnTorch Leaky": snntorch,
    "Norse LIFBoxCell": norse, "Spyx LIF": spyx,
}  # fmt: skip


def candidates(n: int, x: Tensor) -> tuple[dict[str, Candidate], dict[str, str]]:
    """What can be measured, with equal weights, and why the others cannot."""
    torch.manual_seed(0)
    first = nn.Linear(n, n, device=x.device)
    found, missing = {}, {}
    for name, make in CANDIDATES.items():
        linear = nn.Linear(n, n, device=x.device)
        linear.load_state_dict(first.state_dict())
        try:
            found[name] = make(linear, x)
            found[name].forward()
            found[name].backward()  # compiles what there is to compile
        except ImportError as error:
            missing[name] = f"not installed ({error})"
            found.pop(name, None)
        except Exception as error:  # a peer that does not run here is named, too
            if name == OURS:
                raise
            missing[name] = f"no timings: {type(error).__name__}: {str(error).strip().splitlines()[:1]}"
            found.pop(name, None)
    return found, missing


def disagreement(found: dict[str, Candidate]) -> str | None:
    """Which of the candidates with our equation is not equal to ours, and in what."""
    expected = found[OURS].forward()
    found[OURS].backward()
    for name in ("snnkit LIF, torch.compile", PEER):
        if name in found:
            s = found[name].forward()
            found[name].backward()
            if not torch.equal(s, expected):
                return f"{int((s != expected).sum())} of {s.numel()} spikes of {name} differ from {OURS}"
            ours, other = found[OURS].weight.grad, found[name].weight.grad
            if not (ours - other).norm() <= 1e-4 * other.norm():
                return f"the gradient of {name} differs from {OURS}"
    return None


def run(device: torch.device, n: int, args: argparse.Namespace) -> str | None:
    """Print the table of one size, or return what is wrong."""
    x = torch.randn(args.steps, args.batch, n, device=device)
    found, missing = candidates(n, x)
    wrong = disagreement(found)
    if wrong:
        return wrong

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    steps = {(name, part): getattr(c, part) for name, c in found.items() for part in ("forward", "backward")}
    times = best(steps, args.rounds, clock)
    print(f"\n{n} neurons, B={args.batch}, T={args.steps}   forward, ms   backward, ms       both")
    own = times[OURS, "forward"] + times[OURS, "backward"]
    for name in CANDIDATES:
        if name in found:
            forward, backward = times[name, "forward"], times[name, "backward"]
            print(f"  {name:26}{1e3 * forward:14.2f} {1e3 * backward:14.2f} {(forward + backward) / own:8.2f} x")
        else:
            print(f"  {name:26}   {missing[name]}")
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda", "all"), default="all")
    parser.add_argument("--neurons", type=int, nargs="+", help="default 512 to 16384 on a GPU, 512 on the CPU")
    for name, value in (("batch", 16), ("steps", 500), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for device in devices(args.device):
        for index, n in enumerate(args.neurons or ([512, 2048, 8192, 16384] if device.type == "cuda" else [512])):
            if index == 0:
                print(f"\n{titled(device)}; {machine()}; best of {args.rounds}")
            wrong = run(device, n, args)
            if wrong:
                print(f"no timings: {wrong}", file=sys.stderr)
                return 1
            gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
