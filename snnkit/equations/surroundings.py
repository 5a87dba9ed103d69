"""What a formula reads around it: globals, closures and methods, which may change after it was traced."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from snnkit.equations.equation import Equation


class Surroundings:
    """The numbers, texts, tuples and functions that a neuron's step finds around it, as they are now.

    Functions that it calls are read in turn, as are those of its surrogate and its reset. This package's own are not:
    nothing around them changes. What is inside lists, dicts and other objects is not seen.
    """

    def __init__(self, neuron: Equation) -> None:
        self._cells: list[tuple[Any, Any]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self._members: list[tuple[type, str, Any]] = []
        self._seen: set[FunctionType] = set()
        for part in (neuron, neuron.surrogate, neuron.reset_rule):
            kind, own = type(part), part.parameter_names + part.option_names
            for name in ("step", "derivative", "primitive", "apply"):
                self._member(kind, name, own)
            for value in vars(part).values():  # the functions of a Custom
                self._read(value, kind, own)

    def unchanged(self) -> bool:
        """Whether all of it is as it was. A call asks this, so it compares identities."""
        for kind, name, value in self._members:
            if getattr(kind, name, None) is not value:
                return False
        for names, name, value in self._globals:
            if names.get(name) is not value:
                return False
        for cell, value in self._cells:
            if cell.cell_contents is not value:
                return False
        return True

    def _read(self, value: Any, kind: type, own: tuple[str, ...]) -> None:
        """Read what a function reads."""
        if not isinstance(value, FunctionType) or value in self._seen or (value.__module__ or "").startswith("snnkit."):
            return
        self._seen.add(value)
        for cell in value.__closure__ or ():
            try:
                found = cell.cell_contents
            except ValueError:  # not yet bound
                continue
            if _is_kept(found):
                self._cells.append((cell, found))
                self._read(found, kind, own)
        for name in _names(value.__code__):
            found = value.__globals__.get(name)
            if found is not None and _is_kept(found):
                self._globals.append((value.__globals__, name, found))
                self._read(found, kind, own)
            self._member(kind, name, own)

    def _member(self, kind: type, name: str, own: tuple[str, ...]) -> None:
        """Note a method or a constant of the class; parameters and options are the object's."""
        found = None if name in own else getattr(kind, name, None)
        ours = isinstance(found, FunctionType) and (found.__module__ or "").startswith("snnkit.") and name != "step"
        if found is not None and _is_kept(found) and not ours:
            self._members.append((kind, name, found))
            self._read(found, kind, own)


def _is_kept(value: Any) -> bool:
    return isinstance(value, (numbers.Number, str, tuple, FunctionType))


def _names(code: CodeType) -> Iterator[str]:
    """The names of globals and attributes in a function and in those inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
