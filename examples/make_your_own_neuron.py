"""A neuron of your own: write its equation, compare compiled and plain form, train with it, look at its membrane.

  python examples/make_your_own_neuron.py                   half a minute, writes membrane.png

Change ``Resonator.step`` and run it again: nothing else in this file, nor in snnkit, knows what the neuron does.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from snnkit import data as snn_data
from snnkit.equations import Equation
from snnkit.nn import LI, SumOfSoftmax, firing_rates, neuron_module
from snnkit.nn.losses import cross_entropy
from snnkit.ops import path, scan
from snnkit.ops.reference import reference


class Resonator(Equation):
    """v = v - damping v - omega y + x;  y = y - damping y + omega v;  s = [v >= v_threshold];  both are reset.

    A membrane v that swings instead of leaking, and its partner y; omega in radians a step. After "Resonate-and-fire
    neurons", Izhikevich 2001.
    """

    damping, omega, v_threshold = 0.1, 0.3, 1.0
    states = {"v": 0.0, "y": 0.0}

    def step(self, x, v, y):
        v, y = v - self.damping * v - self.omega * y + x, y - self.damping * y + self.omega * v
        s = self.spike(v - self.v_threshold)
        return s, {"v": self.reset(v, s), "y": self.reset(y, s)}


ResonatorLayer = neuron_module(Resonator)


class Network(nn.Module):
    """Pixels -> neurons of your own, each with its own frequency -> leaky integrators, one a class."""

    def __init__(self, neurons: int = 128) -> None:
        super().__init__()
        self.synapse = nn.Linear(64, neurons)
        self.neuron = ResonatorLayer(learn=("omega",), shape=(neurons,))
        self.readout = nn.Sequential(nn.Linear(neurons, 10), LI(tau=4.0))
        self.answer = SumOfSoftmax()

    def forward(self, x: Tensor) -> Tensor:
        """Map spikes ``[T, B, 64]`` to answers ``[B, 10]``."""
        return self.answer(self.readout(self.neuron(self.synapse(x))))


def compare() -> None:
    """The compiled neuron beside the plain loop over ``step``: the same spikes, the same gradient."""
    x = (2 * torch.randn(50, 4, 7)).requires_grad_()
    compiled, _, _ = scan(Resonator(), x)
    plain, _, _ = reference(Resonator(), x, {name: torch.zeros(4, 7) for name in Resonator.states})
    gradients = [torch.autograd.grad(s, x, torch.ones_like(s))[0] for s in (compiled, plain)]
    error = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    different = int((compiled != plain).sum())
    print(f"{path(Resonator(), x)}: {different} of {plain.numel()} spikes differ, gradients by {error:.1e}")
    if different or not error < 1e-5:
        raise SystemExit("The compiled neuron is not the plain one: please report this equation.")


def accuracy(model: nn.Module, dataset: snn_data.Dataset) -> float:
    """Share of right answers."""
    x, labels, _ = snn_data.collate([dataset[index] for index in range(len(dataset))])
    with torch.inference_mode():
        return (model(x).argmax(1) == labels).double().mean().item()


def train(model: Network, epochs: int) -> None:
    """Train on handwritten digits in which brighter pixels spike earlier."""
    train_set, valid_set, test_set = (snn_data.Digits(split) for split in ("train", "valid", "test"))
    sampler = snn_data.EpochSampler(len(train_set), batch_size=64, seed=0)
    loader = torch.utils.data.DataLoader(train_set, batch_sampler=sampler, collate_fn=snn_data.collate)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        with firing_rates(model) as rates:
            for x, labels, _ in loader:  # [T, B, 64], [B]
                loss = cross_entropy(model(x), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        model.neuron.check_parameters("neuron")
        rate = rates["neuron"]
        valid = accuracy(model, valid_set)
        print(f"epoch {epoch + 1:2}  loss {loss:.3f}  validation accuracy {valid:.1%}  firing rate {rate:.3f}")
    print(f"test accuracy {accuracy(model, test_set):.1%}")


def plot(model: Network, file: Path) -> None:
    """Draw the membranes of four neurons that fire about three times at one test digit."""
    x = snn_data.collate([snn_data.Digits("test")[0]]).x
    with torch.inference_mode():
        s, traces = model.neuron(model.synapse(x), record=("v",))
    shown = (s.sum((0, 1)) - 3).abs().argsort(stable=True)[:4]
    figure, axes = plt.subplots(4, 1, figsize=(8, 8), sharex=True, layout="constrained")
    for axis, unit in zip(axes, shown.tolist(), strict=True):
        axis.plot(traces["v"][:, 0, unit], color="tab:blue", label="membrane, after the reset")
        axis.axhline(model.neuron.neuron.v_threshold, color="gray", linestyle=":", label="threshold")
        axis.vlines(s[:, 0, unit].nonzero().flatten(), -0.1, 0.1, color="tab:red", label="spike")
        axis.set_ylabel(f"neuron {unit}: v")
        axis.set_title(f"omega = {model.neuron.omega[unit]:.2f} radians a step", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    axes[-1].set_xlabel("time (steps)")
    figure.suptitle("Neurons of your own at one test digit")
    figure.savefig(file, dpi=100)
    print(f"written: {file}")


def main() -> None:
    """Compare, train, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15, help="passes over the 1,293 training digits")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--plot", type=Path, default=Path("membrane.png"), help="where the picture goes")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    compare()
    model = Network()
    train(model, args.epochs)
    plot(model, args.plot)


if __name__ == "__main__":
    main()
