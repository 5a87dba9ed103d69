"""The base class of neurons: parameters, states and one ``step``.

A neuron of your own is a subclass with five lines. Numbers that are class attributes are its parameters; ``states``
maps each state to its initial value, a number or the name of an attribute; ``step(self, x, ...)`` takes the input and
the states and returns the output and the new states. Everything else is derived from ``step``: the reference, the
compiled kernels and their gradients.

    class MyNeuron(Equation):
        tau, v_threshold = 2.0, 1.0
        states = {"v": "v_rest"}

        def step(self, x, v):
            v = v + (x - (v - self.v_rest)) / self.tau
            s = self.spike(v - self.v_threshold)
            return s, {"v": self.reset(v, s)}
"""

from __future__ import annotations

import math
import numbers
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from snnkit._suggest import nearest
from snnkit.equations.parametric import Parametric
from snnkit.equations.resets import Hard, Reset, Soft
from snnkit.equations.surrogates import ATan, Surrogate
from snnkit.equations.symbols import straight_through, where
from snnkit.equations.trace import LANE, PARAMETER, Symbol, Trace

_UNSET: Any = object()
_MOST_OPERATIONS = 3000  # a minute of compiling, and it grows faster than the list


class Equation(Parametric):
    """A neuron.

    Args:
        surrogate: derivative of the spike. Default ``ATan(2.0)``.
        v_reset: a number for a hard reset to it, None for a soft one (subtract ``v_threshold``).
        detach_reset: no gradient passes through the reset.
        reset: a reset object in place of the two above.
        others: the parameters and options of the class, by name or in their order.

    Raises:
        ValueError: a parameter is not finite, or not positive where it must be.
        TypeError: an unknown keyword (with the nearest one), or ``reset`` beside ``v_reset`` or ``detach_reset``.
    """

    states: ClassVar[dict[str, float | str]] = {}
    default_reset: ClassVar[Reset] = Hard(0.0)
    default_surrogate: ClassVar[Surrogate] = ATan(2.0)
    learnt: ClassVar[tuple[str, ...]] = ()
    """Parameters that a layer learns unless told otherwise."""
    _fires: ClassVar[bool] = True
    _machinery: ClassVar[frozenset[str]] = frozenset({"surrogate", "reset_rule", "relaxed", "_plan"})

    surrogate: Surrogate
    reset_rule: Reset
    relaxed: bool

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        own = vars(cls)
        if "v_reset" in own:
            raise TypeError(
                f"{cls.__name__}: v_reset belongs to the reset. Write default_reset = Hard({own['v_reset']})."
            )
        for name in cls.parameter_names + cls.option_names:
            if name in _RESERVED:
                raise TypeError(f"{cls.__name__}: {name!r} has a meaning for every neuron. Choose another name.")
        if isinstance(cls.learnt, str):
            raise TypeError(f'{cls.__name__}: learnt expects names. Write: learnt = ("{cls.learnt}",).')
        if not isinstance(cls.states, dict) or not all(isinstance(n, str) for n in cls.states):
            raise TypeError(f'{cls.__name__}: states must be a dict such as {{"v": 0.0}}, got {cls.states!r}.')
        for name, start in cls.states.items():
            if not isinstance(start, (numbers.Real, str)):
                raise TypeError(
                    f"{cls.__name__}: state {name!r} must start at a number or the name of an attribute, got {start!r}."
                )

    def __init__(
        self,
        *values: Any,
        surrogate: Surrogate | None = None,
        v_reset: Any = _UNSET,
        detach_reset: bool | None = None,
        reset: Reset | None = None,
        **named: Any,
    ) -> None:
        super().__init__(*values, **named)
        if not self.states:
            raise TypeError(f'{type(self).__name__} has no states. Write for example: states = {{"v": 0.0}}.')
        if reset is not None and (v_reset is not _UNSET or detach_reset is not None):
            raise TypeError("Give either reset=..., or v_reset and detach_reset, not both.")
        if surrogate is not None and not isinstance(surrogate, Surrogate):
            theirs = type(surrogate).__module__.partition(".")[0]  # SpikingJelly's looks like ours
            whose = "" if theirs in ("builtins", "snnkit") else f" of {theirs}. Take one of snnkit.equations"
            raise TypeError(f"surrogate must be an object such as ATan(2.0), got {surrogate!r}{whose}.")
        self.surrogate = self.default_surrogate if surrogate is None else surrogate
        self.reset_rule = self._rule(v_reset, detach_reset) if reset is None else reset
        if not isinstance(self.reset_rule, Reset):
            raise TypeError(f"reset must be an object such as Soft(), got {reset!r}.")
        self.relaxed = False
        for name in self.positive:
            value = getattr(self, name)
            if name.startswith("tau") and isinstance(value, float) and value < 1.0:
                warnings.warn(
                    f"{type(self).__name__}: {name}={value:g} is less than a step, so that the state overshoots and "
                    "swings. Time constants count steps: divide seconds by the step.",
                    stacklevel=3,
                )

    def __setattr__(self, name: str, value: Any) -> None:
        if "_plan" in self.__dict__ and name not in self.parameter_names + self.option_names:
            raise AttributeError(
                f"{name} of this {type(self).__name__} is fixed: it has a kernel by now. Make a new neuron; in a "
                "layer: layer.neuron = that."
            )
        super().__setattr__(name, value)

    def _rule(self, v_reset: Any, detach_reset: bool | None) -> Reset:
        rule = self.default_reset
        if v_reset is _UNSET and detach_reset is None:
            return rule
        detach = rule.detach if detach_reset is None else detach_reset
        if v_reset is _UNSET:
            return type(rule)(**rule.parameters(), detach=detach)
        return Soft(detach=detach) if v_reset is None else Hard(v_reset=v_reset, detach=detach)

    @classmethod
    def keyword_names(cls) -> tuple[str, ...]:
        """All keywords of the constructor."""
        return (*super().keyword_names(), "surrogate", "v_reset", "detach_reset", "reset")

    @classmethod
    def refuse(cls, name: str, known: Sequence[str]) -> NoReturn:
        """As for every formula; a decay, which other toolkits have, is told as tau."""
        try:
            super().refuse(name, known)
        except TypeError as error:
            if name not in ("alpha", "beta", "decay") or not hasattr(cls, "tau"):
                raise
            raise TypeError(f"{error} A decay of v is tau = 1 / (1 - {name}), see docs/neurons.md.") from None

    @property
    def v_rest(self) -> Any:
        """Where the leak goes: v_reset of a hard reset, else 0. An equation may have a parameter of this name."""
        return self.reset_rule.v_rest

    @property
    def v_start(self) -> Any:
        """Where the neuron starts: v_reset of a hard reset, else 0."""
        return self.reset_rule.v_rest

    def step(self, x: Any, /, **states: Any) -> tuple[Any, dict[str, Any]]:
        """One time step: ``step(x, v=..., ...) -> (output, {"v": ..., ...})``."""
        raise TypeError(f"{type(self).__name__} has no step(self, x, {', '.join(self.states)}).")

    def spike(self, d: Any) -> Any:
        """s = [d >= 0], NaN where d is NaN, with the surrogate's gradient."""
        if self.relaxed:
            return self.surrogate.primitive(d)
        return straight_through(where(d >= 0.0, 1.0, where(d < 0.0, 0.0, d)), d, self.surrogate.derivative(d))

    def reset(self, v: Any, s: Any, v_threshold: Any = None) -> Any:
        """The membrane after the spikes s, by the chosen rule; ``v_threshold`` is what a soft reset subtracts."""
        return self.reset_rule.apply(v, s, getattr(self, "v_threshold", 1.0) if v_threshold is None else v_threshold)

    def initial(self) -> dict[str, Any]:
        """The states at the start: numbers, or whatever the parameters are."""
        return {n: getattr(self, v) if isinstance(v, str) else float(v) for n, v in self.states.items()}

    def parameters(self) -> dict[str, Any]:
        """All parameters by name; those of the surrogate and of the reset have a dot: ``surrogate.alpha``."""
        named = dict(super().parameters())
        named |= {f"surrogate.{n}": v for n, v in self.surrogate.parameters().items()}
        return named | {f"reset.{n}": v for n, v in self.reset_rule.parameters().items()}

    def positive_names(self) -> frozenset[str]:
        """The names, as in ``parameters``, of those that must be > 0. A tensor that is not counts as NaN."""
        parts = {"": self.positive, "surrogate.": self.surrogate.positive, "reset.": self.reset_rule.positive}
        return frozenset(part + name for part, names in parts.items() for name in names)

    def bind(self, values: dict[str, Any]) -> Equation:
        """A copy in which the named parameters (see ``parameters``) have other values."""
        parts: dict[str, dict[str, Any]] = {"": {}, "surrogate": {}, "reset": {}}
        for name, value in values.items():
            part, _, own = name.rpartition(".")
            if part not in parts:
                self.refuse(name, tuple(self.parameters()))
            parts[part][own] = value
        bound = super().bind(parts[""])
        bound.__dict__.pop("_plan", None)
        if parts["surrogate"]:
            bound.surrogate = self.surrogate.bind(parts["surrogate"])
        if parts["reset"]:
            bound.reset_rule = self.reset_rule.bind(parts["reset"])
        return bound

    def as_relaxed(self) -> Equation:
        """A copy whose spike is the surrogate's primitive and whose reset is not detached."""
        smooth = self.bind({"reset.detach": False})
        smooth.relaxed = True
        return smooth

    def simplified(self, learnt: Sequence[str] = ()) -> Equation:
        """The same neuron by shorter formulas, if its numbers allow them; ``learnt`` names those that may change."""
        rule = self.reset_rule.simplified([name.removeprefix("reset.") for name in learnt])
        if rule is self.reset_rule:
            return self
        shorter = self.bind({})
        shorter.reset_rule = rule
        return shorter

    def structure(self) -> tuple[Any, ...]:
        """What decides the text of the kernel."""
        return (*super().structure(), self.surrogate.structure(), self.reset_rule.structure(), self.relaxed)

    def trace(self) -> TracedStep:
        """Run ``step`` once on symbols.

        Raises:
            TypeError: the step does something that cannot be traced (the line is named), or takes too many operations;
                a state starts at an attribute that is not there.
        """
        for name, start in self.states.items():
            if isinstance(start, str) and not hasattr(self, start):
                known = (*self.parameter_names, "v_rest", "v_start")
                raise TypeError(
                    f"{type(self).__name__}: state {name!r} starts at {start!r}, which it does not have."
                    f"{nearest(start, known)} A start is a number or one of: {', '.join(known)}."
                )
        trace = Trace(most=_MOST_OPERATIONS)
        parameters = {name: trace.input(name, PARAMETER) for name in self.parameters()}
        x, states = trace.input("x", LANE), {name: trace.input(f"{name}_before", LANE) for name in self.states}
        bound = self.bind(parameters)
        try:
            returned = bound.step(x, **states)
        except (TypeError, ValueError, AttributeError) as error:
            raise TypeError(f"{type(self).__name__}.step cannot be traced{_line_of(error)}: {error}") from error
        output, results = self._checked(trace, returned)
        trace.most = math.inf  # the backward comes on top
        trace.verify()
        return TracedStep(
            trace,
            {n: s.index for n, s in parameters.items()},
            x.index,
            {n: states[n].index for n in self.states},
            output.index,
            {n: results[n].index for n in self.states},
        )

    def _checked(self, trace: Trace, returned: Any) -> tuple[Symbol, dict[str, Symbol]]:
        """What ``step`` returned, as symbols; a mere number becomes one."""
        name = type(self).__name__
        names = ", ".join(f'"{n}": ...' for n in self.states)
        if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], dict):
            raise TypeError(f"{name}.step must return (output, {{{names}}}), got {returned!r}.")
        if set(returned[1]) != set(self.states):
            raise TypeError(f"{name}.step must return the states {{{names}}}, got {', '.join(returned[1]) or 'none'}.")
        found = {}
        for part, value in {"the output": returned[0], **returned[1]}.items():
            if not isinstance(value, (Symbol, int, float)):
                raise TypeError(f"{name}.step returned a {type(value).__name__} as {part}; it must be a number.")
            found[part] = symbol = value if isinstance(value, Symbol) else trace.add("detach", (value,))
            if trace.nodes[symbol.index].is_condition or isinstance(value, bool):
                raise TypeError(f"{name}.step returned a condition as {part}. A spike is self.spike(v - v_threshold).")
        return found["the output"], {n: found[n] for n in returned[1]}

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in self.__dict__.items() if n != "_plan"}

    def __repr__(self) -> str:
        own = super().__repr__()[:-1].removesuffix("(")
        parts = [f"surrogate={self.surrogate!r}", f"reset={self.reset_rule!r}"] if self._fires else []
        joined = ", ".join(parts)
        return f"{own}{', ' if parts and not own.endswith('(') else ''}{joined})"


_RESERVED = {*dir(Equation), *Equation.__annotations__} - {"v_rest", "v_start"}


@dataclass(frozen=True)
class TracedStep:
    """A trace with the node numbers of its parameters, its input, its states before and after, and its output."""

    trace: Trace
    parameters: dict[str, int]
    x: int
    before: dict[str, int]
    output: int
    after: dict[str, int]


def _line_of(error: BaseException) -> str:
    """The user's line: the last one in the traceback that is not in this package's own machinery."""
    own = {str(Path(__file__).with_name(f"{n}.py")) for n in ("symbols", "trace", "refusals", "equation", "parametric")}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename not in own:
            return f" at {Path(frame.filename).name}, line {frame.lineno} ({frame.line})"
    return ""
