"""The flat list: equal operations once, well formed or refused, and differentiated as autograd would."""

from __future__ import annotations

import pytest
import torch

from snnkit.equations import LIF
from snnkit.equations.symbols import OPERATIONS, apply, exp, sigmoid, where
from snnkit.equations.trace import COEFFICIENT, LANE, PARAMETER, Node, Ref, Symbol, Trace
from snnkit.ops.reference import TORCH, TensorValue
from tests.closeness import error

DIFFERENTIABLE = sorted(set(TORCH) - {"where"})
# Inputs inside each function's domain; the second lot of each pair holds ties, zeros and borders.
POSITIVE = {"log", "sqrt"}


def trace_of(build, count):
    """Return a trace, its inputs and the result of ``build(*inputs)``."""
    trace = Trace()
    inputs = [trace.input(f"in{k}") for k in range(count)]
    return trace, inputs, build(*inputs)


def play(trace, inputs, values, wanted):
    """Compute nodes of a trace on tensors."""
    known = {s.index: TensorValue(v, v.dtype) for s, v in zip(inputs, values, strict=True)}
    for index, node in enumerate(trace.nodes):
        if index not in known:
            known[index] = apply(node.operation, *(known[a.index] if isinstance(a, Ref) else a for a in node.arguments))
    return [known[w.index].tensor if isinstance(w, Symbol) else torch.full_like(values[0], w) for w in wanted]


def check_gradients(build, *values):
    """Compare reverse mode on the list with torch's autograd, for a random incoming gradient."""
    trace, inputs, result = trace_of(build, len(values))
    g = trace.input("g")
    found = trace.reverse({result.index: g}, [s.index for s in inputs])
    trace.verify()
    incoming = torch.linspace(-1.0, 2.0, values[0].numel(), dtype=torch.float64)
    got = play(trace, [*inputs, g], [*values, incoming], [found[s.index] for s in inputs])

    leaves = [v.clone().requires_grad_() for v in values]
    out = build(*(TensorValue(v, torch.float64) for v in leaves)).tensor
    if out.requires_grad:
        expected = torch.autograd.grad(out, leaves, incoming, allow_unused=True, materialize_grads=True)
    else:  # detached
        expected = [torch.zeros_like(v) for v in leaves]
    for a, b in zip(got, expected, strict=True):
        assert error(a.expand_as(b), b) < 1e-14


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if not OPERATIONS[n].is_condition])
def test_reverse_mode_is_autograd_for_every_operation(name):
    base = torch.tensor([-2.5, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0], dtype=torch.float64)
    other = torch.tensor([-1.0, -1.0, 0.5, 2.0, 0.25, -3.0, 2.0], dtype=torch.float64)  # ties with base
    values = [base.abs() + 0.1 if name in POSITIVE else base, other][: OPERATIONS[name].arity]
    check_gradients(lambda *a: apply(name, *a), *values)


def test_reverse_mode_is_autograd_for_where():
    a = torch.tensor([-1.0, 0.0, 2.0, 3.0], dtype=torch.float64)
    check_gradients(lambda x, y: where(x >= y, x * y, y / (x - 5.0)), a, a.flip(0))


def test_a_straight_through_gradient_goes_along_with_its_slope():
    trace, (value, along, slope), result = trace_of(lambda *a: apply("straight_through", *a), 3)
    g = trace.input("g")
    found = trace.reverse({result.index: g}, [value.index, along.index, slope.index])
    assert found[value.index] == 0.0 and found[slope.index] == 0.0
    node = trace.nodes[found[along.index].index]
    assert node.operation == "mul" and node.arguments == (Ref(g.index), Ref(slope.index))


def test_a_value_that_is_used_twice_collects_both_gradients():
    a = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    check_gradients(lambda x, y: (x * y + exp(x)) * x - sigmoid(y * x), a, a.flip(0))


def test_what_nothing_depends_on_has_gradient_zero():
    trace, (x, y), result = trace_of(lambda x, y: x * 2.0, 2)
    assert trace.reverse({result.index: 1.0}, [y.index]) == {y.index: 0.0}


def test_equal_operations_are_one_node_and_zeros_keep_their_sign():
    trace, (x, y), _ = trace_of(lambda x, y: x, 2)
    assert (x * y).index == (x * y).index != (y * x).index
    assert (x + 0.0).index != (x + -0.0).index


def test_what_depends_on_parameters_alone_stays_out_of_the_loop():
    trace = Trace()
    tau, x = trace.input("tau", PARAMETER), trace.input("x", LANE)
    decay = exp(-1 / tau)
    assert trace.nodes[decay.index].place == COEFFICIENT
    assert trace.nodes[(decay * x).index].place == LANE


def test_the_slope_of_a_spike_is_not_computed_forwards():
    step = LIF().trace()
    forward = [step.trace.nodes[i].operation for i in step.trace.needed([step.output, *step.after.values()])]
    assert "straight_through" in forward
    assert forward.count("div") == 1  # by tau; the derivative of the surrogate has another one


def test_a_value_of_another_step_is_refused():
    with pytest.raises(ValueError, match="another step"):
        Trace().input("x") + Trace().input("y")


@pytest.mark.parametrize("use", [lambda c, x: c * x, lambda c, x: x + c, lambda c, x: where(x, c, c)])
def test_a_condition_is_no_number_and_a_number_no_condition(use):
    x = Trace().input("x")
    with pytest.raises(TypeError, match="where it needs a"):
        use(x > 0, x)


X = Node("input", ("x",), LANE)
CONDITION = Node("ge", (Ref(0), 0.0), LANE)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([X, Node("power", (Ref(0), 2.0), LANE)], "unknown operation 'power'"),
        ([X, Node("add", (Ref(0), Ref(1)), LANE)], "node 1 uses node 1, which does not come before"),
        ([X, Node("add", (Ref(0), Ref(7)), LANE)], "node 1 uses node 7"),
        ([X, Node("add", (Ref(0), Ref(-1)), LANE)], "node 1 uses node -1"),
        ([X, Node("add", (Ref(0),), LANE)], "add takes 2 arguments, got 1"),
        ([X, Node("exp", (Ref(0), 1.0), LANE)], "exp takes 1 arguments, got 2"),
        ([X, Node("exp", ("x",), LANE)], "neither a node nor a float"),
        ([X, Node("exp", (Ref(0),), COEFFICIENT)], "computed before the loop but uses node 0"),
        ([X, CONDITION, Node("neg", (Ref(1),), LANE)], "neg got a condition where it needs a number"),
        ([X, Node("where", (Ref(0), 1.0, 0.0), LANE)], "where got a number where it needs a condition"),
        ([X, CONDITION, Node("where", (Ref(1), Ref(1), 0.0), LANE)], "where got a condition where it needs a number"),
    ],
)
def test_an_ill_formed_list_is_refused(nodes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Trace(nodes).verify()


def test_a_well_formed_list_passes():
    Trace([X, CONDITION, Node("where", (Ref(1), Ref(0), 0.0), LANE)]).verify()
    LIF().trace().trace.verify()
