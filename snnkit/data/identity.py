"""Identity: a text for a transform that changes whenever its results may change, for the key of a cache.

A cache that does not see a changed transform serves old frames without a word. So an object has an identity only if
all of it can be read: numbers, texts, arrays, containers of these, dataclasses (class, its source, every field) and
functions of a module (name and source). A lambda, a function inside a function or an object with hidden state is
refused.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import sys
from typing import Any

import numpy as np


def identity(value: Any) -> str:
    """Text that is equal for equal values and differs where they do, in every process.

    Raises:
        TypeError: the value has no stable identity, with the remedy.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array({value.dtype.descr}, {value.shape}, {digest})"
    if isinstance(value, np.generic | np.dtype):
        return f"{type(value).__name__}({value!r})"
    if isinstance(value, list | tuple):
        return f"{_name(type(value))}({', '.join(map(identity, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{identity(key)}: {identity(item)}' for key, item in value.items())})"
    if isinstance(value, functools.partial):
        return f"partial({identity(value.func)}, {identity(value.args)}, {identity(value.keywords)})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        hidden = sorted(set(getattr(value, "__dict__", {})) - set(fields))
        if hidden:
            raise TypeError(f"{_name(type(value))} has state beside its fields ({', '.join(hidden)}); make it a field.")
        classes = [each for each in type(value).__mro__ if each is not object]
        return f"{_name(type(value))}({'+'.join(map(_source, classes))}, {identity(fields)})"
    if isinstance(value, type) or inspect.isbuiltin(value) or isinstance(value, np.ufunc):
        return _reachable(value)
    if inspect.isfunction(value):
        return f"{_reachable(value)}({_source(value)})"
    raise TypeError(
        f"{value!r} has no stable identity, so a cache could not tell when it changes. "
        "Write the transform as a dataclass with __call__, or as a function of a module."
    )


def _name(named: Any) -> str:
    return f"{getattr(named, '__module__', None) or 'builtins'}.{getattr(named, '__qualname__', named.__name__)}"


def _reachable(value: Any) -> str:
    """The full name of a class or function, if this name leads back to it."""
    module, name = getattr(value, "__module__", None) or "builtins", getattr(value, "__qualname__", value.__name__)
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not value and not isinstance(value, np.ufunc):
        raise TypeError(
            f"{module}.{name} (a lambda or a local function) has no stable identity, so a cache could not tell when it "
            "changes. Move it to the top of a module, or write it as a dataclass with __call__."
        )
    return f"{module}.{name}"


def _source(value: Any) -> str:
    """Hash of the text of a class or function."""
    try:
        text = inspect.getsource(value)
    except (OSError, TypeError) as error:
        raise TypeError(
            f"The source of {_name(value)} cannot be read, so a cache could not tell when it changes."
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]
