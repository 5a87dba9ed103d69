"""The neurons as torch modules: one class for each equation, made by ``neuron_module``; PLIF, which learns its tau."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnkit import equations
from snnkit.equations import Equation
from snnkit.nn.neuron_layer import Neuron, own_shape, some_number

_made: dict[type[Equation], type[Neuron]] = {}


def neuron_module(equation: type[Equation]) -> type[Neuron]:
    """The module class of an equation, also of one of your own; the same class each time.

    Raises:
        TypeError: no class of equations.

    >>> from snnkit.equations import IF
    >>> class Mine(IF):
    ...     v_threshold = 0.5
    >>> neuron_module(Mine)()
    Mine()
    """
    if not (isinstance(equation, type) and issubclass(equation, Equation)):
        got = equation.__name__ if isinstance(equation, type) else f"an object of {type(equation).__name__}"
        raise TypeError(f"neuron_module takes a class of equations, such as equations.LIF or your own, got {got}.")
    if equation not in _made:
        text = f"{equation.__doc__}\n\nLayer on ``[T, B, ...]``; see ``Neuron`` for its arguments."
        members = {"equation": equation, "__doc__": text, "__module__": __name__, "__reduce_ex__": _reduced}
        _made[equation] = type(equation.__name__, (Neuron,), members)
    return _made[equation]


def _reduced(layer: Neuron, protocol: Any) -> Any:
    """For pickle and copies: a class that was made on the spot cannot be found by its name, but its equation can."""
    kind = type(layer)
    if kind is not _made.get(kind.equation):  # one of the user's own, derived from it
        return super(Neuron, layer).__reduce_ex__(protocol)
    return _empty, (kind.equation,), layer.__getstate__()


def _empty(equation: type[Equation]) -> Neuron:
    """A layer before its state is set."""
    made = neuron_module(equation)
    return made.__new__(made)


IF = neuron_module(equations.IF)
LIF = neuron_module(equations.LIF)
LI = neuron_module(equations.LI)
KLIF = neuron_module(equations.KLIF)
CLIF = neuron_module(equations.CLIF)
CUBA = neuron_module(equations.CUBA)
ALIF = neuron_module(equations.ALIF)
SEAdLIF = neuron_module(equations.SEAdLIF)
EFAdLIF = neuron_module(equations.EFAdLIF)
EIF = neuron_module(equations.EIF)
QIF = neuron_module(equations.QIF)
Izhikevich = neuron_module(equations.Izhikevich)
ILIF = neuron_module(equations.ILIF)


class PLIF(Neuron):
    """LIF whose time constant is learnt through w: 1 / tau = sigmoid(w). Fang et al. 2021 (PLIF).

    Takes the arguments of ``LIF``; ``tau`` is where it starts, and must be > 1: a tensor, or a number for one w
    (``shape`` for more). The parameter is ``w``, stored as it is trained.

    Raises:
        ValueError: tau <= 1; "tau" in ``learn``.
        TypeError: ``w`` given; an unknown keyword, with the nearest one.
    """

    equation: ClassVar[type[Equation]] = equations.PLIF
    w: Tensor

    def __init__(
        self, tau: Any = 2.0, *values: Any, learn: Sequence[str] | None = None, shape: Sequence[int] = (),
        device: Any = None, dtype: Any = None, **keywords: Any,
    ) -> None:  # fmt: skip
        if "w" in keywords:
            raise TypeError("PLIF starts from tau, w is -log(tau - 1): write PLIF(tau=...).")
        learn = () if learn is None else learn
        if "tau" in learn:
            raise ValueError("PLIF learns tau through w, whatever learn says: leave it out.")
        number = not isinstance(tau, Tensor)
        least = equations.LIF(tau=tau if number else some_number("tau", tau)).tau
        if least <= 1:
            raise ValueError(f"tau must be > 1 for PLIF, since 1 / tau = sigmoid(w), got {least}.")
        if shape and not number and not learn:
            raise own_shape(shape, "tau")
        start: Any = -math.log(least - 1.0)
        if not number:
            start = -torch.log(tau.detach().double() - 1.0).to(dtype or torch.get_default_dtype())
        learn = learn if isinstance(learn, str) else (*learn, "w")  # a string is refused
        super().__init__(start, *values, learn=learn, shape=shape, device=device, dtype=dtype, **keywords)

    @property
    def tau(self) -> Tensor:
        """The time constant in steps."""
        return 1.0 + torch.exp(-self.w.detach())


_made[equations.PLIF] = PLIF
