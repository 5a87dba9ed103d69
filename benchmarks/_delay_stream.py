"""A delay layer and a delay network as streams: one sample, one step a call, beside the dense convolution of a step."""

from __future__ import annotations

import time
from typing import Any

import torch
from _timing import best, machine
from torch import Tensor
from torch.nn import functional as F

from snnkit import create_model
from snnkit.nn import DelayLinear, carry
from snnkit.ops.delay_events import columns, delay_line, delayed_events

STEPS = 100
# Spoken digits (700 channels of SHD's layout, 140 of five each, 10 ms steps): mean of 60 recordings of its test set.
ACTIVE, COUNT = 0.185, 3.8
CONVOLUTION, PRODUCT = "conv1d of one step, kernel given", "one product of a step, kernel given"
PUBLIC, KERNEL = "DelayLinear in carry, a step a call", "delayed_events, 100 steps a call"


def layer_table(C: int, out: int, K: int, rate: float, rounds: int, cpu_time: bool) -> str | None:
    """Measure and print a layer of whole delays, or return what is wrong."""
    torch.manual_seed(0)
    layer = DelayLinear(C, out, K).discretize()
    x = (torch.rand(STEPS, 1, C) < rate).float()
    kernel = layer.kernel().contiguous()
    heard = torch.cat([torch.zeros(K - 1, C), x[:, 0]]).T[None].contiguous()  # [1, C, K - 1 + STEPS]
    windows, matrix = [heard[..., t : t + K].contiguous() for t in range(STEPS)], kernel.flatten(1)
    chunks, taps, line = list(x.split(1)), columns(kernel, C), delay_line(torch.zeros(K - 1, 1, out))
    steps = {
        CONVOLUTION: lambda: [F.conv1d(w, kernel) for w in windows],
        PRODUCT: lambda: [matrix @ w.flatten() for w in windows],
        PUBLIC: lambda: [layer(chunk) for chunk in chunks],
        KERNEL: lambda: delayed_events(x, taps, line),
    }
    with carry(layer):
        path = layer.path(chunks[0])
        for name, step in steps.items():
            made: Any = step()
            y = made if isinstance(made, Tensor) else torch.cat([each.reshape(1, 1, out) for each in made])
            expected = torch.cat(steps[CONVOLUTION]()).reshape(STEPS, 1, out)
            if not torch.allclose(y, expected, rtol=1e-4, atol=1e-5):
                return f"{name} differs from {CONVOLUTION} by {(y - expected).abs().max():.1e}"
        found = best(steps, rounds, time.process_time if cpu_time else time.perf_counter)
    how = "processor time" if cpu_time else "wall time"
    print(f"\n{C} x {out} x {K}, B=1, {100 * rate:g} % spikes, float32; best of {rounds}, {how}; {machine()}; {path}")
    for name, seconds in found.items():
        gain = "" if name == CONVOLUTION else f" {found[CONVOLUTION] / seconds:7.1f} times as fast as conv1d"
        print(f"{name:38}{1e6 * seconds / STEPS:9.1f} us{gain}")
    return None


def network_table(rounds: int, cpu_time: bool) -> str | None:
    """Measure and print a step of the delay network for SHD on counts as dense as those of spoken digits."""
    torch.manual_seed(0)
    model = create_model("delay_snn_shd").discretize()
    x = (torch.rand(STEPS, 1, 140) < ACTIVE) * (1 + torch.poisson(torch.full((STEPS, 1, 140), COUNT - 1)))
    spikes: list[float] = []
    hooks = [block.register_forward_hook(lambda *call: spikes.append(call[2].mean().item())) for block in model.blocks]
    with carry(model):
        whole = model(x)
    for hook in hooks:
        hook.remove()
    chunks, answers = list(x.split(1)), []
    seconds = []
    clock = time.process_time if cpu_time else time.perf_counter
    for _ in range(rounds):
        with carry(model):
            model(chunks[0])  # kernels and columns are made once for a stream
            begin = clock()
            answers = [model(chunk) for chunk in chunks[1:]]
            seconds.append((clock() - begin) / (STEPS - 1))
    if not torch.allclose(answers[-1], whole, rtol=1e-2, atol=1e-3):
        return "the stream's answer is not that of the sequence"
    shares = ", ".join(f"{100 * share:.1f}" for share in spikes)
    print(
        f"delay_snn_shd, untrained, whole delays; {100 * ACTIVE:g} % of 140 counts above 0, {shares} % spikes in its "
        f"layers: {1e6 * min(seconds):.0f} us for a step of 10 ms, its answer included"
    )
    return None


@torch.no_grad()
def run(C: int, out: int, K: int, rate: float, rounds: int, cpu_time: bool) -> str | None:
    """Both tables, or what is wrong."""
    return layer_table(C, out, K, rate, rounds, cpu_time) or network_table(rounds, cpu_time)
