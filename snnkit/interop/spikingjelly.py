"""SpikingJelly models on our kernels: ``accelerate(model)`` swaps their neurons in place, ``restore(model)`` undoes it.

A swapped neuron is the same object: its class becomes a subclass of SpikingJelly's that runs ``snnkit.ops.scan``, so
hooks, parameters, state-dict keys, ``isinstance`` and SpikingJelly's own functions (``reset_net``, ``set_step_mode``,
``detach_net``) see what they saw before. docs/explain/spikingjelly.md says what is equal.

| SpikingJelly | here | note |
|---|---|---|
| ``IFNode``, ``LIFNode`` | ``equations.IF``, ``equations.LIF`` | same order of operations |
| ``ParametricLIFNode`` | an equation of its own | sigmoid(w) in w's precision |
| surrogates of ``SURROGATES`` | ours, with the same derivative | in spiking mode, with plain numbers |
| any other neuron | stays as it is | named, with the reason |
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snnkit.interop._spikingjelly_plan import EQUATIONS, plan_or_reason, settings_of
from snnkit.ops.program import Plan
from snnkit.ops.scan import run


@dataclass(frozen=True)
class Report:
    """What ``accelerate`` did: names of the swapped neurons, and of those left alone with the reason."""

    swapped: tuple[str, ...]
    left: dict[str, str]

    def __str__(self) -> str:
        lines = [f"  {name or 'the model itself'}: {reason}" for name, reason in self.left.items()]
        return "\n".join([f"neurons swapped: {len(self.swapped)}, left: {len(self.left)}", *lines])


def accelerate(model: nn.Module) -> Report:
    """Let the IF, LIF and PLIF neurons of a SpikingJelly model run in snnkit, in place.

    In float32 and float64 outputs and membranes are equal to the bit on the CPU, gradients to 1e-5. Inputs in half
    precision keep the membrane in float32, where SpikingJelly rounds it to half after each step.

    Args:
        model: any module; neurons anywhere in it are found. Calling it twice changes nothing.

    Returns:
        The names of the neurons that were swapped, and of those that were left, with the reasons.

    Raises:
        ImportError: SpikingJelly 2.0 or later is not there.

    Warns:
        UserWarning: naming each neuron that stays with SpikingJelly.

    >>> from spikingjelly.activation_based import neuron
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), neuron.LIFNode(step_mode="m"))
    >>> print(accelerate(model))
    neurons swapped: 1, left: 0
    >>> isinstance(model[1], neuron.LIFNode)
    True
    """
    theirs = _their_module()
    swapped, left = [], {}
    for name, module in model.named_modules():
        if not isinstance(module, theirs.BaseNode) and not type(module).__module__.startswith(theirs.__name__):
            continue
        reason = _swap(module, theirs)
        if reason is None:
            swapped.append(name)
        else:
            left[name] = reason
    report = Report(tuple(swapped), left)
    if left:
        warnings.warn(f"snnkit.interop.spikingjelly: {report}", stacklevel=2)
    return report


def restore(model: nn.Module) -> None:
    """Undo ``accelerate``: the swapped neurons are SpikingJelly's own again, with their parameters and membranes."""
    for module in model.modules():
        if isinstance(module, Swapped):
            module.__dict__.pop("_planned", None)
            module.__class__ = type(module).original


def _their_module() -> Any:
    """SpikingJelly's neurons."""
    try:
        from spikingjelly.activation_based import neuron
    except ImportError as error:
        raise ImportError(f"accelerate needs SpikingJelly ({error}): pip install 'spikingjelly>=2'.") from error
    if not hasattr(neuron.LIFNode, "multi_step_functional_forward"):
        raise ImportError("accelerate needs SpikingJelly 2.0 or later, this one is older: pip install -U spikingjelly.")
    return neuron


def _swap(module: Any, theirs: Any) -> str | None:
    """Swap a neuron; the reason if it cannot be."""
    if isinstance(module, Swapped):
        found = plan_or_reason(module, type(module).original.__name__)
        return found if isinstance(found, str) else None
    kind = type(module)
    if not any(kind is getattr(theirs, name) for name in EQUATIONS):
        base = next((name for name in EQUATIONS if isinstance(module, getattr(theirs, name))), None)
        return f"{kind.__name__} is {f'a subclass of {base}, whose step may differ' if base else 'not known to snnkit'}"
    found = plan_or_reason(module, kind.__name__)
    if isinstance(found, str):
        return found
    module.__class__ = _class_of(kind.__name__)
    module._planned = settings_of(module), found
    return None


