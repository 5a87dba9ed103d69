"""A training step of SpikingJelly's models before and after ``accelerate``, on every device found.

    python benchmarks/spikingjelly_models.py --threads 2
    python benchmarks/spikingjelly_models.py --model sew_resnet18 --batch 32 --size 224

On the CPU: a fully connected net, 700-512-512-20 (``--hidden``), T = 100, B = 64, and one of its layers of neurons
alone. On a CUDA device: SpikingJelly's own ``spiking_resnet18`` (or ``sew_resnet18``), T = 4, in float32 and under
autocast in float16 and bfloat16. A step is reset, forward, loss and backward; the optimizer's part, the same for both,
is left out. Before and after take turns, the best of N counts. Memory is as the allocator gives it to any program;
``--warm`` keeps it.
Nothing is printed before the answers agree: in float32 equal outputs and close gradients; in half precision the spikes
that SpikingJelly gives for the same input in float32.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
from _timing import best, keep_memory_warm, machine
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import sew_resnet, spiking_resnet
from torch import Tensor, nn

from snnkit.interop.spikingjelly import accelerate

MODELS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "spiking_resnet18": (spiking_resnet.spiking_resnet18, {}),
    "sew_resnet18": (sew_resnet.sew_resnet18, {"cnf": "ADD"}),
}
NODES: dict[str, Callable[..., Any]] = {
    "IF": neuron.IFNode, "LIF": neuron.LIFNode, "PLIF": neuron.ParametricLIFNode,
}  # fmt: skip
HALF = (torch.float16, torch.bfloat16)


def fully_connected(kind: str, sizes: tuple[int, ...]) -> nn.Module:
    """Linear layers with a neuron each, of weights large enough that all of them fire."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), NODES[kind](surrogate_function=surrogate.ATan(), step_mode="m")]
        nn.init.normal_(layers[-2].weight, 0.0, 5 / inputs**0.5)
    return nn.Sequential(*layers)


def residual(kind: str, name: str) -> nn.Module:
    """One of SpikingJelly's own residual networks, all steps at once."""
    make, keywords = MODELS[name]
    model = make(spiking_neuron=NODES[kind], surrogate_function=surrogate.ATan(), detach_reset=True, **keywords)
    functional.set_step_mode(model, "m")
    return model


def pair(model: nn.Module) -> dict[str, Any]:
    """The model as it is, and an accelerated copy."""
    ours = copy.deepcopy(model)
    accelerate(ours)
    return {"before": model, "after": ours}


def training_step(model: nn.Module, x: Tensor, target: Tensor, dtype: torch.dtype | None) -> Callable[[], Tensor]:
    """Reset, forward, loss of the mean over time, backward; the function returns the output."""

    def step() -> Tensor:
        functional.reset_net(model)
        for p in model.parameters():
            p.grad = None
        x.grad = None
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
            y = model(x)
        nn.functional.cross_entropy(y.float().mean(0), target).backward()
        if x.is_cuda:
            torch.cuda.synchronize()
        return y

    return step


def difference(models: dict[str, Any], x: Tensor, target: Tensor) -> str | None:
    """What differs between the answers of the two models in float32, or None."""
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # it would make a gradient's last bit its tenth
    y, y_ours = (training_step(model, x, target, None)() for model in models.values())
    torch.backends.cudnn.allow_tf32 = tf32
    if not torch.equal(y, y_ours) or not y.std() > 0:
        return f"{int((y != y_ours).sum())} of {y.numel()} outputs differ"
    for (name, p), q in zip(models["before"].named_parameters(), models["after"].parameters(), strict=True):
        if not (p.grad - q.grad).norm() <= 1e-4 * p.grad.norm():
            return f"the gradient of {name} differs"
    return None


def half_difference(kind: str, device: torch.device) -> str | None:
    """What differs between our spikes in half precision and SpikingJelly's in float32 for the same input, or None."""
    node = NODES[kind](surrogate_function=surrogate.ATan(), step_mode="m")
    models = pair(node.to(device))
    for dtype in HALF:
        x = torch.randn(8, 5, 33, device=device).to(dtype) * 2
        for model in models.values():
            functional.reset_net(model)
        if not torch.equal(models["before"](x.float()), models["after"](x).float()):
            return f"{kind} in {dtype}: spikes differ from those in float32"
    return None


def report(title: str, models: dict[str, Any], x: Tensor, target: Tensor, dtype: Any, rounds: int) -> None:
    steps = {name: training_step(model, x, target, dtype) for name, model in models.items()}
    for step in steps.values():
        for _ in range(3):
            step()
    found = best(steps, rounds)
    before, after = found["before"], found["after"]
    print(f"  {title:44}{1e3 * before:9.1f} ms {1e3 * after:9.1f} ms {before / after:7.2f} x", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="spiking_resnet18")
    parser.add_argument("--neuron", choices=NODES, default="LIF")
    parser.add_argument("--batch", type=int, default=32, help="of the residual network; the fully connected one has 64")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cpu-shape", type=int, nargs=2, default=(100, 64), help="T B of the fully connected net")
    parser.add_argument("--hidden", type=int, default=512, help="neurons of its two hidden layers")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--warm", action="store_true", help="keep freed memory instead of returning it")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warm = args.warm and keep_memory_warm()
    torch.manual_seed(0)
    jobs: list[tuple[str, dict[str, Any], Tensor, Tensor, Any]] = []
    hidden = args.hidden
    models = pair(fully_connected(args.neuron, (700, hidden, hidden, 20)))
    steps, batch = args.cpu_shape
    x = (torch.rand(steps, batch, 700) < 0.1).float()
    jobs.append((f"cpu: 700-{hidden}-{hidden}-20, T={steps}, B={batch}", models, x, torch.randint(20, (batch,)), None))
    alone = pair(nn.Sequential(copy.deepcopy(models["before"][1])))
    x = torch.randn(steps, batch, hidden, requires_grad=True)
    jobs.append((f"  {hidden} neurons of it alone", alone, x, torch.randint(hidden, (batch,)), None))
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        models = pair(residual(args.neuron, args.model).to(device))
        x = torch.randn(args.steps, args.batch, 3, args.size, args.size, device=device)
        target = torch.randint(1000, (args.batch,), device=device)
        name = f"cuda:{index}: {args.model}, T={args.steps}, B={args.batch}, {args.size} px"
        jobs += [(name, models, x, target, dtype) for dtype in (None, *HALF)]
    for title, models, x, target, dtype in jobs:
        wrong = difference(models, x, target) if dtype is None else half_difference(args.neuron, x.device)
        if wrong:
            print(f"no timings: {title}: {wrong}", file=sys.stderr)
            return 1
    memory = "warm" if warm else "as the allocator gives it"
    print(f"{machine()}; memory {memory}; best of {args.rounds}; {args.neuron}")
    for index in range(torch.cuda.device_count()):
        print(f"cuda:{index}: {torch.cuda.get_device_name(index)}")
    print(f"  {'':44}{'SpikingJelly':>12} {'accelerated':>12} {'gain':>9}")
    for title, models, x, target, dtype in jobs:
        label = "float32" if dtype is None else f"autocast {str(dtype).removeprefix('torch.')}"
        report(title if dtype is None else f"  the same, {label}", models, x, target, dtype, args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
