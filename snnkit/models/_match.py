"""Whether a checkpoint's tensors are those of a model: classifiers may differ in their classes, nothing else may."""

from __future__ import annotations

from torch import Tensor, nn

MOST = 3  # names that a message lists


class MismatchError(ValueError):
    """A checkpoint does not fit the model: lists of names ``missing``, ``unexpected``, ``misshaped``.

    The lists hold all names, the message the first three of each.
    """

    def __init__(self, where: str, model: str, holds: str = "", **lists: list[str]) -> None:
        self.missing, self.unexpected = lists["missing"], lists["unexpected"]
        self.misshaped = lists["misshaped"]
        if holds:
            text = f"{where} holds a {holds} of its official code, this is a {model}; nothing was loaded."
            super().__init__(f"{text} Build that one (names: python -m snnkit list).")
            return
        parts = [f"{what}: {_some(names)}" for what, names in lists.items() if names]
        super().__init__(f"{where} does not fit this {model}; nothing was loaded. {'; '.join(parts)}.")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def match(
    model: nn.Module, state: dict[str, Tensor], theirs: dict[str, str], where: str, holds: str = ""
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Return the tensors to load, and the names of those left out, by the reason.

    Args:
        model, state: where to load, and what, in the model's names.
        theirs: the file's name for each of the model's; those that are absent are the same.
        where: how messages call the file.
        holds: the class whose official code wrote the file, if it is known to be another.

    Raises:
        MismatchError: anything but a classifier differs.
    """
    own, kind = model.state_dict(), type(model).__name__
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    misshaped = [name for name in own if name in state and own[name].shape != state[name].shape]
    misshaped.sort(key=lambda name: not (name.endswith("weight") and own[name].ndim > 1))  # they tell most, so first
    heads = _other_heads(model, own, state, kind)
    out = {name for names in heads.values() for name in names}
    if not out.issuperset([*missing, *unexpected, *misshaped]):
        shapes = [f"{both_names(n, theirs)} {list(state[n].shape)}, here {list(own[n].shape)}" for n in misshaped]
        lists = {"missing": missing, "unexpected": unexpected}
        named = {what: [both_names(n, theirs) for n in names] for what, names in lists.items()}
        raise MismatchError(where, kind, holds, **named, misshaped=shapes)
    return {name: value for name, value in state.items() if name not in out}, heads


def both_names(name: str, theirs: dict[str, str]) -> str:
    """Our name, and theirs where it differs."""
    return f"{name} (there: {theirs[name]})" if theirs.get(name, name) != name else name


def _other_heads(
    model: nn.Module, own: dict[str, Tensor], state: dict[str, Tensor], kind: str
) -> dict[str, list[str]]:
    """Names of the tensors of classifiers that are no mismatch though they differ, by the reason."""
    found: dict[str, list[str]] = {}
    classifiers = getattr(model, "classifiers", ())  # of a vision model
    for head in ("head", "head_dist"):  # the second learns from a teacher
        ours = [name for name in own if name.startswith(f"{head}.")]
        there = [name for name in state if name.startswith(f"{head}.")]
        misshaped = [name for name in ours if name in state and own[name].shape != state[name].shape]
        if misshaped and all(_classes_only(model, own[n], state[n]) for n in misshaped):
            reason = f"has another number of classes than {kind}({model.num_classes})"
            reason += ": the head was left out and stays random"
        elif classifiers and ours and not there:
            reason = f"lacks a head of this {kind}, which stays random"
        elif classifiers and there and not ours:
            reason = f"has a head that this {kind} lacks; it was left out"
        else:
            continue
        found.setdefault(reason, []).extend(ours or there)
    return found


def _classes_only(model: nn.Module, ours: Tensor, theirs: Tensor) -> bool:
    """Whether a head's tensor differs in the number of classes alone."""
    if ours.ndim != theirs.ndim:
        return False
    axes = [axis for axis in range(ours.ndim) if ours.shape[axis] != theirs.shape[axis]]
    return len(axes) == 1 and ours.shape[axes[0]] == getattr(model, "num_classes", None)
