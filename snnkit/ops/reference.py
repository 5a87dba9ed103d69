"""The plain reference: a loop over ``step`` in torch, with autograd through time.

Slow, and right: every kernel is tested against it, and it runs where there is no compiler. Coefficients are kept in
float64 and rounded once when they meet x or a state, as in the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snnkit.equations.equation import Equation
from snnkit.equations.symbols import OPERATIONS, Value

# Numbers become 0-d tensors, never Python scalars: torch divides a CUDA tensor by a scalar through its reciprocal.
TORCH: dict[str, Callable[..., Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "neg": torch.neg, "exp": torch.exp,
    "log": torch.log, "sqrt": torch.sqrt, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "atan": torch.atan,
    "erf": torch.erf, "abs": torch.abs, "sign": torch.sign, "floor": torch.floor, "round": torch.round,
    "minimum": torch.minimum, "maximum": torch.maximum, "ge": torch.ge, "gt": torch.gt, "le": torch.le,
    "lt": torch.lt, "where": torch.where, "detach": torch.detach,
}  # fmt: skip
"""The operations of a step on tensors."""


class TensorValue(Value):
    """A tensor inside ``step``. ``dtype`` is that of the lanes, or None for what depends on parameters alone."""

    __slots__ = ("tensor", "dtype")

    def __init__(self, tensor: Tensor, dtype: torch.dtype | None) -> None:
        self.tensor, self.dtype = tensor, dtype

    def apply(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Compute the operation, in float64 while no lane is involved, else in the lanes' dtype."""
        values = [a for a in arguments if isinstance(a, TensorValue)]
        dtype = next((v.dtype for v in values if v.dtype is not None), None)
        tensors = [_as_tensor(a, dtype or torch.float64, values[0].tensor.device) for a in arguments]
        if name == "straight_through":
            return TensorValue(StraightThrough.apply(*torch.broadcast_tensors(*tensors)), dtype)
        return TensorValue(TORCH[name](*tensors), dtype)


class NumberValue(Value):
    """A parameter that is a number: folded in Python's float64, as for a compiled loop; torch's exp is not Python's."""

    __slots__ = ("number",)

    def __init__(self, number: Any) -> None:
        self.number = number

    def apply(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Compute the operation, or leave it to a tensor among the arguments."""
        plain = tuple(a.number if isinstance(a, NumberValue) else a for a in arguments)
        for argument in plain:
            if isinstance(argument, TensorValue):
                return argument.apply(name, plain)
        return NumberValue(OPERATIONS[name].python(*plain))


def learnt_value(tensor: Tensor, positive: bool) -> TensorValue:
    """A parameter that is a tensor, in float64. One that must be > 0 is NaN where it is not, so that spikes are, too.

    Nobody looks at values here: that would wait for the device. Valid values and their gradients pass as they are.
    """
    tensor = tensor.double()
    return TensorValue(torch.threshold(tensor, 0.0, math.nan) if positive else tensor, None)


def _as_tensor(argument: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A TensorValue or a number in the given dtype; conditions stay conditions."""
    if isinstance(argument, NumberValue):
        argument = argument.number
    if isinstance(argument, bool):
        return torch.full((), argument, dtype=torch.bool, device=device)
    if not isinstance(argument, TensorValue):
        return torch.full((), argument, dtype=dtype, device=device)
    return argument.tensor if argument.tensor.dtype == torch.bool else argument.tensor.to(dtype)


class StraightThrough(torch.autograd.Function):
    """``value`` forwards; backwards the gradient goes to ``along``, times ``slope``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, along: Tensor, slope: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor, None]:
        return None, g * ctx.saved_tensors[0], None


def on_tensors(neuron: Equation) -> Equation:
    """The neuron with its parameters as values that a ``step`` on tensors computes with."""
    positive = neuron.positive_names()
    return neuron.bind({n: learnt_value(v, n in positive) if isinstance(v, Tensor) else NumberValue(v)
                        for n, v in neuron.parameters().items()})  # fmt: skip


def reference(
    neuron: Equation, x: Tensor, state: dict[str, Tensor], record: Sequence[str] = (), steps: int | None = None
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Run ``neuron`` over x step by step.

    Args:
        neuron: the equation; its parameters may be tensors that broadcast to ``x.shape[2:]``.
        x: ``[T, B, ...]``, or ``[1, B, ...]`` read ``steps`` times.
        state: ``[B, ...]`` for each state, in float64 for float64 input, else in float32.
        record: states to write down after each step.
        steps: number of steps if x is a single row.

    Returns:
        Output ``[T, B, ...]`` in the dtype of x, the last state, and the traces ``[T, B, ...]``.
    """
    compute = torch.float64 if x.dtype == torch.float64 else torch.float32
    bound = on_tensors(neuron)
    total = x.shape[0] if steps is None else steps
    outputs: list[Tensor] = []
    traces: dict[str, list[Tensor]] = {name: [] for name in record}
    for t in range(total):
        row = TensorValue(x[0 if steps is not None else t].to(compute), compute)
        output, after = bound.step(row, **{n: TensorValue(v, compute) for n, v in state.items()})
        state = {n: _tensor(v, row.tensor) for n, v in after.items()}
        outputs.append(_tensor(output, row.tensor).to(x.dtype))
        for name in record:
            traces[name].append(state[name])
    shape = (0, *x.shape[1:])
    stacked = torch.stack(outputs) if outputs else x.new_empty(shape)
    return stacked, state, {n: torch.stack(v) if v else x.new_empty(shape, dtype=compute) for n, v in traces.items()}


def _tensor(value: Any, like: Tensor) -> Tensor:
    """A result of ``step`` as a tensor of the row's shape, also if it was a mere number."""
    if isinstance(value, TensorValue):
        value = value.tensor.to(like.dtype)
        return value if value.shape == like.shape else value.expand(like.shape)
    value = value.number if isinstance(value, NumberValue) else value
    return torch.full_like(like, float(value))
