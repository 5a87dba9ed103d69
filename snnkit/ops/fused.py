"""Products that may join a sum: ``a b + c`` in one operation, where nothing but a gradient depends on its last bit.

A fused operation rounds once instead of twice, and takes half the time. States and outputs keep both
roundings, or they would differ from the reference's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from snnkit.equations.trace import LANE, Ref, Trace


class Fused(NamedTuple):
    """``a b + c``, with the signs of the product and of c; ``c`` is None for a product that is added to a sum."""

    a: Any
    b: Any
    c: Any
    minus_product: bool
    minus_c: bool
    inside: tuple[int, ...]  # nodes that are no longer needed


def fused(
    trace: Trace, outputs: Iterable[int], exact: Iterable[int], added: Iterable[int] = ()
) -> Mapping[int, Fused]:
    """The sums and differences among the nodes needed for ``outputs`` that take a product in.

    Args:
        trace: the list of nodes.
        outputs: what is computed.
        exact: nodes that must round as they are written.
        added: outputs that are added to a running sum; those that are products are found, too.
    """
    outputs, exact = list(outputs), set(exact)
    needed = trace.needed(outputs)
    uses = Counter(a.index for i in needed for a in trace.nodes[i].arguments if isinstance(a, Ref))
    uses.update(outputs)

    def product(argument: Any) -> tuple[Any, bool, tuple[int, ...]] | None:
        """The product under an argument that serves this sum alone: its node, whether negated, what falls away."""
        inside: tuple[int, ...] = ()
        minus = False
        while isinstance(argument, Ref):
            node = trace.nodes[argument.index]
            if node.place != LANE or argument.index in exact or uses[argument.index] != 1:
                return None
            inside += (argument.index,)
            if node.operation == "mul":
                return node, minus, inside
            if node.operation != "neg":
                return None
            minus, argument = not minus, node.arguments[0]
        return None

    found: dict[int, Fused] = {}
    taken: set[int] = set()
    for i in added:
        inner = product(Ref(i))
        if inner is not None:
            a, b = inner[0].arguments
            found[i] = Fused(a, b, None, inner[1], False, inner[2])
    for i in needed:
        node = trace.nodes[i]
        if node.place != LANE or i in exact or node.operation not in ("add", "sub"):
            continue
        first, second = node.arguments
        for argument, other, minus, minus_c in (
            (second, first, node.operation == "sub", False),
            (first, second, False, node.operation == "sub"),
        ):
            inner = product(argument)
            if inner is not None and not taken.intersection(inner[2]):
                a, b = inner[0].arguments
                found[i] = Fused(a, b, other, minus != inner[1], minus_c, inner[2])
                taken.update(inner[2])
                break
    return found
