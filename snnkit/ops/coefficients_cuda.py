"""What a neuron computes once a call, in one CUDA kernel: its coefficients, and its parameters' gradients in another.

With torch's own operations that is a kernel for each of them, up to 80 a training step, which cost the host far more
than the scan. Here the parameters have one value each. The formulas are traced from the equation, as a step of their
own, and differentiated by the same rules.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snnkit.equations.symbols import OPERATIONS
from snnkit.equations.trace import PARAMETER, Ref, Symbol, Trace
from snnkit.ops.codegen import literal
from snnkit.ops.cuda import Function
from snnkit.ops.program import Program
from snnkit.ops.sources import source

_THREADS = 512  # of the block that sums
_REAL = {torch.float32: "float", torch.float64: "double"}


class Formulas:
    """The coefficients of a program as C text, and the numbers that it reads.

    Attributes:
        text: ``coefficients_of(p, n, c)`` and ``chain(p, n, g, g_p)``, in double.
        numbers: nodes of the program that stand as numbers beside the learnt parameters.
        reached: for each learnt parameter, whether a gradient reaches it.
    """

    def __init__(self, program: Program) -> None:
        nodes, trace = program.step.trace.nodes, Trace()
        learnt: dict[int, bool] = {}
        for index, node in enumerate(nodes):
            of = [learnt.get(a.index, False) for a in node.arguments if isinstance(a, Ref)]
            learnt[index] = node.arguments[0] in program.tensors if node.place == PARAMETER else any(of)
        todo, needed = list(program.tensor_coefficients), set()
        while todo:
            index = todo.pop()
            needed.add(index)
            if learnt[index]:
                todo += [a.index for a in nodes[index].arguments if isinstance(a, Ref) and a.index not in needed]
        self.numbers = tuple(i for i in sorted(needed) if not learnt[i])
        parameters = [trace.input(name) for name in program.tensors]
        known: dict[int, Any] = {i: trace.input(f"number {i}") for i in self.numbers}
        known |= {i: p for p, n in zip(parameters, program.tensors, strict=True) for i in [program.step.parameters[n]]}
        texts = {p.index: f"p[{k}]" for k, p in enumerate(parameters)}
        texts |= {known[i].index: f"n[{k}]" for k, i in enumerate(self.numbers)}
        for index in sorted(needed - known.keys()):
            arguments = [known[a.index] if isinstance(a, Ref) else a for a in nodes[index].arguments]
            known[index] = trace.add(nodes[index].operation, arguments)
        values = [known[i] for i in program.tensor_coefficients]
        seeds: dict[int, Symbol] = {}
        for k, (index, value) in enumerate(zip(program.tensor_coefficients, values, strict=True)):
            if index not in program.g_coefficients:
                continue
            g = trace.input(f"gradient {k}")
            texts[g.index] = f"g[{k}]"
            seeds[value.index] = seeds[value.index] + g if value.index in seeds else g
        found = trace.reverse(seeds, [p.index for p in parameters])
        gradients = [found[p.index] for p in parameters]
        self.reached = tuple(isinstance(g, Symbol) for g in gradients)
        head = "SNN_INLINE void {}(const double *p, const double *n, {}) {{\n"
        self.text = "\n".join(
            [
                head.format("coefficients_of", "double *c") + _assigned(trace, "c", values, texts),
                head.format("chain", "const double *g, double *g_p") + _assigned(trace, "g_p", gradients, texts),
            ]
        )


def _assigned(trace: Trace, to: str, values: Sequence[Any], inputs: Mapping[int, str]) -> str:
    """Statements that compute the values into an array."""
    texts, lines = dict(inputs), []

    def text_of(value: Any) -> str:
        return texts[value.index] if isinstance(value, (Ref, Symbol)) else literal(value)

    for index in trace.needed(v.index for v in values if isinstance(v, Symbol)):
        if index not in texts:
            node = trace.nodes[index]
            right = OPERATIONS[node.operation].text.format(*map(text_of, node.arguments))
            lines.append(f"  const {'bool' if node.is_condition else 'real'} t{index} = {right};")
            texts[index] = f"t{index}"
    return "\n".join([*lines, *(f"  {to}[{k}] = {text_of(v)};" for k, v in enumerate(values)), "}"])


@functools.lru_cache(maxsize=1024)
def formulas(program: Program) -> Formulas:
    """The formulas of a program, traced once."""
    return Formulas(program)


def text(program: Program, dtypes: Sequence[torch.dtype], lane: torch.dtype) -> str:
    """The CUDA text of the two kernels, as it is compiled, for parameters of these dtypes and a scan of ``lane``."""
    made = formulas(program)

    def bits(flags: Iterable[bool]) -> int:
        return sum(flag << k for k, flag in enumerate(flags))

    return "\n".join(
        [
            source("math.h"),
            f"typedef double real;\ntypedef {_REAL[lane]} lane;",
            f"constexpr int kParameters = {len(program.tensors)}, kCoefficients = {len(program.tensor_coefficients)};",
            f"constexpr int kNumbers = {max(len(made.numbers), 1)}, kThreads = {_THREADS};",
            f"constexpr unsigned kDouble = {bits(d == torch.float64 for d in dtypes)};",
            f"constexpr unsigned kPositive = {bits(n in program.positive for n in program.tensors)};",
            source("block_sum.cuh"),
            made.text,
            source("coefficients.cu"),
        ]
    )


@functools.lru_cache(maxsize=1024)
def _numbers(program: Program, fixed: tuple[tuple[str, float], ...]) -> tuple[float, ...]:
    known: dict[int, Any] = {program.step.parameters[n]: v for n, v in fixed if n in program.step.parameters}
    return tuple(float(program.evaluate(i, known)) for i in formulas(program).numbers)


class Coefficients:
    """The kernels of a program on one device, for parameters of given dtypes."""

    def __init__(self, program: Program, dtypes: tuple[torch.dtype, ...], lane: torch.dtype, device: int) -> None:
        code = text(program, dtypes, lane)
        self.forward, self.backward = (Function(code, n, device) for n in ("coefficients", "coefficient_gradients"))
        self.count, self.lane, self.reached = len(program.tensor_coefficients), lane, formulas(program).reached
        numbers = max(len(formulas(program).numbers), 1)
        self.pack = struct.Struct(f"{2 * len(dtypes) + self.count + 2}q{numbers}d").pack
        self.none = (0,) * (len(dtypes) + self.count + 1)

    def values(self, parameters: Sequence[Tensor], numbers: tuple[float, ...]) -> Tensor:
        """All coefficients, side by side."""
        found = parameters[0].new_empty(self.count, dtype=self.lane)
        places = [p.data_ptr() for p in parameters]
        self.forward(1, 32, 0, self.pack(*places, found.data_ptr(), *self.none, *(numbers or (0.0,))))
        return found

    def gradients(
        self, parameters: Sequence[Tensor], wanted: Sequence[bool], sums: Sequence[Tensor | None],
        numbers: tuple[float, ...],
    ) -> list[Tensor | None]:  # fmt: skip
        """Gradients of the parameters that want one and are reached, from the parts of each coefficient's."""
        asked = zip(parameters, wanted, self.reached, strict=True)
        found = [torch.empty_like(p) if w and reached else None for p, w, reached in asked]
        parts = next((s.numel() for s in sums if s is not None), 0)
        self.backward(
            1, _THREADS, 0,
            self.pack(
                *(p.data_ptr() for p in parameters), 0, *(0 if s is None else s.data_ptr() for s in sums), parts,
                *(0 if g is None else g.data_ptr() for g in found), *(numbers or (0.0,)),
            ),
        )  # fmt: skip
        return found


@functools.lru_cache(maxsize=1024)
def kernels(program: Program, dtypes: tuple[torch.dtype, ...], lane: torch.dtype, device: int) -> Coefficients:
    """The compiled kernels, from memory after the first time."""
    return Coefficients(program, dtypes, lane, device)


def numbers(program: Program, fixed: Mapping[str, float]) -> tuple[float, ...]:
    """The numbers that the kernels read, of a neuron whose other parameters are ``fixed``."""
    return _numbers(program, tuple(fixed.items())) if formulas(program).numbers else ()
