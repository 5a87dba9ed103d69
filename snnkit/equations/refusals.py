"""What a step may not do with its x, states and parameters, and what to write instead.

A step runs first on symbols, so they alone need to know: torch's, numpy's and math's functions, methods of tensors, and
operators of Python that the closed set has no word for.
"""

from __future__ import annotations

from typing import Any, NoReturn

from snnkit.equations.symbols import Value, apply

_FUNCTIONS = (
    "exp", "log", "sqrt", "tanh", "sigmoid", "sign", "minimum", "maximum", "clamp", "where", "round", "floor", "detach",
)  # fmt: skip
_OURS = {
    "absolute": "abs", "fabs": "abs", "clip": "clamp", "clamp_min": "maximum", "clamp_max": "minimum",
    "relu": "maximum", "max": "maximum", "min": "minimum", "rint": "round", "special_expit": "sigmoid",
    "heaviside": "where",
}  # fmt: skip
_NUMPY = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "greater_equal": "ge", "greater": "gt",
    "less_equal": "le", "less": "lt",
}  # fmt: skip


def remedy(name: str) -> str:
    """What to write for a function of another library.

    >>> remedy("exp"), remedy("fabs")
    ('Write: from snnkit.equations.symbols import exp', 'Write: abs(v)')
    """
    name = _OURS.get(name, name)
    if name == "abs":
        return "Write: abs(v)"
    if name in _FUNCTIONS:
        return f"Write: from snnkit.equations.symbols import {name}"
    return f"A step knows + - * / **, comparisons, abs, and from snnkit.equations.symbols {', '.join(_FUNCTIONS)}."


class Refusing(Value):
    """A value inside a step that names the remedy for what it cannot do."""

    __slots__ = ()

    def __float__(self) -> float:
        raise TypeError(f"math's functions, float() and int() take plain numbers. {remedy('exp')}, log, sqrt, ...")

    __int__ = __float__

    def __round__(self, digits: int | None = None) -> NoReturn:
        raise TypeError(f"Python's round takes plain numbers. {remedy('round')}")

    def __rpow__(self, base: Any) -> NoReturn:
        raise TypeError(f"{base!r} ** v is exp(v * log({base!r})) here. {remedy('exp')}, log")

    def __floordiv__(self, other: Any) -> NoReturn:
        raise TypeError(f"a // b is floor(a / b) here. {remedy('floor')}")

    def __mod__(self, other: Any) -> NoReturn:
        raise TypeError(f"a % b is a - b * floor(a / b) here. {remedy('floor')}")

    def __and__(self, other: Any) -> NoReturn:
        raise TypeError("where(a & b, c, d) is where(a, where(b, c, d), d) here; where(a | b, c, d) likewise.")

    __rfloordiv__, __rmod__, __rand__, __or__, __ror__ = __floordiv__, __mod__, __and__, __and__, __and__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python and numpy ask for what they may use
            raise AttributeError(name)
        raise AttributeError(f"x, states and parameters have no {name!r} inside a step. {remedy(name)}")

    def __array_ufunc__(self, function: Any, method: str, *arguments: Any, **keywords: Any) -> Any:
        if function.__name__ in _NUMPY:  # + - * / and comparisons with numpy's own numbers
            numbers = (a.item() if getattr(a, "shape", None) == () else a for a in arguments)
            return apply(_NUMPY[function.__name__], *numbers)
        raise TypeError(f"numpy's {function.__name__} works on arrays, not inside a step. {remedy(function.__name__)}")

    def __array_function__(self, function: Any, *rest: Any) -> NoReturn:
        raise TypeError(f"numpy's {function.__name__} works on arrays, not inside a step. {remedy(function.__name__)}")

    @classmethod
    def __torch_function__(cls, function: Any, *rest: Any) -> NoReturn:
        name = getattr(function, "__name__", str(function))
        raise TypeError(f"torch's {name} works on tensors, not inside a step. {remedy(name)}")
