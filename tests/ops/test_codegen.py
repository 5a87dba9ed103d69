"""The printed text: kept for a few neurons, so that a change shows its diff to the reader, and independent of numbers.

After a wanted change: ``python -m tests.ops.test_codegen`` prints the kept texts anew.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkit.equations import ALIF, EIF, LIF, ATan, Equation, Hard, MultiGaussian, Sigmoid, Soft, Triangle
from snnkit.ops.codegen import literal, prelude
from snnkit.ops.program import plan_of
from tests.equations_under_test import EQUATIONS, RESETS, SURROGATES, neuron_of, with_tensors

FOLDER = Path(__file__).parent / "text"

# The neuron, the parameters that are tensors, a letter for each coefficient that depends on them, the recorded states.
KEPT: dict[str, tuple[Equation, tuple[str, ...], str, tuple[str, ...]]] = {
    "LIF-ATan-hard": (LIF(surrogate=ATan(), reset=Hard()), (), "", ()),
    "LIF-Triangle-soft-tau-per-lane": (LIF(surrogate=Triangle(), reset=Soft()), ("tau",), "l", ("v",)),
    "ALIF-MultiGaussian-hard-detached": (ALIF(surrogate=MultiGaussian(), reset=Hard(detach=True)), (), "", ("a", "v")),
    "EIF-Sigmoid-hard-all-learnt": (EIF(surrogate=Sigmoid(), reset=Hard()), ("tau", "delta_T"), "s", ()),
}


def text_of(name: str) -> str:
    neuron, tensors, letters, record = KEPT[name]
    program = plan_of(neuron, tensors).program
    count = len(program.tensor_coefficients)
    return prelude(program, "float", (letters * count)[:count], record)


@pytest.mark.parametrize("name", KEPT)
def test_the_printed_text_is_the_kept_one(name):
    kept, now = (FOLDER / f"{name}.txt").read_text(encoding="utf-8"), text_of(name)
    diff = "\n".join(difflib.unified_diff(kept.splitlines(), now.splitlines(), "kept", "printed now", lineterm="", n=1))
    assert not diff, f"{diff}\n\nIf this is wanted: python -m tests.ops.test_codegen"


def test_nothing_else_is_kept():
    assert {path.stem for path in FOLDER.iterdir()} == set(KEPT)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_text_does_not_depend_on_numbers(equation):
    for surrogate in ("ATan", "MultiGaussian"):
        neuron = neuron_of(equation, surrogate)
        # A hard reset to exactly 0 is a shorter formula; ILIF's D is whole.
        others = {n: 1.0001 * v + 1e-6 * (n != "reset.v_reset") for n, v in neuron.parameters().items()}
        other = neuron.bind(others | {n: v + 1.0 for n, v in neuron.parameters().items() if n == "D"})
        first, second = plan_of(neuron), plan_of(other)
        assert first.program is second.program and first.constants != second.constants


def test_few_forward_texts_serve_all_combinations():
    forwards, combinations = set(), 0
    for equation in ("LIF", "ALIF", "EIF"):
        for surrogate in SURROGATES:
            for reset in ("Hard", "Hard.detach=True", "Soft", "Soft.detach=True", "NoReset"):
                combinations += 1
                program = plan_of(neuron_of(equation, surrogate, reset)).program
                trace = program.step.trace
                nodes = {i: trace.nodes[i] for i in trace.needed(program.forward_outputs)}
                forwards.add((equation, len(nodes), str([n.operation for n in nodes.values()])))
    # Surrogates change no forward, and a detached reset adds one assignment.
    assert len(forwards) <= combinations / len(SURROGATES)


def statements(text: str) -> list[str]:
    return re.findall(r"^  const \w+ (\w+) = ", text, re.MULTILINE)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_each_statement_is_used_and_written_once(equation):
    for reset in RESETS:
        neuron = with_tensors(neuron_of(equation, "Sigmoid", reset), (3,), torch.float32)
        program = plan_of(neuron).program
        text = prelude(program, "float", "l" * len(program.tensor_coefficients), ())
        for function in text.split("SNN_INLINE")[1:]:
            names = statements(function)
            assert len(names) == len(set(names))
            unused = [name for name in names if len(re.findall(rf"\b{name}\b", function)) < 2]
            assert not unused, f"{equation}-{reset}: {unused}\n{function}"


@given(st.floats())
def test_a_literal_holds_its_number_to_the_last_bit(number):
    text = literal(number)
    if number != number:
        assert text == "(real)NAN"
        return
    sign = -1.0 if "-" in text.split("p")[0] else 1.0
    body = text.replace("(real)", "").strip("()").lstrip("-")
    value = float("inf") if body == "INFINITY" else float.fromhex(body) if body.startswith("0x") else float(body)
    assert (sign * value).hex() == number.hex()


KEYS = """
from tests.equations_under_test import EQUATIONS, neuron_of
from snnkit.ops.program import plan_of
print([plan_of(neuron_of(e)).program.key for e in EQUATIONS])
"""


def test_keys_are_the_same_in_every_process():
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    answer = subprocess.run([sys.executable, "-c", KEYS], env=environment, capture_output=True, text=True, check=True)
    keys = [plan_of(neuron_of(e)).program.key for e in EQUATIONS]
    assert answer.stdout.strip() == str(keys) and len(set(keys)) == len(EQUATIONS)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    for name in KEPT:
        (FOLDER / f"{name}.txt").write_text(text_of(name), encoding="utf-8")
    print(f"{len(KEPT)} texts in {FOLDER}")