class Swapped(nn.Module):
    """What the swapped neurons share: SpikingJelly's protocol around one scan.

    A neuron that is changed into something we do not have (another surrogate, ``spiking=False``) runs SpikingJelly's
    own code from the next call on, and comes back when it is changed back.
    """

    original: ClassVar[type]
    _planned: tuple[tuple[Any, ...], Plan | str] | None = None
    _memories: dict[str, Any]
    store_v_seq: bool
    v_reset: float | None
    w: Tensor

    def _plan(self, x: Any) -> Plan | None:
        """The plan for an input, or None where SpikingJelly's own code must run."""
        if not x.is_floating_point() or not x.ndim:
            return None
        settings = settings_of(self)
        if self._planned is None or self._planned[0] != settings:
            self._planned = settings, plan_or_reason(self, self.original.__name__)
        plan = self._planned[1]
        return None if isinstance(plan, str) else plan

    def _scan(self, plan: Plan, x: Tensor, v: Any, record: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Spikes, last membrane and, if asked for, all membranes."""
        parameters = {"q": _real(self.w).sigmoid()} if plan.program.tensors else {}
        if isinstance(v, float):
            dtype = torch.promote_types(x.dtype, torch.float32)
            state = None if v == plan.initial[0] else {"v": x.new_full(x.shape[1:], v, dtype=dtype)}
        else:
            state = {"v": v}
        found = run(plan, parameters, x, state, ("v",) if record else (), None, final=True)
        return found.output, found.state["v"], found.traces.get("v")

    def multi_step_forward(self, x_seq: Any, *args: Any, **kwargs: Any) -> Any:
        """All steps at once, the membrane kept in ``v`` and with ``store_v_seq`` in ``v_seq``."""
        plan = None if args or kwargs or x_seq.ndim < 2 else self._plan(x_seq)
        if plan is None:
            return super().multi_step_forward(x_seq, *args, **kwargs)  # type: ignore[misc]
        v = self._memories["v"]
        if not isinstance(v, float) or v != plan.initial[0]:
            (v,) = self.materialize_states((x_seq,), (v,), "m")
        s, self._memories["v"], self.v_seq = self._scan(plan, x_seq, v, self.store_v_seq)
        return s

    def single_step_functional_forward(self, inputs: Any, states: Any, **kwargs: Any) -> Any:
        """One step with the membrane in and out."""
        (x, *_), (v, *_) = inputs, states
        plan = self._plan(x)
        if plan is None:
            return super().single_step_functional_forward(inputs, states, **kwargs)  # type: ignore[misc]
        s, v, _ = self._scan(plan, x[None], v, False)
        return (s[0],), (v,)

    def multi_step_functional_forward(self, inputs: Any, states: Any, **kwargs: Any) -> Any:
        """All steps with the membrane in and out."""
        (x, *_), (v, *_) = inputs, states
        plan = None if x.ndim < 2 else self._plan(x)
        if plan is None:
            return super().multi_step_functional_forward(inputs, states, **kwargs)  # type: ignore[misc]
        s, v, _ = self._scan(plan, x, v, False)
        return (s,), (v,)

    def materialize_states(self, inputs: Any, states: Any, step_mode: str) -> Any:
        """SpikingJelly's rule for the membrane at the start, in float32 for inputs in half precision."""
        x = inputs[0][0] if step_mode == "m" else inputs[0]
        v = states[0]
        if x.dtype not in (torch.float16, torch.bfloat16) or self._plan(inputs[0]) is None:
            return super().materialize_states(inputs, states, step_mode)  # type: ignore[misc]
        if isinstance(v, Tensor) and v.shape == x.shape:
            return (v.to(x.device, torch.float32),)
        start = v if isinstance(v, float) else self.v_reset or 0.0
        return (torch.full_like(x, start, dtype=torch.float32, requires_grad=False),)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_planned"}


def _real(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@functools.cache
def _class_of(kind: str) -> type:
    """The subclass for one of SpikingJelly's classes; made on first use, since it needs SpikingJelly."""
    original = getattr(_their_module(), kind)
    text = f"SpikingJelly's {kind}, run by snnkit."
    members = {"__doc__": text, "__module__": __name__, "original": original}
    return type(f"Swapped{kind}", (Swapped, original), members)


def __getattr__(name: str) -> Any:
    # Pickle looks the made classes up by name.
    if name.startswith("Swapped") and name.removeprefix("Swapped") in EQUATIONS:
        return _class_of(name.removeprefix("Swapped"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
