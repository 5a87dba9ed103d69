"""State from call to call: layers keep none by themselves, ``carry`` lends them a place for the length of a block.

A forward pass starts from the initial state and leaves nothing in the module. Inside ``with carry(model):`` each
layer with state (a subclass of ``Stateful``) starts where it stopped in the call before, so that chunk by chunk
equals the whole.
"""

from __future__ import annotations  # torch 2.9 can't compile a function that evaluates X | None while it runs

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnkit._suggest import NamedArguments
from snnkit.nn.checkpoint import first_answer, in_backward, plain_run, recomputing


class _Slot:
    """One layer's place in a carry block."""

    def __init__(self, owner: carry, name: str) -> None:
        self.owner = owner
        self.name = name
        self.state: dict[str, Tensor] | None = None
        self.initial: Mapping[str, Tensor | float] = {}
        self.features: tuple[int, ...] | None = None
        self.prepared: Any = None  # what the layer has worked out from its parameters, for the time of the block
        self.ran = False  # in the forward pass of the model that is under way

    def read(self, batch: int, features: tuple[int, ...] | None) -> dict[str, Tensor] | None:
        """The state, after checking that it belongs to inputs of this shape."""
        if self.ran and self.owner.under_way:
            raise RuntimeError(
                f"carry: {self.name} runs twice in one forward pass, and both uses would share one state. "
                "Give each use a layer of its own (their parameters may be shared)."
            )
        if self.state is None:
            return None
        held = next(iter(self.state.values())).shape[0]
        if held != batch:
            raise ValueError(
                f"carry: {self.name} holds a state for {held} samples, got {batch}. "
                "Start a new carry block when the batch changes."
            )
        if features is not None and features != self.features:
            raise ValueError(
                f"carry: {self.name} holds a state for inputs {_layout(self.features)}, got {_layout(features)}. "
                "Start a new carry block when the shape changes."
            )
        return dict(self.state)

    def would_read(self, state: Mapping[str, Tensor] | None) -> bool:
        """Whether ``Stateful.carried`` would give this state, read before, without an error or a run to tell of it."""
        return self.state is state and not (self.ran and self.owner.under_way) and plain_run()

    def write(self, state: Mapping[str, Tensor], initial: Mapping[str, Tensor | float]) -> None:
        # Cloned: a view of the last steps would hold the whole sequence, and change with it in place.
        detach = self.owner.detach
        self.state = {name: value.detach().clone() if detach else value.clone() for name, value in state.items()}
        self.initial = dict(initial)
        self.ran = self.owner.under_way

    def restart(self, mask: Tensor) -> None:
        if self.state is None:
            return
        state = {}  # a new one: a layer tells by it that its state is not the one it left
        for name, value in self.state.items():
            if len(mask) != len(value):
                raise ValueError(
                    f"carry: reset got a mask for {len(mask)} samples, {self.name} holds a state for {len(value)}."
                )
            initial = self.initial[name]
            # A number is filled in on the device: a copy from the host could not be captured in a CUDA graph.
            initial = initial.to(value) if isinstance(initial, Tensor) else value.new_full((), initial)
            rows = mask.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
            state[name] = torch.where(rows, initial, value)
        self.state = state


def _layout(features: tuple[int, ...] | None) -> str:
    return f"[{', '.join(['T', 'B', *map(str, features or ())])}]"


_OF_A_BLOCK = ("_slot", "_was_carried", "_observer")  # not in copies


