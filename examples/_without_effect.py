"""What is said of an option that would change nothing: a run that ignored it would not be what was asked for."""

from collections.abc import Collection, Mapping
from typing import Any


def as_given(name: str, value: Any) -> str:
    """An option as one would write it: ``--learn-tau``, ``--tau 2``, ``--set dim=64 depth=2``."""
    name = f"--{name.replace('_', '-')}"
    if value is True:
        return name
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"{name} {shown:g}" if isinstance(shown, float) else f"{name} {shown}"


def first_without_effect(
    settings: Any, given: Collection[str], without_effect: Mapping[str, tuple[bool, str]]
) -> str | None:
    """What to say of the first given option that has no effect: its name -> whether it has none, and why."""
    for name, (idle, why) in without_effect.items():
        value = getattr(settings, name)
        nothing = value is None or value is False or value in ((), "")  # a 0 asks for something
        if name in given and idle and not nothing:
            return f"{why}, got {as_given(name, value)}. Leave it out, or change the other."
    return None
