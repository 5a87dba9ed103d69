"""Activation checkpointing that knows about time: keep the input of a block, run the block again in the backward.

Plain ``torch.utils.checkpoint`` runs a block twice without telling it. A layer inside ``carry`` would then start its
second run from the state that its first run left (it refuses, see ``snnkit.nn.carry``), and a batch norm would count
the batch twice. Here the second run is told: it gets the answers that the first run got, and writes nothing.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook

Answer = TypeVar("Answer")
_graph_task: Callable[[], int] = torch._C._current_graph_task_id


class _Runs(threading.local):
    """The checkpointed runs that are under way. Per thread: on a GPU the backward recomputes in a thread of its own."""

    def __init__(self) -> None:
        self.open: tuple[_First | _Again, ...] = ()


_runs = _Runs()


class _First:
    """Context of the first run: writes down what the layers were told about the world outside."""

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def __enter__(self) -> None:
        self.before = _runs.open
        _runs.open = (*self.before, self)

    def __exit__(self, *_: object) -> None:
        _runs.open = self.before


class _Again:
    """Context of the recomputation: repeats these answers, and lends norms clones of their statistics."""

    def __init__(self, first: _First) -> None:
        self.first = first

    def __enter__(self) -> None:  # a graph that is retained enters again
        self.rest = iter(self.first.answers)
        self.statistics: dict[nn.Module, dict[str, torch.Tensor | None]] = {}
        self.thread = threading.get_ident()
        self.hook = register_module_forward_pre_hook(self._lend_clones)
        self.before = _runs.open
        _runs.open = (*self.before, self)

    def __exit__(self, *_: object) -> None:
        _runs.open = self.before
        self.hook.remove()
        for norm, buffers in self.statistics.items():
            norm._buffers.update(buffers)

    def _lend_clones(self, module: nn.Module, _: object) -> None:
        # The hook is global, since a function's modules are not known; other threads' modules are not ours.
        if not isinstance(module, _NormBase) or module in self.statistics or threading.get_ident() != self.thread:
            return
        self.statistics[module] = dict(module._buffers)
        module._buffers.update({name: b if b is None else b.clone() for name, b in module._buffers.items()})


def recomputing() -> bool:
    """Whether this is the second run of a checkpointed block. Layers that count or record do nothing then."""
    return any(isinstance(run, _Again) for run in _runs.open)


def in_backward() -> bool:
    """Whether this is called by a backward pass: a checkpointed run, ours or another's."""
    return _graph_task() != -1


def plain_run() -> bool:
    """Whether no checkpointed run is under way, ours or another's: ``first_answer(ask)`` is ``ask()``."""
    return not (_runs.open or in_backward())


# A compiled block is computed again from its buffers as the whole forward left them: an answer that has been read from
# running statistics must be kept instead. This marks it, and `checkpoint` tells the compiler.
_library = torch.library.Library("snnkit", "FRAGMENT")
_library.define("first_answer(Tensor answer) -> Tensor")
_library.impl("first_answer", torch.clone, "CompositeExplicitAutograd")


def first_answer(ask: Callable[[], Answer]) -> Answer:
    """``ask()``, or what it gave in the first run while a checkpointed block is computed again.

    In compiled code this holds for tensors; they have no gradient then.
    """
    if torch.compiler.is_compiling():
        answer = ask()
        return torch.ops.snnkit.first_answer(answer) if isinstance(answer, torch.Tensor) else answer
    if not _runs.open:
        return ask()
    again, inside = None, []  # the innermost recomputation, and the first runs within it: blocks may be nested
    for run in reversed(_runs.open):
        if isinstance(run, _Again):
            again = run
            break
        inside.append(run)
    answer = ask() if again is None else next(again.rest)
    for run in inside:
        run.answers.append(answer)
    return answer


def checkpoint(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)`` that keeps its arguments only and computes the rest again in the backward pass.

    Args:
        function: a module or a function of tensors. It runs twice and must do the same both times.
        args: its arguments; keyword arguments: ``functools.partial``.

    Returns:
        What the function returns.

    Under ``torch.compile`` the block becomes part of the graph; inside ``carry``, or where it cannot be traced, the
    graph breaks and the block runs eagerly, with the same numbers.

    Gradients are those without a checkpoint, bit for bit where the kernels repeat themselves: the second run starts
    from the ``carry`` state that the first one read, draws the same random numbers, and neither carries a state on nor
    updates running statistics. Memory: the arguments instead of all that the function keeps; time: one more forward.

    >>> layer = torch.nn.Linear(3, 2)
    >>> checkpoint(layer, torch.zeros(4, 5, 3)).shape
    torch.Size([4, 5, 2])
    """
    if torch.compiler.is_compiling():  # the compiler traces once and recomputes in its own graph: no second run to tell
        keeping = functools.partial(
            torch.utils.checkpoint.create_selective_checkpoint_contexts, [torch.ops.snnkit.first_answer.default]
        )
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False, context_fn=keeping)

    def contexts() -> tuple[_First, _Again]:
        first = _First()
        return first, _Again(first)

    return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False, context_fn=contexts)


# Where torch.compile cannot trace a block, it would compile the frame of `checkpoint` alone, with `is_compiling` true,
# and call torch's plain checkpoint: wrong gradients inside carry. It may inline this function, not compile its frame.
# (`torch.compiler.disable` forbids the first, too, and takes seconds to import: only where the private way is gone.)
try:
    from torch._C._dynamo import eval_frame as _compiler

    _compiler.set_code_exec_strategy(
        checkpoint.__code__,
        _compiler._FrameExecStrategy(_compiler._FrameAction.SKIP, _compiler._FrameAction.DEFAULT),
    )
except (ImportError, AttributeError):
    checkpoint = torch.compiler.disable(checkpoint)
