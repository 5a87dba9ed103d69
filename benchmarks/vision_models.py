"""A training step of the vision models: finite loss and gradients, time and peak memory.

    python benchmarks/vision_models.py --device cuda
    python benchmarks/vision_models.py --models "max_former_10_*" --size 64 --batch 2 --dtypes bfloat16

Random images, batch 8, T = 4, autocast in float16 and bfloat16; weights are float32. A step is forward, cross entropy
and backward; the loss is scaled in float16, as a training script's scaler does. Time is the best of N steps after two,
memory the allocator's peak in them. Of a model whose loss or gradients are not finite, only that is printed.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from _timing import machine
from torch import nn

import snnkit

SCALE = {torch.float16: 1024.0}


def models(pattern: str) -> list[str]:
    """Names of the ImageNet variants that match."""
    with torch.device("meta"):
        found = {name: snnkit.create_model(name) for name in snnkit.list_models(pattern)}
    return [name for name, model in found.items() if model.num_classes == 1000]


def training_step(model: nn.Module, x: torch.Tensor, target: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Forward, loss and backward; returns the loss."""
    model.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, dtype):
        y = model(x)
    heads = y if isinstance(y, tuple) else (y,)
    loss = sum(nn.functional.cross_entropy(head.float(), target) for head in heads)
    (loss * SCALE.get(dtype, 1.0)).backward()
    return loss.detach()


def finite(model: nn.Module, loss: torch.Tensor) -> bool:
    """Whether the loss and all gradients are numbers, and every parameter has one."""
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    return bool(loss.isfinite()) and all(g is not None and bool(g.isfinite().all()) for g in grads)


def measure(name: str, options: argparse.Namespace, dtype: torch.dtype) -> str:
    """One row of the table."""
    device = torch.device(options.device)
    torch.manual_seed(0)
    model = snnkit.create_model(name, steps=options.steps).to(device).train()
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(options.batch, 3, options.size, options.size, device=device, generator=generator)
    target = torch.arange(options.batch, device=device)
    on_gpu = device.type == "cuda"
    for _ in range(2):
        loss = training_step(model, x, target, dtype)
    good = finite(model, loss)
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        training_step(model, x, target, dtype)
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:6.2f} GiB" if on_gpu else "         -"
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    row = f"{name:30} {parameters:6.1f} M  {str(dtype).removeprefix('torch.'):9}"
    if not good:
        return f"{row}  loss or gradients are not finite"
    return f"{row}  loss {float(loss):6.3f}  {1e3 * min(times):7.1f} ms  {memory}"


def main() -> int:
    """Print the table; exit status 1 if a loss or gradient is not finite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", default="", help="part of the names, or a pattern")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="time steps T")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float16"], choices=["bfloat16", "float16"])
    options = parser.parse_args()
    print(torch.cuda.get_device_name() if options.device == "cuda" else "CPU")
    print(machine())
    print(f"batch {options.batch}, T = {options.steps}, {options.size} pixels; forward, loss and backward")
    bad = 0
    for name in models(options.models):
        for dtype in options.dtypes:
            row = measure(name, options, getattr(torch, dtype))
            bad += "not finite" in row
            print(row, flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
