"""A unit (an attention, an MLP) against a fixture of its official code: names translated, everything to 1e-9."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

import snnkit
from snnkit.models._official.spikformer import unit
from snnkit.models._official.table import Table
from tests.models.official import distance
from tests.shared import Fixture

Rows = Iterable[tuple[str, str]]


def layers(*names: str) -> list[tuple[str, str]]:
    """Rows for convolution, norm and neuron of ``block.q`` and so on."""
    return [row for name in names for row in unit(f"{name}_{{}}", f"block.{name}.")]


class NeuronFirst(nn.Module):
    """A block as papers with membrane shortcuts write it: membranes in, neuron, branch, membranes out."""

    def __init__(self, neuron: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.neuron, self.block = neuron, block

    def forward(self, u: Tensor) -> Tensor:
        """The new membranes."""
        return self.block(u, self.neuron(u))[0]


class Branch(nn.Module):
    """A block without its shortcut: spikes in, what the branch gives out."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, s: Tensor) -> Tensor:
        """The branch alone."""
        return self.block(None, s)[0]


def reproduces(
    module: nn.Module,
    numbers: Fixture,
    rows: Rows,
    dead: tuple[str, ...] = (),
    ours: Callable[[Tensor], Tensor] = lambda x: x,
    theirs: Callable[[Tensor], Tensor] = lambda y: y,
) -> None:
    """Assert official outputs, gradients, running statistics and firing rates.

    Args:
        module: the unit.
        numbers: the fixture.
        rows: (their prefix, ours) of names.
        dead: patterns of their tensors without use.
        ours, theirs: their layout to ours, and back.
    """
    table = Table(type(module).__name__, "", lambda model: rows, dead)
    state = {name.removeprefix("state/"): torch.from_numpy(numbers[name]) for name in numbers.names("state/")}
    module.double().load_state_dict(table.translate(module, state, "fixture")[0])
    x = torch.from_numpy(numbers["input/x"]).double().requires_grad_()
    assert distance(theirs(module.eval()(ours(x))), numbers["output_eval/y"]) < 1e-9

    with snnkit.firing_rates(module) as rates:
        y = theirs(module.train()(ours(x)))
    assert distance(y, numbers["output/y"]) < 1e-9
    loss = (y * torch.from_numpy(numbers["input/loss_weight"])).sum()
    loss.backward()
    assert distance(loss, numbers["loss"]) < 1e-9
    assert distance(x.grad, numbers["grad_input/x"]) < 1e-9

    def pairs(prefix: str, end: str = "") -> dict[str, str]:
        keys = [f"{name.removeprefix(prefix)}{end}" for name in numbers.names(prefix)]
        return {key.removesuffix(end): new.removesuffix(end) for key, new in table.names(module, keys).items()}

    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    for key, name in pairs("grad/").items():
        assert distance(parameters.pop(name).grad, numbers[f"grad/{key}"]) < 1e-9, key
    assert not parameters, f"without an official gradient: {list(parameters)}"
    for key, name in pairs("state_after/").items():
        assert distance(buffers[name], numbers[f"state_after/{key}"]) < 1e-9, key
    their_rates = pairs("rate/", ".")
    assert set(their_rates.values()) == set(rates)
    for key, name in their_rates.items():
        assert abs(rates[name] - float(numbers[f"rate/{key}"])) < 1e-12, key