class Stateful(NamedArguments, nn.Module):
    """Base of every layer that has a state over time.

    A subclass calls two methods in ``forward``: ``carried`` at the start and ``keep`` at the end. Outside a ``carry``
    block the first returns None and the second does nothing. No state is in ``state_dict``, and a copy (``deepcopy``,
    ``pickle``) that is made inside a block starts without one.

    Raises:
        RuntimeError: run again by ``torch.utils.checkpoint`` inside ``carry``, or under ``DataParallel``.
    """

    _slot: _Slot | None = None
    _was_carried = False  # the last run was in a carry block that has ended
    _observer: Any = None

    @property
    def in_carry(self) -> bool:
        """Whether the layer is inside a carry block."""
        self._refuse_plain_checkpoint()
        return first_answer(lambda: self._slot is not None)

    def carried(self, batch: int, features: Sequence[int] | None = None) -> dict[str, Tensor] | None:
        """The state to start from, or None: start from the initial state.

        Args:
            batch: number of samples of this call's input.
            features: its shape beyond ``[T, B]``, where a change of it could pass unnoticed.

        Raises:
            ValueError: the state belongs to another number of samples or another shape.
            RuntimeError: the layer runs for the second time in one forward pass of the model, or for the second time
                because of a plain ``torch.utils.checkpoint``.
        """
        shape = None if features is None else tuple(features)

        def ask() -> dict[str, Tensor] | None:
            if self._slot is None:
                return None
            state = self._slot.read(batch, shape)
            self._slot.features = shape
            return state

        self._refuse_plain_checkpoint()
        return first_answer(ask)

    def _refuse_plain_checkpoint(self) -> None:
        """Raise if a backward pass runs the layer again and knows nothing of the state that its first run read."""
        if self._slot is None and not self._was_carried:
            return
        exporting = not torch.compiler.is_dynamo_compiling() and torch.compiler.is_exporting()  # 2.9's dynamo: True
        if self._slot is not None and exporting:
            raise RuntimeError(
                "carry: torch.export inside a carry block would leave its own tensors as the state. Export outside."
            )
        if torch.compiler.is_compiling():
            return
        if not in_backward():
            if self._slot is None:
                del self._was_carried
        elif not recomputing():
            raise RuntimeError(
                f"carry: {type(self).__name__} is run again in the backward pass, as torch.utils.checkpoint does, and "
                "its gradient would be wrong: the state has moved on. Use snnkit.nn.checkpoint."
            )

    def keep(self, state: Mapping[str, Tensor], initial: Mapping[str, Tensor | float]) -> None:
        """Hand the state on to the next call.

        Args:
            state: tensors with the batch on axis 0.
            initial: for each of them, what a sample starts from when it is reset; must broadcast to the state.
        """
        if self._slot is not None and not recomputing():
            self._slot.write(state, initial)

    def kept_in_place(self) -> None:
        """In place of ``keep``: what ``carried`` gave has itself been brought up to date, without a graph."""
        if self._slot is not None:
            self._slot.ran = self._slot.owner.under_way

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _OF_A_BLOCK}

    def _replicate_for_data_parallel(self) -> nn.Module:
        raise RuntimeError(
            f"{type(self).__name__} under DataParallel: it cuts axis 0, which is time here. "
            "Use torch.nn.parallel.DistributedDataParallel (torchrun), one process per GPU."
        )


_HOOK: Any = "snnkit.carry"


class _Forward:
    """Hooks that tell a carry block when a forward pass of its model begins and ends. A copy of them is inert."""

    def __init__(self, owner: carry | None = None) -> None:
        self.owner = owner

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class _Begin(_Forward):
    def __call__(self, *_: object) -> None:
        if self.owner is not None:
            self.owner.begin()


class _End(_Forward):
    def __call__(self, *_: object) -> None:
        if self.owner is not None:
            self.owner.under_way = False


