"""The nearest name, for messages about an unknown one, and classes that refuse an unknown keyword with it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterable
from typing import Any


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Near: a, b.`` for the known names that look like this one, or an empty text.

    >>> nearest("sdt_8_348", ["sdt_8_384", "spikformer_8_512"])
    ' Near: sdt_8_384.'
    >>> nearest("v_th", ["tau", "v_threshold"]), nearest("lif", ["IF", "LIF", "CUBA"])
    (' Near: v_threshold.', ' Near: LIF, IF.')
    """
    lower = {k.lower(): k for k in known}  # case counts for Python, not for what was meant
    near = difflib.get_close_matches(name.lower(), list(lower), n=3)
    near = [lower[k] for k in near or [k for k in lower if len(name) > 2 and k.startswith(name.lower())][:3]]
    return f" Near: {', '.join(near)}." if near else ""


def unknown(who: str, name: str, known: Collection[str]) -> TypeError:
    """Return the error about a name that is none of the known ones."""
    return TypeError(f"{who} has no {name!r}.{nearest(name, known)} It takes: {', '.join(known) or 'nothing'}.")


def named_arguments(cls: type) -> tuple[list[str], bool]:
    """Return the names that a constructor lists, and whether it takes other keywords, too.

    A class says with ``hands_on = True`` that its ``**keywords`` are those of the class above it.
    """
    own = SignatureOfInit().__get__(None, cls).parameters.values()
    names = [p.name for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in own)
    if open_ended and getattr(cls, "hands_on", False):
        above, open_ended = named_arguments(cls.__mro__[1])
        names += [name for name in above if name not in names]
    return names, open_ended


class SignatureOfInit:
    """A class's signature is that of ``__init__``; up to Python 3.11 ``help`` would show that of ``__new__``."""

    def __get__(self, thing: object, cls: type) -> inspect.Signature:
        if thing is not None:
            raise AttributeError("__signature__")  # an object has that of its __call__
        _, *own = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
        return inspect.Signature(own)


class NamedArguments:
    """Base of classes whose constructor refuses an unknown keyword with the class, the nearest one and all there are.

    Python's own message names ``__init__`` and no remedy. A constructor that takes ``**keywords`` does its own checks.

    >>> class Layer(NamedArguments):
    ...     def __init__(self, size, bias=True): ...
    >>> Layer(3, bais=False)
    Traceback (most recent call last):
    TypeError: Layer has no 'bais'. Near: bias. It takes: size, bias.
    """

    __signature__ = SignatureOfInit()

    def __new__(cls, *values: Any, **keywords: Any) -> Any:
        """An empty object, once the keywords have been looked at; a copy is made without any."""
        if keywords:
            known, open_ended = named_arguments(cls)
            for name in () if open_ended else keywords:
                if name not in known:
                    raise unknown(cls.__name__, name, known)
        return super().__new__(cls)
