"""The closed set of functions that a neuron may use, and what each of them means.

One table, ``OPERATIONS``, says it once: the function on Python numbers, its text in C, and its rule of reverse
differentiation. A ``step`` is written with the functions below and with + - * / and comparisons. It then runs on
whatever ``Value`` it is given: on tensors (the reference, in ``snnkit.ops.reference``) or on symbols (``trace.py``).
"""

from __future__ import annotations

import builtins
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from snnkit.equations import on_numbers


class Value:
    """A number inside ``step``: a symbol or a tensor. Subclasses say how an operation is applied."""

    __slots__ = ()
    __array_ufunc__ = None  # numpy's own numbers leave + - * / to us
    __hash__ = object.__hash__

    def apply(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Apply the operation ``name`` to the arguments, of which at least one is a Value of this kind."""
        raise TypeError(f"{type(self).__name__} does not say how to apply an operation.")

    def __add__(self, other: Any) -> Any:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return apply("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return apply("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return apply("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return apply("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return apply("div", other, self)

    def __neg__(self) -> Any:
        return apply("neg", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return apply("abs", self)

    def __pow__(self, exponent: Any) -> Any:
        if isinstance(exponent, bool) or not isinstance(exponent, int) or exponent < 1:
            raise TypeError(f"v ** n needs a whole n >= 1, got {exponent!r}. Otherwise: exp(n * log(v)).")
        half = self if exponent == 1 else self ** (exponent // 2)
        if exponent == 1:
            return self
        return half * half * self if exponent % 2 else half * half

    def __ge__(self, other: Any) -> Any:
        return apply("ge", self, other)

    def __gt__(self, other: Any) -> Any:
        return apply("gt", self, other)

    def __le__(self, other: Any) -> Any:
        return apply("le", self, other)

    def __lt__(self, other: Any) -> Any:
        return apply("lt", self, other)

    def __eq__(self, other: Any) -> Any:
        raise TypeError("A step cannot ask whether a membrane == or != a value. Use >=, > and where(condition, a, b).")

    def __bool__(self) -> bool:
        raise TypeError(
            "A step cannot branch on a membrane (if, and, or, not, min, max). "
            "Use where(condition, a, b), minimum(a, b) or maximum(a, b)."
        )


Rule = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class Operation:
    """What one operation means: on numbers, as C text, and backwards.

    ``rule(g, y, *arguments)`` returns the gradient for each argument, None where there is none.
    """

    python: Callable[..., Any]
    text: str
    rule: Rule
    is_condition: bool = False

    @property
    def arity(self) -> int:
        """How many arguments it takes."""
        return len(inspect.signature(self.python).parameters)


def _nothing(g: Any, y: Any, *arguments: Any) -> tuple[None, ...]:
    return (None,) * len(arguments)


def _over(g: Any, y: Any, inverse: Any) -> tuple[Any, Any]:
    """Gradients of y = a / b. With 1 / b: of a parameter that is taken before the loop, and spares it the divisions."""
    g = g * inverse
    return g, -(g * y)


def _halved(g: Any, chosen: Any, other_chosen: Any) -> tuple[Any, Any]:
    """A tie shares the gradient, as torch.minimum and torch.maximum do."""
    half = 0.5 * g
    return where(chosen, g, where(other_chosen, 0.0, half)), where(other_chosen, g, where(chosen, 0.0, half))


# The texts use `real`, the type of the lane. snn_* stand in cuda/math.h: + - * / only, so that every compiler and
# device rounds alike. NaN passes through each but sign.
OPERATIONS: dict[str, Operation] = {
    "add": Operation(lambda a, b: a + b, "{0} + {1}", lambda g, y, a, b: (g, g)),
    "sub": Operation(lambda a, b: a - b, "{0} - {1}", lambda g, y, a, b: (g, -g)),
    "mul": Operation(lambda a, b: a * b, "{0} * {1}", lambda g, y, a, b: (g * b, g * a)),
    "div": Operation(on_numbers.quotient, "{0} / {1}", lambda g, y, a, b: _over(g, y, apply("div", 1.0, b))),
    "neg": Operation(lambda a: -a, "-{0}", lambda g, y, a: (-g,)),
    "exp": Operation(on_numbers.exp, "snn_exp({0})", lambda g, y, a: (g * y,)),
    "log": Operation(on_numbers.log, "snn_log({0})", lambda g, y, a: (g / a,)),
    "sqrt": Operation(on_numbers.sqrt, "snn_sqrt({0})", lambda g, y, a: (g / (2.0 * y),)),
    "tanh": Operation(math.tanh, "snn_tanh({0})", lambda g, y, a: (g * (1.0 - y * y),)),
    "sigmoid": Operation(on_numbers.sigmoid, "snn_sigmoid({0})", lambda g, y, a: (g * (y * (1.0 - y)),)),
    "atan": Operation(math.atan, "snn_atan({0})", lambda g, y, a: (g / (1.0 + a * a),)),
    "erf": Operation(math.erf, "snn_erf({0})", lambda g, y, a: (g * (2.0 / math.sqrt(math.pi)) * exp(-(a * a)),)),
    "abs": Operation(abs, "snn_abs({0})", lambda g, y, a: (g * sign(a),)),
    "sign": Operation(on_numbers.sign, "snn_sign({0})", _nothing),
    "floor": Operation(on_numbers.whole(math.floor), "snn_floor({0})", _nothing),
    "round": Operation(on_numbers.whole(builtins.round), "snn_round({0})", _nothing),
    "minimum": Operation(on_numbers.minimum, "snn_minimum({0}, {1})", lambda g, y, a, b: _halved(g, a < b, b < a)),
    "maximum": Operation(on_numbers.maximum, "snn_maximum({0}, {1})", lambda g, y, a, b: _halved(g, a > b, b > a)),
    "ge": Operation(lambda a, b: a >= b, "{0} >= {1}", _nothing, is_condition=True),
    "gt": Operation(lambda a, b: a > b, "{0} > {1}", _nothing, is_condition=True),
    "le": Operation(lambda a, b: a <= b, "{0} <= {1}", _nothing, is_condition=True),
    "lt": Operation(lambda a, b: a < b, "{0} < {1}", _nothing, is_condition=True),
    "where": Operation(
        lambda c, a, b: a if c else b,
        "{0} ? {1} : {2}",
        lambda g, y, c, a, b: (None, where(c, g, 0.0), where(c, 0.0, g)),
    ),
    "detach": Operation(lambda a: a, "{0}", _nothing),
    "straight_through": Operation(
        lambda value, along, slope: value, "{0}", lambda g, y, value, along, slope: (None, g * slope, None)
    ),
}


def apply(name: str, *arguments: Any) -> Any:
    """Apply an operation of the table: in plain Python if all arguments are numbers, else as the Values wish."""
    for argument in arguments:
        if isinstance(argument, Value):
            return argument.apply(name, arguments)
    return OPERATIONS[name].python(*arguments)


def exp(a: Any) -> Any:
    """e to the power a."""
    return apply("exp", a)


def log(a: Any) -> Any:
    """Natural logarithm."""
    return apply("log", a)


def sqrt(a: Any) -> Any:
    """Square root."""
    return apply("sqrt", a)


def tanh(a: Any) -> Any:
    """Hyperbolic tangent."""
    return apply("tanh", a)


def sigmoid(a: Any) -> Any:
    """1 / (1 + exp(-a))."""
    return apply("sigmoid", a)


def atan(a: Any) -> Any:
    """Arctangent, for the primitive of a surrogate: from the C library, so not the same bits on every device."""
    return apply("atan", a)


def erf(a: Any) -> Any:
    """Error function, for the primitive of a surrogate: from the C library, so not the same bits on every device."""
    return apply("erf", a)


def sign(a: Any) -> Any:
    """-1, 0 or 1."""
    return apply("sign", a)


def floor(a: Any) -> Any:
    """Largest whole number <= a; no gradient."""
    return apply("floor", a)


def round(a: Any) -> Any:
    """Nearest whole number, half to even; no gradient."""
    return apply("round", a)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of a and b; a tie shares the gradient."""
    return apply("minimum", a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of a and b; a tie shares the gradient."""
    return apply("maximum", a, b)


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b."""
    if isinstance(condition, bool):  # an option of the neuron
        return a if condition else b
    return apply("where", condition, a, b)


def clamp(a: Any, low: Any, high: Any) -> Any:
    """a kept inside [low, high]; gradient 1 inside and on the borders."""
    return where(a < low, low, where(a > high, high, a))


def detach(a: Any) -> Any:
    """a, but no gradient passes."""
    return apply("detach", a)


def straight_through(value: Any, along: Any, slope: Any) -> Any:
    """``value`` forwards; backwards the gradient goes to ``along``, times ``slope``."""
    return apply("straight_through", value, along, slope)
