"""How a paper's official code names the tensors of a model: rows of (their prefix, ours), and what is dead there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

State = dict[str, Tensor]
Rows = Iterable[tuple[str, str]]


def _as_they_are(model: nn.Module, state: State, where: str) -> State:
    """Values need no change."""
    return state


@dataclass(frozen=True)
class Table:
    """One paper's names.

    Attributes:
        model: name of our class.
        pattern: what each of their names looks like; a state dict with other names is not theirs.
        rows: function of our model that gives (their prefix, ours), also those of neurons without tensors. Several of
            theirs may stand for one of ours (a layer that is a Linear in one of their folders and a Conv1d in another).
        dead: patterns of tensors that their code builds and never uses. They are left out and named.
        mend: function (model, state in our names, where) that adapts values and raises on what can't be meant.
    """

    model: str
    pattern: str
    rows: Callable[[nn.Module], Rows]
    dead: tuple[str, ...] = ()
    mend: Callable[[nn.Module, State, str], State] = _as_they_are

    def fits(self, model: nn.Module, state: State) -> bool:
        """Whether the names of a state dict are of this table."""
        return type(model).__name__ == self.model and all(re.match(self.pattern, key) for key in state)

    def translate(self, model: nn.Module, state: State, where: str) -> tuple[State, dict[str, str], list[str]]:
        """Return the state in our names, their name for each of ours, and the names of their dead tensors."""
        own = model.state_dict()
        dead = [key for key in state if any(re.fullmatch(pattern, key) for pattern in self.dead)]
        names = {key: new for key, new in self.names(model, state).items() if key not in dead}
        ours = {new: _with_pixels(state[key], own.get(new)) for key, new in names.items()}
        rows = list(self.rows(model))
        theirs = {new: next((a + new.removeprefix(b) for a, b in rows if new.startswith(b)), new) for new in own}
        theirs |= {new: key for key, new in names.items()}
        return self.mend(model, ours, where), theirs, dead

    def names(self, model: nn.Module, theirs: Iterable[str]) -> dict[str, str]:
        """Our name for each of theirs, of tensors and of layers; theirs where no row knows it."""
        rows = list(self.rows(model))
        return {key: next((b + key.removeprefix(a) for a, b in rows if key.startswith(a)), key) for key in theirs}


def _with_pixels(value: Tensor, ours: Tensor | None) -> Tensor:
    """The weight of a Linear or a Conv1d as that of a 1 x 1 Conv2d, if that is what it is here."""
    if ours is not None and ours.ndim > value.ndim >= 2 and ours.shape == value.shape + (1,) * (ours.ndim - value.ndim):
        return value.reshape(ours.shape)
    return value
