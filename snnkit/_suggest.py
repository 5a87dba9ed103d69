"""The nearest name, for messages about an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
