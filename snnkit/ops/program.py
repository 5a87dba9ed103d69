"""A neuron made ready to run: what is computed once a call, and the two lists that run in the loop.

``program(structure, ...)`` traces an equation once for its structure. A ``Plan`` adds the numbers of one neuron. The
coefficients (all that depends on parameters alone) come in two sorts: numbers, computed here in Python's float64, and
tensors, computed by torch in float64 so that autograd carries their gradient on to the learnable parameters.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnkit.equations.equation import Equation
from snnkit.equations.surroundings import Surroundings
from snnkit.equations.symbols import apply
from snnkit.equations.trace import LANE, PARAMETER, Ref, Symbol
from snnkit.ops.reference import learnt_value

# Words of C++, and what the templates call their own.
_RESERVED = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const
    consteval constexpr constinit const_cast continue decltype default delete do double dynamic_cast else enum
    explicit export extern false float for friend goto if inline int linux long mutable namespace new noexcept
    not not_eq nullptr operator or or_eq private protected public real register reinterpret_cast requires return
    short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try
    typedef typeid typename union unix unsigned using virtual void volatile wchar_t while xor xor_eq State
    Coefficients Gradients
    """.split()
)


def c_name(name: str) -> str:
    """A name for C: the user's own, unless C might read it otherwise (a word of C, a macro, our own c3, a Greek tau).

    >>> c_name("tau"), c_name("long"), c_name("c3"), c_name("NAN"), c_name("over_tau")
    ('tau', 'long_', 'c3_', 'NAN_', 'over_tau_')
    """
    plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"u{ord(c):x}" for c in name)
    ours = re.fullmatch(r"[ct]\d+|\d.*|_.*|over_.*|watch", plain) or plain in _RESERVED
    ours = ours or (plain.isupper() and len(plain) > 1)
    return f"{'' if plain[0].isalpha() else 'n'}{plain}_" if ours or plain != name else plain


class Program:
    """The traced step of one structure, with its backward appended to the same list of nodes.

    Attributes (all numbers are node numbers):
        title: name of the equation.
        key: a name for what is computed, equal in every process, so that compiled graphs may hold it.
        plain_key: the operator's key for a call that records nothing and returns no state.
        states: names of the states.
        tensors: names of the parameters that are tensors; positive: names of those that must be > 0.
        g_output, g_after: the gradients that arrive at a step; g_x, g_before, g_coefficients: those that leave it.
        forward_outputs, backward_outputs: what the two lists compute.
        coefficients: what both lists take from outside the loop; number_coefficients and tensor_coefficients: those
            that are plain numbers, and those that depend on a tensor.

    Raises:
        TypeError: the step cannot be traced, or no gradient flows from its output to x.
    """

    def __init__(self, neuron: Equation, tensors: tuple[str, ...]) -> None:
        self.title, self.tensors, self.positive = type(neuron).__name__, tensors, neuron.positive_names()
        self.step = step = neuron.trace()
        self.states = tuple(step.before)
        self.forward_outputs = [step.output, *step.after.values()]
        self._reverse()
        self._refuse_without_gradient()
        self.backward_outputs = [self.g_x, *self.g_before.values(), *self.g_coefficients.values()]
        nodes = step.trace.nodes
        learnt = self._dependents()
        needed = step.trace.needed(self.forward_outputs + self.backward_outputs + self._slopes())
        self.coefficients = tuple(i for i in needed if nodes[i].place != LANE)
        self.number_coefficients = tuple(i for i in self.coefficients if i not in learnt)
        self.tensor_coefficients = tuple(i for i in self.coefficients if i in learnt)
        positive = tuple(n for n in self.tensors if n in self.positive)
        parts = (nodes, self.forward_outputs, self.backward_outputs, self.tensors, positive, self.states)
        self.key = f"{self.title}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
        self.plain_key = f"{self.key}||0"

    def _reverse(self) -> None:
        """Append the backward of the step."""
        step, trace = self.step, self.step.trace
        g_output = trace.input("g_output")
        g_after = {name: trace.input(f"g_{name}_after") for name in step.after}
        seeds: dict[int, Any] = {step.output: g_output}
        for name, index in step.after.items():  # two states may be one node, and a state may be the output
            seeds[index] = seeds[index] + g_after[name] if index in seeds else g_after[name]
        outside = [i for i in trace.needed(self.forward_outputs) if trace.nodes[i].place != LANE]
        found = trace.reverse(seeds, [step.x, *step.before.values(), *outside])

        def index_of(value: Any) -> int:
            return value.index if isinstance(value, Symbol) else trace.add("detach", (value,)).index

        learnt = self._dependents()
        self.g_output, self.g_after = g_output.index, {n: s.index for n, s in g_after.items()}
        self.g_x, self.g_before = index_of(found[step.x]), {n: index_of(found[i]) for n, i in step.before.items()}
        self.g_coefficients = {i: index_of(found[i]) for i in outside if i in learnt}
        trace.verify()

    def _refuse_without_gradient(self) -> None:
        """Raise if no gradient flows from the output to x, neither in a step nor through the states of later ones."""
        trace, flowing = self.step.trace, {self.g_output}
        for _ in self.states:  # what leaves a step by g_before arrives as g_after in the step before it
            flowing |= {self.g_after[n] for n, i in self.g_before.items() if flowing & set(trace.needed([i]))}
        if flowing & set(trace.needed([self.g_x])):
            return
        if self.step.x not in trace.needed(self.forward_outputs):
            raise TypeError(f"{self.title}.step never uses x: its output cannot depend on the input.")
        raise TypeError(
            f"{self.title}.step passes no gradient from its output to x: nothing before it would learn. Comparisons, "
            "floor, round, sign and detach stop it: make the spike with self.spike(v - self.v_threshold)."
        )

    def _slopes(self) -> list[int]:
        """Slopes of spikes: played back, a forward list asks for them, also where no gradient passes the spike."""
        nodes = self.step.trace.nodes
        spikes = [nodes[i] for i in self.step.trace.needed(self.forward_outputs)]
        slopes = [node.arguments[2] for node in spikes if node.operation == "straight_through"]
        return [slope.index for slope in slopes if isinstance(slope, Ref)]

    def _dependents(self) -> set[int]:
        """The coefficients that depend on a tensor."""
        found: set[int] = set()
        for index, node in enumerate(self.step.trace.nodes):
            if node.place == PARAMETER:
                if node.arguments[0] in self.tensors:
                    found.add(index)
            elif node.place != LANE and any(isinstance(a, Ref) and a.index in found for a in node.arguments):
                found.add(index)
        return found

    def name_of(self, index: int) -> str:
        """A name for a node in the generated text: the input's own, else its number."""
        node = self.step.trace.nodes[index]
        if node.operation == "input":
            return c_name(str(node.arguments[0]).replace("surrogate.", "surrogate_").replace("reset.", ""))
        return f"{'c' if node.place != LANE else 't'}{index}"

    def evaluate(self, index: int, known: dict[int, Any]) -> Any:
        """The value of a node; ``known`` holds the inputs and is filled with what was computed on the way."""
        todo = [index]  # no recursion: a step may be longer than Python's stack
        while todo:
            here = todo.pop()
            if here in known:
                continue
            node = self.step.trace.nodes[here]
            missing = [a.index for a in node.arguments if isinstance(a, Ref) and a.index not in known]
            if missing:
                todo += [here, *missing]
                continue
            known[here] = apply(node.operation, *[known[a.index] if isinstance(a, Ref) else a for a in node.arguments])
        return known[index]

    def numbers(self, parameters: dict[str, float]) -> list[float]:
        """Values of the number coefficients, in Python's float64."""
        known: dict[int, Any] = {i: parameters[n] for n, i in self.step.parameters.items() if n in parameters}
        return [float(self.evaluate(i, known)) for i in self.number_coefficients]

    def tensor_values(self, parameters: dict[str, Any], dtype: torch.dtype) -> list[Tensor]:
        """Values of the tensor coefficients: computed in float64, then rounded once to dtype."""
        known: dict[int, Any] = {
            i: learnt_value(parameters[n], n in self.positive) if n in self.tensors else parameters[n]
            for n, i in self.step.parameters.items()
        }
        return [self.evaluate(i, known).tensor.to(dtype) for i in self.tensor_coefficients]


