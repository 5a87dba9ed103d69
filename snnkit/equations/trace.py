"""A step as a flat list of operations, and the same list differentiated in reverse.

``Trace`` runs ``step`` once on symbols. Equal operations become one node. What depends on parameters alone
(``exp(-1 / tau)``) is kept apart as a *coefficient*: it is computed once a call, in float64, outside the loop.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from snnkit.equations.refusals import Refusing
from snnkit.equations.symbols import OPERATIONS

PARAMETER, COEFFICIENT, LANE = "parameter", "coefficient", "lane"


@dataclass(frozen=True)
class Node:
    """One operation: its name, its arguments (node numbers, or floats), and where it is computed.

    ``place`` is "parameter" or "coefficient" for what is known before the loop, "lane" for what is in the loop.
    An input has the operation "input" and its name as the only argument.
    """

    operation: str
    arguments: tuple[Any, ...]
    place: str

    @property
    def is_condition(self) -> bool:
        """Whether the node is true or false rather than a number."""
        return self.operation in OPERATIONS and OPERATIONS[self.operation].is_condition


@dataclass(frozen=True)
class Ref:
    """An argument that is the result of another node."""

    index: int


class Symbol(Refusing):
    """The result of a node, as ``step`` sees it."""

    __slots__ = ("trace", "index")

    def __init__(self, trace: Trace, index: int) -> None:
        self.trace, self.index = trace, index

    def apply(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Write the operation down."""
        return self.trace.add(name, arguments)

    def __bool__(self) -> bool:
        if self.trace.nodes[self.index].place == LANE:
            return super().__bool__()
        raise TypeError(
            "A step cannot branch on a parameter (if, and, or, not, min, max): its formula serves all values. "
            "Use where(condition, a, b), or make it an option: a class attribute that is True or False."
        )

    def __repr__(self) -> str:
        return f"t{self.index}"


@dataclass
class Trace:
    """A growing list of nodes, at most ``most``, in which every node comes after its arguments."""

    nodes: list[Node] = field(default_factory=list)
    _known: dict[tuple[Any, ...], int] = field(default_factory=dict)
    most: float = math.inf

    def input(self, name: str, place: str = LANE) -> Symbol:
        """A new named input."""
        return Symbol(self, self._number("input", (name,), place))

    def add(self, name: str, arguments: Iterable[Any]) -> Any:
        """The result of an operation.

        Raises:
            TypeError: an argument is neither a number nor a symbol, or a condition where a number is needed.
            ValueError: an argument belongs to another trace.
        """
        arguments = tuple(arguments)
        if name == "sub" and repr(arguments[1]) == "0.0" and isinstance(arguments[0], Symbol):
            return arguments[0]  # to the last bit; a + 0 and a * 0 are not a and 0 for every a
        references: list[Ref | float] = []
        place = COEFFICIENT
        for position, argument in enumerate(arguments):
            if isinstance(argument, Symbol):
                if argument.trace is not self:
                    raise ValueError("A value of another step was used; a step may only use its own x and states.")
                self._check_kind(name, position, argument.index)
                references.append(Ref(argument.index))
                if self.nodes[argument.index].place == LANE:
                    place = LANE
            elif isinstance(argument, numbers.Real):
                references.append(float(argument))
            else:
                kind = type(argument).__name__
                raise TypeError(f"{name} got a {kind}; a step works on numbers, x, states and parameters.")
        return Symbol(self, self._number(name, tuple(references), place))

    def _check_kind(self, operation: str, position: int, index: int) -> None:
        """Conditions go into the first place of ``where`` and nowhere else."""
        is_condition = self.nodes[index].is_condition
        if is_condition != (operation == "where" and position == 0):
            got, want = ("a condition", "a number") if is_condition else ("a number", "a condition")
            raise TypeError(f"{operation} got {got} where it needs {want}. Use where(condition, 1.0, 0.0).")

    def _number(self, operation: str, arguments: tuple[Any, ...], place: str) -> int:
        # repr keeps 0.0 and -0.0 apart, which compare equal.
        key = (operation, *map(repr, arguments))
        if key not in self._known:
            if len(self.nodes) >= self.most:
                raise ValueError(
                    f"it takes more than {self.most} operations, and would be compiled for minutes. "
                    "A loop in a step is unrolled: shorten it, or spread its work over more time steps."
                )
            self._known[key] = len(self.nodes)
            self.nodes.append(Node(operation, arguments, place))
        return self._known[key]

    def needed(self, outputs: Iterable[int]) -> list[int]:
        """The numbers of all nodes that the outputs depend on, in order. Coefficients end the search."""
        todo, seen = list(outputs), set()
        while todo:
            index = todo.pop()
            if index in seen:
                continue
            seen.add(index)
            node = self.nodes[index]
            if node.place == LANE and node.operation in OPERATIONS:
                read = OPERATIONS[node.operation].text  # a straight-through spike does not need its slope
                todo += [a.index for k, a in enumerate(node.arguments) if isinstance(a, Ref) and f"{{{k}}}" in read]
        return sorted(seen)

    def reverse(self, seeds: dict[int, Any], wanted: Iterable[int]) -> dict[int, Any]:
        """Gradients of ``sum(seed * node)`` for the wanted nodes, as symbols of this trace.

        A node that nothing depends on gets 0.0. Only lanes are walked: gradients stop at the coefficients.
        """
        gradient: dict[int, Any] = dict(seeds)
        for index in range(max(seeds, default=-1), -1, -1):
            node = self.nodes[index]
            if index not in gradient or node.place != LANE or node.operation == "input":
                continue
            values = [Symbol(self, a.index) if isinstance(a, Ref) else a for a in node.arguments]
            rule = OPERATIONS[node.operation].rule
            for argument, part in zip(node.arguments, rule(gradient[index], Symbol(self, index), *values), strict=True):
                if isinstance(argument, Ref) and part is not None:
                    known = gradient.get(argument.index)
                    gradient[argument.index] = part if known is None else known + part
        return {index: gradient.get(index, 0.0) for index in wanted}

    def verify(self) -> None:
        """Check that the list is well formed, before it is printed.

        Operations are known and have their number of arguments, arguments come before their use, conditions stand where
        conditions belong, and what is computed before the loop does not depend on the loop.
        """
        for index, node in enumerate(self.nodes):
            if node.operation == "input":
                continue
            if node.operation not in OPERATIONS:
                raise ValueError(f"node {index} has the unknown operation {node.operation!r}.")
            arity = OPERATIONS[node.operation].arity
            if len(node.arguments) != arity:
                raise ValueError(f"node {index}: {node.operation} takes {arity} arguments, got {len(node.arguments)}.")
            for position, argument in enumerate(node.arguments):
                if isinstance(argument, float):
                    continue
                if not isinstance(argument, Ref):
                    raise ValueError(f"node {index} has the argument {argument!r}, neither a node nor a float.")
                if not 0 <= argument.index < index:
                    raise ValueError(f"node {index} uses node {argument.index}, which does not come before it.")
                if node.place != LANE and self.nodes[argument.index].place == LANE:
                    raise ValueError(f"node {index} is computed before the loop but uses node {argument.index} of it.")
                self._check_kind(node.operation, position, argument.index)
