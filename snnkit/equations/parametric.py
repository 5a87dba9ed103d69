"""Objects that are a formula with named numbers: equations, surrogates and resets alike.

A class attribute that is a number is a parameter, one that is True or False an option. Both become keywords of the
constructor. Parameters may be learnt or annealed without compiling anything new; options choose the formula.
"""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NoReturn

from snnkit._suggest import unknown


class Parametric:
    """Base of everything that has named numbers and an own formula."""

    parameter_names: ClassVar[tuple[str, ...]] = ()
    option_names: ClassVar[tuple[str, ...]] = ()
    positive: ClassVar[tuple[str, ...]] = ()
    _machinery: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        found = {n: v for n, v in vars(cls).items() if isinstance(v, (int, float)) and not n.startswith("_")}
        options = [n for n, v in found.items() if isinstance(v, bool)]
        cls.option_names = tuple(dict.fromkeys([*cls.option_names, *options]))
        cls.parameter_names = tuple(dict.fromkeys([*cls.parameter_names, *(n for n in found if n not in options)]))
        if isinstance(cls.positive, str):
            names = f'Write: positive = ("{cls.positive}",)'
            raise TypeError(f"{cls.__name__}: positive expects names, got the string {cls.positive!r}. {names}.")
        inherited = (name for base in cls.__bases__ for name in getattr(base, "positive", ()))
        cls.positive = tuple(dict.fromkeys([*inherited, *cls.positive]))
        for name in cls.positive:
            if name not in cls.parameter_names:
                cls.refuse(name, cls.parameter_names)

    def __init__(self, *values: Any, **named: Any) -> None:
        names = self.parameter_names + self.option_names
        for name, value in self.named(values, named).items():
            if name not in names:
                self.refuse(name, self.keyword_names())
            if name in self.option_names and not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r}.")
            if isinstance(value, numbers.Real) and not isinstance(value, bool):
                value = float(value)
            elif name in self.parameter_names and not hasattr(value, "requires_grad"):  # nothing here knows torch
                raise TypeError(f"{name} must be a number or a tensor, got {value!r}.")
            self.__dict__[name] = value
        for name in names:  # kept with the object: a default that the class changes later is for later objects
            value = self.__dict__.setdefault(name, getattr(self, name))
            if name in self.parameter_names:
                if isinstance(value, int):
                    self.__dict__[name] = float(value)
                self.check(name, self.__dict__[name])

    @classmethod
    def keyword_names(cls) -> tuple[str, ...]:
        """All keywords of the constructor."""
        return cls.parameter_names + cls.option_names

    @classmethod
    def refuse(cls, name: str, known: Sequence[str]) -> NoReturn:
        """Raise the TypeError for a name that is none of the known ones."""
        raise unknown(cls.__name__, name, known)

    @classmethod
    def named(cls, values: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
        """The values, given in order, with their names, and the keywords.

        Raises:
            TypeError: too many values, or a name that is given twice.
        """
        names = cls.parameter_names + cls.option_names
        if len(values) > len(names):
            most = f"at most {len(names)} values ({', '.join(names)})"
            raise TypeError(f"{cls.__name__} takes {most}, got {len(values)}.")
        in_order = dict(zip(names, values, strict=False))
        for name in in_order:
            if name in keywords:
                raise TypeError(f"{cls.__name__} got {name} twice: {in_order[name]!r} and {keywords[name]!r}.")
        return in_order | keywords

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.parameter_names + self.option_names:
            raise AttributeError(
                f"{name} is fixed: a formula is a value. A changed copy: x.bind({{{name!r}: {value!r}}})."
            )
        super().__setattr__(name, value)

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError if a number is impossible for a parameter: not finite, or not positive where it must be."""
        if not isinstance(value, float):
            return
        if name in self.positive and not value > 0:
            raise ValueError(f"{name} must be > 0, got {value}.")
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}.")

    def parameters(self) -> dict[str, Any]:
        """The parameters by name: numbers, tensors, or symbols."""
        return {name: getattr(self, name) for name in self.parameter_names}

    def bind(self, values: dict[str, Any]) -> Any:
        """A copy in which the named parameters have other values: numbers, tensors, symbols.

        Raises:
            TypeError: a name that is none of ours.
            ValueError: a number that is impossible for the parameter.
        """
        bound = copy.copy(self)
        for name, value in values.items():
            if name not in self.parameter_names + self.option_names:
                self.refuse(name, self.parameter_names + self.option_names)
            if isinstance(value, numbers.Real) and not isinstance(value, bool):
                value = float(value)
            self.check(name, value)
            bound.__dict__[name] = value
        return bound

    def structure(self) -> tuple[Any, ...]:
        """What the formula depends on apart from numbers: equal structures have equal text."""
        options = (getattr(self, name) for name in self.option_names)
        return (type(self), *options, *self._own_attributes())

    def _own_attributes(self) -> Iterator[tuple[str, type, Any]]:
        """Attributes of the object itself beside parameters and options: ``step`` may depend on them, too."""
        for name in sorted(self.__dict__.keys() - {*self.parameter_names, *self.option_names, *self._machinery}):
            value = self.__dict__[name]
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"{type(self).__name__}.{name} is a {type(value).__name__}, which may change without notice. "
                    "Make it a tuple, or a class attribute."
                ) from None
            yield name, type(value), value

    def __repr__(self) -> str:
        shown = [f"{n}={getattr(self, n)!r}" for n in self.parameter_names + self.option_names]
        return f"{type(self).__name__}({', '.join(shown)})"