_MOST_PROGRAMS = 1024
_programs: dict[tuple[Any, ...], tuple[Program, Surroundings]] = {}
program_by_key: dict[str, Program] = {}
"""The programs of this process, by the name under which operators know them."""


def program_of(neuron: Equation, tensors: tuple[str, ...]) -> tuple[Program, Surroundings]:
    """The program of a neuron's structure with the named parameters as tensors, and what it read outside the neuron.

    Traced once, and again when that has changed.
    """
    key = (neuron.structure(), tensors)
    known = _programs.get(key)
    if known is None or not (torch.compiler.is_compiling() or known[1].unchanged()):
        if len(_programs) >= _MOST_PROGRAMS:  # surrogates made anew each time, as lambdas, are new structures
            _programs.clear()
        if torch.compiler.is_compiling():
            raise RuntimeError(
                f"{type(neuron).__name__} is new to torch.compile: make it and run scan once outside the compiled "
                "function, or use a layer of snnkit.nn, which is traced when it is made."
            )
        program = Program(neuron, tensors)
        known = _programs[key] = program_by_key.setdefault(program.key, program), Surroundings(neuron)
    return known


@dataclass(frozen=True)
class Plan:
    """A program and the numbers of one neuron: all that a call needs besides tensors.

    ``initial`` holds each state's start: a number, or the name of the parameter that it is. ``constants`` are the
    number coefficients, then the initial values, as the kernels take them.
    """

    program: Program
    surroundings: Surroundings
    fixed: dict[str, float]
    initial: tuple[float | str, ...]
    constants: tuple[float, ...]
    learnt_initial: bool


def plan_of(neuron: Equation, tensors: tuple[str, ...] | None = None) -> Plan:
    """The plan of a neuron. ``tensors`` names parameters that come as tensors at the call, whatever they are now."""
    known = neuron.__dict__.get("_plan")
    if known is not None and tensors is None and (torch.compiler.is_compiling() or known.surroundings.unchanged()):
        return known
    parameters = neuron.parameters()
    names = tuple(n for n, v in parameters.items() if not isinstance(v, float)) if tensors is None else tensors
    program, surroundings = program_of(neuron.simplified(names), names)
    fixed = {n: v for n, v in parameters.items() if n not in names}
    initial = tuple(neuron.bind({n: n for n in names}).initial().values())
    learnt = any(isinstance(v, str) for v in initial)
    numbers = program.numbers(fixed) + [0.0 if isinstance(v, str) else float(v) for v in initial]
    plan = Plan(program, surroundings, fixed, initial, tuple(numbers), learnt)
    if tensors is None:
        neuron.__dict__["_plan"] = plan
    else:
        neuron.__dict__.setdefault("_plan", None)  # from now on its parts are fixed
    return plan
