"""From the traced lists to text: one printer for the CPU and the GPU.

The generated part defines the types ``State``, ``Coefficients``, ``Gradients`` and the functions ``forward`` and
``backward`` of one step; the templates in ``cuda/`` bring lanes, memory and time. The text depends on structure only:
numbers are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from snnkit.equations.symbols import OPERATIONS
from snnkit.equations.trace import LANE, Ref
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
            _struct("State", states),
            _struct("Coefficients", names),
            _struct("Gradients", tensors),
            f"constexpr long kNumbers = {len(numbers)};",
            _table("STATES", enumerate(states)),
            _table("NUMBERS", enumerate(numbers)),
            _table("SCALARS", scalars),
            _table("LANES", lanes),
            _table("TRACES", ((k, f"{program.states.index(n)}, {c_name(n)}") for k, n in enumerate(record))),
            "",
            _forward(program),
            _backward(program, tensors),
            "",
        ]
    )


def _struct(name: str, fields: Sequence[str]) -> str:
    return f"struct {name} {{ {'real ' + ', '.join(fields) + '; ' if fields else ''}}};"


def _table(name: str, rows: Iterable[tuple[int, str]]) -> str:
    return f"#define {name}(X) " + " ".join(f"X({k}, {n})" for k, n in rows)


def _forward(program: Program) -> str:
    step, name = program.step, program.name_of
    known = {step.x: "x"} | {i: f"before.{c_name(n)}" for n, i in step.before.items()}
    lines, texts = _statements(program, program.forward_outputs, known)
    lines += [f"after.{c_name(n)} = {texts[i]};" for n, i in step.after.items()]
    lines += [f"return {texts[step.output]};"]
    head = "SNN_INLINE real forward(const real x, const State &before, const Coefficients &c, State &after) {"
    return _function(head, lines, name(step.output))


def _backward(program: Program, tensors: Sequence[str]) -> str:
    step = program.step
    known = {step.x: "x", program.g_output: "g_s"} | {i: f"before.{c_name(n)}" for n, i in step.before.items()}
    known |= {i: f"g_after.{c_name(n)}" for n, i in program.g_after.items()}
    lines, texts = _statements(program, program.backward_outputs, known)
    lines += [f"g_before.{c_name(n)} = {texts[i]};" for n, i in program.g_before.items()]
    gradients = {program.name_of(i): texts[g] for i, g in program.g_coefficients.items()}
    lines += [f"g_c.{n} = {gradients.get(n, '0')};" for n in tensors]
    lines += [f"return {texts[program.g_x]};"]
    head = (
        "SNN_INLINE real backward(const real x, const State &before, const Coefficients &c, const real g_s,\n"
        "                         const State &g_after, State &g_before, Gradients &g_c) {"
    )
    return _function(head, lines, "g_x")


def _function(head: str, lines: Sequence[str], returned: str) -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"{head}  // returns {returned}\n{body}\n}}"


def _statements(program: Program, outputs: Iterable[int], known: dict[int, str]) -> tuple[list[str], dict[int, str]]:
    """Statements that compute the outputs, and the text by which each node is read."""
    trace, lines, texts = program.step.trace, [], dict(known)
    for index in trace.needed(outputs):
        node = trace.nodes[index]
        if index in texts:
            continue
        if node.place != LANE:
            texts[index] = f"c.{program.name_of(index)}"
            continue
        arguments = [texts.get(a.index, "") if isinstance(a, Ref) else literal(a) for a in node.arguments]
        texts[index] = program.name_of(index)
        kind = "bool" if node.is_condition else "real"
        lines.append(f"const {kind} {texts[index]} = {OPERATIONS[node.operation].text.format(*arguments)};")
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
