"""What the constructors of the vision models check and make of their arguments: sizes, neurons, the readout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from snnkit.equations.resets import Reset
from snnkit.equations.surrogates import Sigmoid, Surrogate
from snnkit.nn.neuron_layer import Neuron

SURROGATE = Sigmoid(4.0)


def neuron_maker(
    neuron: Callable[..., nn.Module],
    tau: float | None,
    surrogate: Surrogate,
    v_reset: float | None,
    detach_reset: bool,
    reset: Reset | None,
) -> Callable[..., nn.Module]:
    """What makes a network's neurons, called with ``v_threshold=...``: a class with its keywords, or a function.

    Raises:
        TypeError: not callable; keywords for the neurons of one's own function, which sets them itself; or a reset
            that is given twice.
    """
    if reset is not None and (v_reset != 0.0 or not detach_reset):
        raise TypeError(f"Give either reset={reset!r}, or v_reset and detach_reset, not both.")
    if isinstance(neuron, type) and issubclass(neuron, Neuron):
        known = neuron.equation.keyword_names()
        if tau is None and "tau" in known:
            tau = 2.0
        after: dict[str, Any] = dict(v_reset=v_reset, detach_reset=detach_reset) if reset is None else dict(reset=reset)
        keywords: dict[str, Any] = dict(surrogate=surrogate, **after)
        if tau is not None:
            keywords["tau"] = tau
        return partial(neuron, **keywords)
    if not callable(neuron) or isinstance(neuron, nn.Module):
        got = f"{neuron!r}. Write snnkit.nn.{neuron}" if isinstance(neuron, str) else type(neuron).__name__
        raise TypeError(f"neuron must be a class such as PLIF, or a function that makes a neuron, got {got}.")
    other = repr(surrogate) != repr(SURROGATE)  # one read from a file is another object
    given = dict(tau=tau is not None, surrogate=other, v_reset=v_reset != 0.0, reset=reset is not None)
    for name in [name for name, changed in given.items() if changed]:
        raise TypeError(f"{name} is set by your own function neuron={neuron!r}: give it there.")
    return partial(_made, neuron)  # type: ignore[arg-type]  # mypy forgets what the function takes


def _made(neuron: Callable[..., nn.Module], v_threshold: float) -> nn.Module:
    """A neuron of one's own function, or of another toolkit's class; SpikingJelly's is set to many steps a call."""
    try:
        made = neuron(v_threshold=v_threshold)
    except TypeError as error:
        if "v_threshold" not in str(error):
            raise
        raise TypeError(f"neuron is called with v_threshold={v_threshold:g}, as PLIF is: {error}.") from error
    if getattr(made, "step_mode", "m") == "s":  # SpikingJelly's default would take a whole sequence for one step
        made.step_mode = "m"  # type: ignore[assignment]  # a module may have attributes of any kind
    return made


def require_whole(least: int, **sizes: Any) -> None:
    """Refuse a size that is no whole number >= least; a tuple is one of sizes.

    >>> require_whole(1, depth=0)
    Traceback (most recent call last):
    ValueError: depth must be a whole number >= 1, got 0.
    """
    for name, size in sizes.items():
        several = isinstance(size, (tuple, list))
        if not all(_is_whole(one) and one >= least for one in (size if several else (size,))):
            what = "whole numbers" if several else "a whole number"
            raise ValueError(f"{name} must be {what} >= {least}, got {size!r}.")


def require_several(**sizes: Any) -> None:
    """Refuse a single size where there is one a stage.

    >>> require_several(dims=64)
    Traceback (most recent call last):
    TypeError: dims must be a sequence of sizes, got 64. Write dims=(64,).
    """
    for name, several in sizes.items():
        if not isinstance(several, (tuple, list)):
            raise TypeError(f"{name} must be a sequence of sizes, got {several!r}. Write {name}=({several!r},).")


def require_pools(pools: Any) -> None:
    """Refuse what does not say of each of four convolutions whether it halves the image."""
    if not isinstance(pools, (tuple, list)) or len(pools) != 4 or not all(isinstance(one, bool) for one in pools):
        raise ValueError(f"pools must be True or False for each of the four convolutions, got {pools!r}.")


def _is_whole(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool)


def height_and_width(size: Any) -> tuple[int, int]:
    """Both from one number, or as they are given."""
    both = (size, size) if _is_whole(size) else size
    try:
        height, width = both
    except (TypeError, ValueError):
        height = width = None
    if not (_is_whole(height) and _is_whole(width) and min(height, width) >= 1):
        raise ValueError(f"img_size must be a whole number >= 1, or (height, width), got {size!r}.")
    return height, width


def made_readout(readout: Callable[[], nn.Module] | None) -> nn.Module | None:
    """The readout; None where there is none to apply."""
    if readout is None:
        return None
    if isinstance(readout, nn.Module) or not callable(readout):
        raise TypeError(f"readout must be a class such as MeanOverTime, or a function that makes one, got {readout!r}.")
    made = readout()
    return None if isinstance(made, nn.Identity) else made
