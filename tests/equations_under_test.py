"""What the tests of neurons run over: every equation, surrogate and reset, taken from the classes themselves.

A new class in ``snnkit.equations`` is under test without a line here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import pkgutil
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

import snnkit.equations
from snnkit.equations import Custom, Equation, Hard, NoReset, Reset, Surrogate
from snnkit.equations.parametric import Parametric
from snnkit.equations.trace import LANE
from snnkit.ops.program import plan_of
from snnkit.ops.reference import reference

# Functions that the kernels compute by their own polynomials, so that torch rounds otherwise.
# torch takes sqrt, too, from a vector library: in 1 % of float64 values its last bit is another.
ROUNDED_OTHERWISE = {"exp", "log", "sqrt", "tanh", "sigmoid", "atan", "erf"}


def classes(base: type[Parametric]) -> list[type[Any]]:
    """Return all classes under ``snnkit.equations`` that derive from the base."""
    modules = [
        importlib.import_module(f"snnkit.equations.{info.name}")
        for info in pkgutil.iter_modules(snnkit.equations.__path__)
    ]
    found = {
        thing: None
        for module in modules
        for thing in vars(module).values()
        if inspect.isclass(thing)
        and issubclass(thing, base)
        and thing is not base
        and not thing.__name__.startswith("_")
    }
    return sorted(found, key=lambda thing: thing.__name__)


def with_options(thing: type[Any]) -> Iterator[tuple[type[Any], dict[str, bool]]]:
    """Yield the class with each choice of its options."""
    for values in itertools.product((True, False), repeat=len(thing.option_names)):
        yield thing, dict(zip(thing.option_names, values, strict=True))


def name_of(thing: type[Any], options: dict[str, bool]) -> str:
    """Return a name for a test's id, such as ``LIF`` or ``LIF.decay_input=False``."""
    default = {name: getattr(thing, name) for name in options}
    return ".".join([thing.__name__, *(f"{n}={v}" for n, v in options.items() if v != default[n])])


EQUATIONS = {
    name_of(thing, options): (thing, options) for base in classes(Equation) for thing, options in with_options(base)
}
SURROGATES: dict[str, Surrogate] = {s.__name__: s() for s in classes(Surrogate) if s is not Custom}
SURROGATES["Custom"] = Custom(lambda d: 1.0 / (1.0 + d * d), lambda d: snnkit.equations.symbols.atan(d))
RESETS: dict[str, Reset] = {
    name_of(thing, options): thing(**options)
    for base in classes(Reset)
    for thing, options in with_options(base)
    if not (thing is NoReset and options["detach"])  # nothing there to detach
}
RESETS["Hard to -0.25"] = Hard(-0.25)


def neuron_of(equation: str, surrogate: str = "ATan", reset: str = "Hard") -> Equation:
    """Make the neuron of three names."""
    thing, options = EQUATIONS[equation]
    return thing(**options, surrogate=SURROGATES[surrogate], reset=RESETS[reset])


def learnable(neuron: Equation) -> list[str]:
    """Return the names of the parameters that gradients reach: all but the surrogate's."""
    return [name for name in neuron.parameters() if not name.startswith("surrogate.")]


def with_tensors(
    neuron: Equation, shape: Sequence[int], dtype: torch.dtype, names: Sequence[str] | None = None
) -> Equation:
    """Return the neuron with tensors in place of its parameters, a little different from entry to entry."""
    values = neuron.parameters()
    count = torch.Size(shape).numel()
    spread = torch.linspace(0.9, 1.1, max(count, 2), dtype=torch.float64)[:count].reshape(tuple(shape))
    names = learnable(neuron) if names is None else names
    # A parameter that is 0 switches a term off: give it a value, so that its gradient and the term's are seen.
    return neuron.bind({n: ((values[n] or 0.1) * spread).to(dtype).requires_grad_() for n in names})


def rounds_as_torch(neuron: Equation) -> bool:
    """Whether spikes are bit-equal between kernel and reference: no exp and the like in the forward list."""
    program = plan_of(neuron).program
    nodes = program.step.trace.nodes
    needed = program.step.trace.needed(program.forward_outputs)
    return not any(nodes[i].place == LANE and nodes[i].operation in ROUNDED_OTHERWISE for i in needed)


