"""A traced neuron played back on numpy arrays, forwards and backwards: what a kernel does, without a compiler.

Third implementation of every operation, beside torch's (the reference) and C's (the kernels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from snnkit.equations.symbols import Value
from snnkit.ops.program import Program

NUMPY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "exp": np.exp,
    "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "sigmoid": lambda a: 1.0 / (1.0 + np.exp(-a)),
    "atan": np.arctan, "erf": np.vectorize(math.erf, otypes=[float]), "abs": np.abs, "sign": np.sign,
    "floor": np.floor, "round": np.rint, "minimum": np.minimum, "maximum": np.maximum, "ge": np.greater_equal,
    "gt": np.greater, "le": np.less_equal, "lt": np.less, "where": np.where, "detach": np.asarray,
    "straight_through": lambda value, along, slope: value,
}  # fmt: skip


class Array(Value):
    """A float64 array inside ``step``."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array

    def apply(self, name: str, arguments: tuple[Any, ...]) -> Array:
        return Array(NUMPY[name](*(a.array if isinstance(a, Array) else a for a in arguments)))


def play_back(
    program: Program, numbers: Sequence[float], coefficients: Sequence[Any], x: np.ndarray,
    state: dict[str, np.ndarray], g_output: np.ndarray, g_traces: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], list[np.ndarray]]:  # fmt: skip
    """Run both lists over time.

    Args:
        numbers, coefficients: what the program takes from outside its loop.
        x, state: the input ``[T, ...]`` and the states before it.
        g_output, g_traces: gradients that arrive at the output and at each state after each step.

    Returns:
        The output, and the gradients of x, of the first states and of the coefficients (summed over time and rows).
    """
    step = program.step
    outside: dict[int, Any] = dict(zip(program.number_coefficients, numbers, strict=False))
    outside |= {i: Array(c) for i, c in zip(program.tensor_coefficients, coefficients, strict=True)}
    befores, output = [], np.empty_like(x)
    for t in range(len(x)):
        befores.append(state)
        known = outside | {step.x: Array(x[t])} | {step.before[n]: Array(v) for n, v in state.items()}
        output[t] = _array(program.evaluate(step.output, known))
        state = {n: _array(program.evaluate(i, known)) + 0.0 * x[t] for n, i in step.after.items()}
    g_x, g_state = np.empty_like(x), {n: np.zeros_like(x[0]) for n in program.states}
    g_coefficients = [np.zeros_like(x[0]) for _ in coefficients]
    for t in reversed(range(len(x))):
        known = outside | {step.x: Array(x[t]), program.g_output: Array(g_output[t])}
        known |= {step.before[n]: Array(v) for n, v in befores[t].items()}
        known |= {program.g_after[n]: Array(g_state[n] + g_traces.get(n, {t: 0.0})[t]) for n in program.states}
        g_x[t] = _array(program.evaluate(program.g_x, known))
        g_state = {n: _array(program.evaluate(i, known)) + 0.0 * x[t] for n, i in program.g_before.items()}
        for k, index in enumerate(program.tensor_coefficients):
            if index in program.g_coefficients:
                g_coefficients[k] += _array(program.evaluate(program.g_coefficients[index], known))
    return output, g_x, g_state, g_coefficients


def _array(value: Any) -> Any:
    return value.array if isinstance(value, Array) else value
