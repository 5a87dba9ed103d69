"""A delay a channel before 2-d convolutions, trained on spiking digits; then the same network without its delays.

  python examples/delay_before_convolution.py               half a minute, nothing to download
  python examples/delay_before_convolution.py --max-delay 1 a network that was trained without

A convolution over space has no room for a delay in each weight. ``AxonalDelay`` delays each of its input channels as a
whole, so that the neurons behind it compare what happened at different times. Here a brighter pixel spikes earlier, and
the neurons forget four fifths of what they know from step to step.
"""

import argparse
import copy

import torch
from torch import Tensor, nn

from snnkit import data as snn_data
from snnkit.equations.surrogates import ATan
from snnkit.nn import LI, LIF, AxonalDelay, PerStep, SigmaSchedule, SumOfSoftmax, firing_rates
from snnkit.nn.losses import cross_entropy


def block(inputs: int, outputs: int, max_delay: int) -> nn.Sequential:
    """Delays -> convolution -> norm -> neurons: ``[T, B, inputs, H, W]`` -> ``[T, B, outputs, H / 2, W / 2]``."""
    delay = AxonalDelay(inputs, max_delay)
    space = PerStep(nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs)))
    neuron = LIF(tau=1.25, decay_input=False, surrogate=ATan(5.0))
    return nn.Sequential(delay, space, neuron)


class Network(nn.Module):
    """Copies of the picture, each with its own delay -> two convolutions -> leaky integrators, one a class."""

    def __init__(self, copies: int = 8, channels: int = 24, max_delay: int = 15) -> None:
        super().__init__()
        self.copies = copies
        self.blocks = nn.Sequential(block(copies, channels, max_delay), block(channels, channels, max_delay))
        self.readout = nn.Sequential(nn.Linear(4 * channels, 10), LI(tau=2.0))
        self.answer = SumOfSoftmax()

    def forward(self, x: Tensor) -> Tensor:
        """Map spikes ``[T, B, 64]`` to answers ``[B, 10]``."""
        maps = x.unflatten(2, (1, 8, 8)).expand(-1, -1, self.copies, -1, -1)  # [T, B, copies, 8, 8]
        return self.answer(self.readout(self.blocks(maps).flatten(2)))

    def evaluated(self, delays: bool = True) -> "Network":
        """A copy in eval mode with every delay in whole steps, or with none."""
        twin = copy.deepcopy(self).eval()
        for part in twin.blocks:
            part[0] = part[0].discretize()
            if not delays:
                part[0].delay = 0.0
        return twin


def accuracy(model: nn.Module, dataset: snn_data.Dataset) -> float:
    """Share of right answers."""
    x, labels, _ = dataset.batch(range(len(dataset)))
    with torch.inference_mode():
        return (model(x).argmax(1) == labels).double().mean().item()


def train(model: Network, epochs: int) -> None:
    """Train weights and delays; the delays are wide at first, so that they feel distant taps, and end as one or two."""
    train_set, valid_set = snn_data.Digits("train"), snn_data.Digits("valid")
    sampler = snn_data.EpochSampler(len(train_set), batch_size=64, seed=0)
    positions = [part[0].P for part in model.blocks]
    weights = [p for p in model.parameters() if p.requires_grad and not any(p is one for one in positions)]
    optimizer = torch.optim.Adam([{"params": weights, "lr": 5e-3}, {"params": positions, "lr": 0.1}])
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    sigma = SigmaSchedule(model, final_epoch=epochs // 4)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        with firing_rates(model) as firing:
            for indices in sampler:
                x, labels, _ = train_set.batch(indices)  # [T, B, 64], [B]
                loss = cross_entropy(model.train()(x), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                for part in model.blocks:
                    part[0].clamp_()  # the optimiser may have pushed delays out of their range
        rates.step()
        sigma.step()
        fired = " ".join(f"{rate:.3f}" for rate in firing.values())
        valid = accuracy(model.evaluated(), valid_set)
        print(f"epoch {epoch + 1:2}  loss {loss:.3f}  validation accuracy {valid:.1%}  firing rates {fired}")


def main() -> None:
    """Train, show the delays, test with and without them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=16, help="passes over the 1,293 training digits")
    parser.add_argument("--max-delay", type=int, default=15, help="taps: delays of 0 .. this - 1 steps; 1: no delays")
    parser.add_argument("--seed", type=int, default=0, help="of weights and delays")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = Network(max_delay=args.max_delay)
    train(model, args.epochs)
    network, test_set = model.evaluated(), snn_data.Digits("test")
    for number, part in enumerate(network.blocks, start=1):
        print(f"delays before convolution {number}: {sorted(part[0].delay.flatten().int().tolist())}")
    print(f"test accuracy {accuracy(network, test_set):.1%}")
    print(f"test accuracy without its delays {accuracy(model.evaluated(delays=False), test_set):.1%}")


if __name__ == "__main__":
    main()