class carry:  # noqa: N801  (used as a statement: with carry(model))
    """``with carry(model):`` layers keep their state from call to call, and forget it at the end of the block.

    Args:
        model: any module; all its layers with state take part.
        detach: cut the graph at each call, as truncated backpropagation through time does. By default gradients reach
            back through all calls of the block.

    Raises:
        RuntimeError: at entering, if a layer is already in a carry block; in the block, if a layer with state runs
            twice in one forward pass; in the backward, if plain ``torch.utils.checkpoint`` runs it again (take
            ``snnkit.nn.checkpoint``).
        ValueError: in the block, if the number of samples changes.

    Without ``detach`` the chunks share one graph: add up their losses and call ``backward()`` once. One backward for
    each chunk ends in torch's "Trying to backward through the graph a second time": it cannot be told here, since the
    graph is torch's. The remedy is ``detach=True``.

    Under ``torch.compile`` a model compiles twice: for the first call of a block, and for all later ones of any block.
    ``fullgraph`` works as long as no layer is in ``snnkit.nn.checkpoint``, where the graph breaks.

    Chunks of any length give what one call gives, in eval mode (dropout and norms in training see other batches). The
    silence that some networks append behind a sample (``tail``) is left out in the block, since a stream does not say
    where it ends: ``create_model(..., tail=0)`` answers outside as inside; or feed steps of zeros at the end.


    >>> from snnkit.nn.readout import SumOverTime
    >>> model, x = torch.nn.Sequential(SumOverTime()), torch.ones(5, 1, 2)
    >>> with carry(model) as state:
    ...     model(x[:2]).tolist(), model(x[2:]).tolist()
    ...     state.reset(torch.tensor([True]))
    ...     model(x[2:]).tolist()
    ([[2.0, 2.0]], [[5.0, 5.0]])
    [[3.0, 3.0]]

    Truncated backpropagation through time, two steps at a time:

    >>> from snnkit.nn import LIF
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), LIF())
    >>> with carry(model, detach=True):
    ...     for chunk in torch.ones(6, 1, 2).split(2):
    ...         model(chunk).mean().backward()  # then optimizer.step(), optimizer.zero_grad()
    """

    def __init__(self, model: nn.Module, detach: bool = False) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"carry expects a model, got {model!r}. Write: with carry(model).")
        self.model = model
        self.detach = detach
        # Flags, not counts: the compiler takes a number that differs at each call for another program.
        self.under_way = False  # a forward pass of the model
        self._layers: list[Stateful] = []

    def __enter__(self) -> carry:
        layers = [(name, layer) for name, layer in self.model.named_modules() if isinstance(layer, Stateful)]
        for name, layer in layers:
            if layer._slot is not None:
                raise RuntimeError(
                    f"carry: {name or type(layer).__name__} is already in a carry block. "
                    "Blocks over the same layers cannot be nested: use the outer one, or end it first."
                )
        for name, layer in layers:
            layer._slot = _Slot(self, name or type(layer).__name__)
        self._layers = [layer for _, layer in layers]
        if self._layers == [self.model]:  # alone it cannot run twice in a pass of itself, and hooks cost 5 us a call
            return self
        # By hand, under one name: torch would number the hooks, and a compiled model is bound to the number.
        before: Any = self.model._forward_pre_hooks
        before[_HOOK] = _Begin(self)
        before.move_to_end(_HOOK, last=False)
        self.model._forward_hooks[_HOOK] = _End(self)
        self.model._forward_hooks_always_called[_HOOK] = True
        return self

    def __exit__(self, *_: object) -> None:
        model = self.model
        for hooks in (model._forward_pre_hooks, model._forward_hooks, model._forward_hooks_always_called):
            hooks.pop(_HOOK, None)
        for layer in self._layers:
            if layer._slot is not None:
                layer._was_carried = layer._slot.state is not None
            del layer._slot
        self._layers, self.under_way = [], False

    def begin(self) -> None:
        """A forward pass of the model begins."""
        self.under_way = True
        for layer in self._layers:
            if layer._slot is not None:
                layer._slot.ran = False

    def reset(self, mask: Tensor) -> None:
        """Let single samples start anew.

        Args:
            mask: ``[B]`` bool, True where the next call starts from the initial state.
        """
        if not isinstance(mask, Tensor):
            raise TypeError(f"carry: reset expects a tensor [B] of bool, got {mask!r}. Write torch.tensor(...).")
        if mask.dtype != torch.bool or mask.ndim != 1:
            raise ValueError(f"carry: reset expects a mask [B] of bool, got {tuple(mask.shape)} of {mask.dtype}.")
        for layer in self._layers:
            if layer._slot is not None:
                layer._slot.restart(mask)
