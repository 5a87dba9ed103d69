"""The nearest name, for messages about an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Near: a, b.`` for the known names that look like this one, or an empty text.

    >>> nearest("sdt_8_348", ["sdt_8_384", "spikformer_8_512"])
    ' Near: sdt_8_384.'
    """
    near = difflib.get_close_matches(name, list(known), n=3)
    return f" Near: {', '.join(near)}." if near else ""
