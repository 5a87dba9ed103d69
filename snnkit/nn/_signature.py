"""The signature of a neuron's layer: its equation's names and defaults, where ``__init__`` takes any keywords."""

from __future__ import annotations

import inspect

from snnkit._suggest import SignatureOfInit


class SignatureOfEquation(SignatureOfInit):
    """The equation's numbers and options, then surrogate and reset, then what every layer of neurons takes.

    A class with an ``__init__`` of its own has that one's.
    """

    def __get__(self, thing: object, cls: type) -> inspect.Signature:
        of_init = super().__get__(thing, cls)
        equation, given = getattr(cls, "equation", None), of_init.parameters.values()
        if equation is None or [p.kind for p in given][:1] != [inspect.Parameter.VAR_POSITIONAL]:
            return of_init
        numbers = {name: getattr(equation, name) for name in equation.parameter_names + equation.option_names}
        reset = equation.default_reset
        of_reset = {name: value for name, value in reset.parameters().items() if name != "detach"}
        options = {"surrogate": equation.default_surrogate, **of_reset, "detach_reset": reset.detach, "reset": reset}
        options |= {p.name: p.default for p in given if p.kind is inspect.Parameter.KEYWORD_ONLY}
        options["learn"] = equation.learnt
        shown = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value)
                 for name, value in numbers.items()]  # fmt: skip
        shown += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
                  for name, value in options.items()]  # fmt: skip
        return inspect.Signature(shown)
