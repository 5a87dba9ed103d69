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
        by_order: their code loads files with other names by position, and so may we; rows stand in their order.
        mark: what a name looks like that all of their files have and no other paper's.
    """

    model: str
    pattern: str
    rows: Callable[[nn.Module], Rows]
    dead: tuple[str, ...] = ()
    mend: Callable[[nn.Module, State, str], State] = _as_they_are
    by_order: bool = False
    mark: str = ""

    def fits(self, model: nn.Module, state: State) -> bool:
        """Whether the names of a state dict are of this table."""
        return type(model).__name__ == self.model and all(re.match(self.pattern, key) for key in state)

    def wrote(self, state: State) -> bool:
        """Whether the names are those of this official code and of no other."""
        return all(re.match(self.pattern, key) for key in state) and any(re.match(self.mark, key) for key in state)

    def by_position(self, model: nn.Module, state: State) -> dict[str, str]:
        """Our name for each of a file's by its place alone; nothing where that can't be meant.

        It can where the file has as many tensors as their code and other names, and each name that is known stands at
        its own place. Shapes are for the caller to compare.
        """
        if not self.by_order or type(model).__name__ != self.model:
            return {}
        official = self.in_order(model)
        if len(state) != len(official) or state.keys() == official.keys():
            return {}
        known = {*official, *official.values()}
        if any(key in known and key != place for key, place in zip(state, official, strict=True)):
            return {}
        return dict(zip(state, official.values(), strict=True))

    def in_order(self, model: nn.Module) -> dict[str, str]:
        """Their name and ours of all tensors, in the order of the rows; at the end those that have one name."""
        own = list(model.state_dict())
        theirs = {new: a + new.removeprefix(b) for a, b in self.rows(model) for new in own if new.startswith(b)}
        return {name: new for new, name in theirs.items()} | {new: new for new in own if new not in theirs}

    def translate(
        self, model: nn.Module, state: State, where: str, positions: dict[str, str] | None = None
    ) -> tuple[State, dict[str, str], list[str]]:
        """Return the state in our names, their name for each of ours, and the names of their dead tensors.

        Args:
            model, state, where: the model, what is to be loaded, and how messages call that.
            positions: our name for each of theirs where the rows are not to be asked.
        """
        own = model.state_dict()
        dead = [key for key in state if any(re.fullmatch(pattern, key) for pattern in self.dead)]
        names = {key: new for key, new in (positions or self.names(model, state)).items() if key not in dead}
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
