"""Many kernels in one C++ text: unoptimised, a hundred and sixty compile in twenty seconds. Bits do not depend on it.

The first run of the calls only notes which texts would be compiled; they are put side by side, each in a namespace of
its own, and the second run takes its functions from there. The calls themselves go through ``scan`` as everybody's do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock

from snnkit.ops import cpu, scan_cpu

_EXPORTED = re.compile(r'extern "C"\s+[\w ]+?[ *]+(\w+)\s*\(')


class _Function:
    """A function of the first run: it does nothing and returns 0."""

    argtypes: Any = None
    restype: Any = None

    def __call__(self, *arguments: Any) -> int:
        return 0


class _Library:
    """A loaded library whose functions stand under other names in a larger one, or nowhere yet."""

    def __init__(self, whole: Any = None, number: int = 0) -> None:
        self._whole, self._number = whole, number

    def __getattr__(self, name: str) -> Any:
        found = _Function() if self._whole is None else getattr(self._whole, f"{name}_{self._number}")
        setattr(self, name, found)
        return found


@contextmanager
def _kernels_from(library: Callable[..., Any]) -> Iterator[None]:
    with mock.patch.object(cpu, "library", library), mock.patch.object(scan_cpu, "_kernels", {}):
        scan_cpu._prepared.cache_clear()
        yield
        scan_cpu._prepared.cache_clear()


def compiled_together(calls: Callable[[], Any], optimise: str = "-O0", parts: int = 1) -> Any:
    """Run ``calls`` with all kernels that it needs compiled at once, in so many texts, and return what it returns."""
    texts: dict[str, int] = {}

    def note(code: str, *_: Any) -> _Library:
        texts.setdefault(code, len(texts))
        return _Library()

    with _kernels_from(note):
        calls()
    groups = [list(texts)[part::parts] for part in range(min(parts, len(texts)))]
    with ThreadPoolExecutor(parts) as pool:
        wholes = list(pool.map(lambda group: cpu.library(_side_by_side(group), optimise), groups))
    libraries = {
        code: _Library(whole, number)
        for group, whole in zip(groups, wholes, strict=True)
        for number, code in enumerate(group)
    }

    def known(code: str, *_: Any) -> _Library:
        assert code in libraries, "the second run asks for a text that the first did not need"
        return libraries[code]

    with _kernels_from(known):
        return calls()


def _side_by_side(texts: list[str]) -> str:
    headers: dict[str, None] = {}
    parts = []
    for number, text in enumerate(texts):
        headers |= dict.fromkeys(re.findall(r"#include <.*?>", text))
        for name in _EXPORTED.findall(text):
            text = re.sub(rf"\b{name}\b", f"{name}_{number}", text)
        text = re.sub(r"#include <.*?>", "", text)
        macros = sorted({*re.findall(r"#define (\w+)", text)} - {"NAN", "INFINITY"})  # of <math.h>
        parts.append(f"namespace kernel_{number} {{\n{text}\n}}\n" + "".join(f"#undef {name}\n" for name in macros))
    return "\n".join([*headers, *parts])
