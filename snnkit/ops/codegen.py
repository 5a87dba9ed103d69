"""From the traced lists to text: one printer for the CPU and the GPU.

The generated part defines the types ``State``, ``Coefficients``, ``Gradients`` and the functions ``forward`` and
``backward`` of one step; the templates in ``cuda/`` bring lanes, memory and time. The text depends on structure only:
numbers are arguments.

What the states and the output depend on is computed to the last bit, in ``backward`` too, or the two would part. What
serves gradients alone may take the ``snn_fast_`` forms and ``snn_fma``, which a device can make cheaper. ``backward``
adds the coefficients' gradients to ``g_c``: a product joins a sum in one operation.

A division by a coefficient is ``SNN_OVER``: a device can take its inverse once. Where gradients alone read such a
quotient it is ``SNN_NEAR``: a device can take a product, rather than keep the quotient of each step for the reverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from snnkit.equations.symbols import OPERATIONS
from snnkit.equations.trace import LANE, Ref
from snnkit.ops.fused import fused
from snnkit.ops.program import Program, c_name


def prelude(program: Program, real: str, layout: str, record: Sequence[str]) -> str:
    """The generated text for one kernel.

    Args:
        program: the traced neuron.
        real: type of a lane, ``float`` or ``double``.
        layout: a letter for each tensor coefficient: ``s`` for one value, ``l`` for a value a lane.
        record: states to write down at each step.
    """
    names = [program.name_of(i) for i in program.coefficients]
    numbers = [program.name_of(i) for i in program.number_coefficients]
    tensors = [program.name_of(i) for i in program.tensor_coefficients]
    scalars = [(k, n) for k, n in enumerate(tensors) if layout[k] == "s"]
    lanes = [(k, n) for k, n in enumerate(tensors) if layout[k] == "l"]
    states = [c_name(n) for n in program.states]
    return "\n".join(
        [
            f"// {program.title}, generated from its equation: " + (", ".join(states)),
            f"typedef {real} real;",
            _table("DIVISORS", ((program.name_of(i),) for i in divisors(program))),
            _struct("State", states),
            _struct("Coefficients", names, "DIVISORS(SNN_INVERSE) SNN_WATCH"),
            _struct("Gradients", tensors),
            f"constexpr long kNumbers = {len(numbers)};",
            _table("STATES", enumerate(states)),
            _table("NUMBERS", enumerate(numbers)),
            _table("SCALARS", scalars),
            _table("LANES", lanes),
            _table("TRACES", ((k, f"{program.states.index(n)}, {c_name(n)}") for k, n in enumerate(record))),
            "",
            _forward(program),
            _backward(program),
            "",
        ]
    )


def _struct(name: str, fields: Sequence[str], more: str = "") -> str:
    parts = [f"real {', '.join(fields)};"] * bool(fields) + [more] * bool(more)
    return f"struct {name} {{ {' '.join([*parts, ''])}}};"


def _table(name: str, rows: Iterable[tuple[Any, ...]]) -> str:
    return f"#define {name}(X) " + " ".join(f"X({', '.join(map(str, row))})" for row in rows)


_FAST = {"div": "snn_fast_div({0}, {1})", "exp": "snn_fast_exp({0})", "sigmoid": "snn_fast_sigmoid({0})"}


def divisors(program: Program) -> list[int]:
    """The coefficients that the forward list divides by."""
    nodes = program.step.trace.nodes
    return list(
        dict.fromkeys(
            node.arguments[1].index
            for node in (nodes[i] for i in program.step.trace.needed(program.forward_outputs))
            if node.place == LANE and node.operation == "div" and _is_coefficient(program, node.arguments[1])
        )
    )


def _is_coefficient(program: Program, argument: Any) -> bool:
    return isinstance(argument, Ref) and program.step.trace.nodes[argument.index].place != LANE


def _forward(program: Program) -> str:
    step, name = program.step, program.name_of
    known = {step.x: "x"} | {i: f"before.{c_name(n)}" for n, i in step.before.items()}
    lines, texts = _statements(program, program.forward_outputs, known)
    lines += [f"after.{c_name(n)} = {texts[i]};" for n, i in step.after.items()]
    lines += [f"return {texts[step.output]};"]
    head = "SNN_INLINE real forward(const real x, const State &before, const Coefficients &c, State &after) {"
    return _function(head, lines, name(step.output))


def _backward(program: Program) -> str:
    step = program.step
    known = {step.x: "x", program.g_output: "g_s"} | {i: f"before.{c_name(n)}" for n, i in step.before.items()}
    known |= {i: f"g_after.{c_name(n)}" for n, i in program.g_after.items()}
    sums = {program.name_of(i): g for i, g in program.g_coefficients.items()}
    lines, texts = _statements(program, program.backward_outputs, known, sums)
    lines += [f"g_before.{c_name(n)} = {texts[i]};" for n, i in program.g_before.items()]
    lines += [f"return {texts[program.g_x]};"]
    head = (
        "SNN_INLINE real backward(const real x, const State &before, const Coefficients &c, const real g_s,\n"
        "                         const State &g_after, State &g_before, Gradients &g_c) {"
    )
    return _function(head, lines, "g_x")


def _function(head: str, lines: Sequence[str], returned: str) -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"{head}  // returns {returned}\n{body}\n}}"


def _statements(
    program: Program, outputs: Iterable[int], known: dict[int, str], added: Mapping[str, int] | None = None
) -> tuple[list[str], dict[int, str]]:
    """Statements that compute the outputs and add some of them to sums; the text by which each node is read."""
    added = added or {}
    trace, lines, texts = program.step.trace, [], dict(known)
    exact = set(trace.needed(program.forward_outputs))
    sums = fused(trace, outputs, exact, added.values())
    inside = {i for sum_ in sums.values() for i in sum_.inside}

    def text_of(argument: Any, near: bool = False) -> str:
        if not isinstance(argument, Ref):
            return literal(argument)
        text = texts.get(argument.index, "")
        if near and argument.index in quotients:
            return f"SNN_NEAR({text}, {quotients[argument.index]})"
        return text

    quotients: dict[int, str] = {}

    for index in trace.needed(outputs):
        node = trace.nodes[index]
        if index in texts or index in inside:
            continue
        if node.place != LANE:
            texts[index] = f"c.{program.name_of(index)}"
            continue
        near = index not in exact and not node.is_condition
        arguments = [text_of(a, near) for a in node.arguments]
        kind, text = "bool" if node.is_condition else "real", OPERATIONS[node.operation].text
        if index in sums:
            a, b, c, minus, minus_c, _ = sums[index]
            arguments = [text_of(a, near), text_of(b, near), text_of(c, near)]
            text = f"snn_fma({'-' * minus}{{0}}, {{1}}, {'-' * minus_c}{{2}})"
        elif index not in exact:
            text = _FAST.get(node.operation, text)
        elif node.operation == "div" and _is_coefficient(program, node.arguments[1]):
            arguments[1], text = arguments[1].removeprefix("c."), "SNN_OVER({0}, {1})"
            quotients[index] = ", ".join(arguments)
        texts[index] = program.name_of(index)
        lines.append(f"const {kind} {texts[index]} = {text.format(*arguments)};")
    for name, index in added.items():
        if index in texts:
            lines.append(f"g_c.{name} += {texts[index]};")
        else:
            a, b, _, minus, _, _ = sums[index]
            product = f"{'-' * minus}{text_of(a, near=True)}, {text_of(b, near=True)}"
            lines.append(f"g_c.{name} = snn_fma({product}, g_c.{name});")
    return lines, texts


def literal(value: Any) -> str:
    """A number in C, to the last bit: hexadecimal, with the decimal beside it where that helps a reader."""
    number = float(value)
    if number != number:
        return "(real)NAN"
    if number in (float("inf"), float("-inf")):
        return "(real)INFINITY" if number > 0 else "(-(real)INFINITY)"
    text = repr(number) if number == int(number) and abs(number) < 1e6 else number.hex()
    return f"(real){text}" if number >= 0 and not text.startswith("-") else f"((real){text})"