def initial_state(neuron: Equation, x: Tensor) -> dict[str, Tensor]:
    """Return the equation's initial values as ``[B, ...]`` tensors."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return {
        name: (value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64))
        .to(dtype)
        .expand(x.shape[1:])
        for name, value in neuron.initial().items()
    }


def by_reference(
    neuron: Equation,
    x: Tensor,
    state: dict[str, Tensor] | None = None,
    record: Sequence[str] = (),
    steps: int | None = None,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """``scan`` by the plain loop."""
    return reference(neuron, x, initial_state(neuron, x) if state is None else state, record, steps)


def drive(equation: str, shape: Sequence[int], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Return an input that makes the neuron fire at some steps and not at others."""
    low, high = _range(equation)
    random_numbers = torch.rand(tuple(shape), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (low + (high - low) * random_numbers).to(dtype)


@functools.cache
def _range(equation: str) -> tuple[float, float]:
    """Look for the weakest input, from a little negative to positive, under which a fifth of all steps fire."""
    neuron = neuron_of(equation)
    noise = torch.rand(20, 1, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for scale in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0):
        s, *_ = by_reference(neuron, scale * (1.25 * noise - 0.25))
        if not type(neuron)._fires or (s > 0).double().mean() > 0.15:
            return -0.25 * scale, scale
    raise ValueError(f"no input up to 256 makes {equation} fire")


def surrogates_of(equation: str) -> list[str]:
    """Return the names of the surrogates: one is enough for a neuron that never fires."""
    return list(SURROGATES) if EQUATIONS[equation][0]._fires else ["ATan"]


def resets_of(equation: str) -> list[str]:
    """Return the names of the resets: one is enough for a neuron that never fires."""
    return list(RESETS) if EQUATIONS[equation][0]._fires else ["Hard"]


def tamed(neuron: Equation, x: Tensor, state: dict[str, Tensor] | None = None, steps: int | None = None) -> Tensor:
    """Return x, weaker in the lanes that run away (a quadratic neuron without reset): no gradient means much there."""
    x = x.detach().clone()
    with torch.no_grad():
        for _ in range(12):
            s, _, traces = by_reference(neuron, x, state, tuple(neuron.states), steps)
            size = torch.stack([s.abs(), *(trace.abs().to(s.dtype) for trace in traces.values())]).amax((0, 1))
            wild = ~(size < 100.0)
            if not wild.any():
                break
            x[:, wild] *= 0.5
    return x


def pairwise(factors: dict[str, Sequence[Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Return rows of one value a factor, such that any two values of two factors meet in some row."""
    names, draw = list(factors), random.Random(seed)
    pairs = list(itertools.combinations(range(len(names)), 2))
    open_pairs = {
        (a, b, i, j) for a, b in pairs for i in range(len(factors[names[a]])) for j in range(len(factors[names[b]]))
    }
    rows = []
    while open_pairs:
        best: tuple[int, list[int]] = (-1, [])
        wanted = sorted(open_pairs)
        for _ in range(12):
            row = [draw.randrange(len(factors[name])) for name in names]
            a, b, row[a], row[b] = draw.choice(wanted)
            for k in draw.sample(range(len(names)), len(names)):
                if k not in (a, b):
                    row[k] = max(
                        range(len(factors[names[k]])), key=lambda v, k=k, row=row: _gain(open_pairs, row, k, v)
                    )
            gain = sum((p, q, row[p], row[q]) in open_pairs for p, q in pairs)
            best = max(best, (gain, row))
        open_pairs -= {(p, q, best[1][p], best[1][q]) for p, q in pairs}
        rows.append({name: factors[name][best[1][k]] for k, name in enumerate(names)})
    return rows


def _gain(open_pairs: set[tuple[int, int, int, int]], row: list[int], k: int, v: int) -> int:
    """How many open pairs the value v of factor k closes, beside the others of the row."""
    return sum(((j, k, row[j], v) if j < k else (k, j, v, row[j])) in open_pairs for j in range(len(row)) if j != k)
