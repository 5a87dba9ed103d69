"""How a kernel becomes an op that torch knows: for torch.compile, fake tensors, opcheck, and at little cost a call.

A kernel is a Python function on tensors that fills memory through ctypes. ``register`` puts it under
``torch.ops.snnkit``, with a fake kernel that makes the output's shape, dtype and strides. An ``autograd.Function`` on
top calls ``op(...)``: in eager mode that is the kernel itself, without the dispatcher (35 instead of 44 microseconds a
call, forward and backward), and the registered op where somebody watches (``torch.compile``, fake or meta tensors,
dispatch modes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# FRAGMENT: other files may add their ops to the same namespace.
_library = torch.library.Library("snnkit", "FRAGMENT")
_PLAIN = (Tensor, torch.nn.Parameter)

watching = torch._C._len_torch_dispatch_stack
"""``watching()``: how many modes look on at every operation."""


class Registered:
    """A kernel and its registered op; calling it takes the shorter way that is open.

    Args:
        schema: as in ``torch.library``: ``"name(Tensor x, int size) -> Tensor"``. The name must be new in ``snnkit``.
        kernel: the implementation.
        fake: the same signature; outputs of the same shape, dtype and strides, without contents.
        vmap: the rule of torch.library.register_vmap.
        devices: where the kernel runs.
    """

    def __init__(
        self,
        schema: str,
        kernel: Callable[..., Any],
        fake: Callable[..., Any],
        vmap: Callable[..., Any] | None = None,
        devices: Sequence[str] = ("CPU",),
    ) -> None:
        name = schema.split("(")[0]
        _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        for device in devices:
            _library.impl(name, kernel, device)
        torch.library.register_fake(f"snnkit::{name}", fake, lib=_library)
        if vmap is not None:
            torch.library.register_vmap(f"snnkit::{name}", vmap, lib=_library)
        self.kernel = kernel
        self.op = getattr(torch.ops.snnkit, name).default

    def way(self, x: Tensor) -> Callable[..., Any]:
        """The kernel itself if x is plain, else the registered op."""
        return self.kernel if is_plain(x) else self.op

    def __call__(self, *args: Any) -> Any:
        """Run the kernel itself on plain tensors, else the registered op."""
        if all(is_plain(x) for x in args if isinstance(x, Tensor)):
            return self.kernel(*args)
        return self.op(*args)


def is_plain(x: Tensor) -> bool:
    """Whether a kernel may be called with x itself: torch's own tensor, no graph in the making, no mode watching."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None  # torch.jit.trace records operators; it would see empty memory
        and type(x) in _PLAIN
        and (x.is_cpu or x.is_cuda)
        and not x.is_neg()  # its memory holds -x
        and not watching()
    )


def _no_forward_mode(ctx: Any, *tangents: Any) -> Any:
    raise NotImplementedError(
        "snnkit: forward-mode differentiation (torch.func.jvp, jacfwd, hessian, dual numbers) has no rule for neurons. "
        "Use reverse mode: backward, torch.func.grad, vjp or jacrev."
    )


no_forward_mode = staticmethod(_no_forward_mode)
"""The ``jvp`` of an ``autograd.Function`` that has none. Not for those that torch.compile sees: it refuses any."""


def wants_graph() -> bool:
    """Whether a backward runs under ``create_graph=True``, so that its answer must be differentiable itself.

    ``once_differentiable`` is no guard there: it raises only if the incoming gradient has a graph. For a constant one
    (as of ``y.sum()``) it returns plain numbers, and the second derivative misses a term without a word.
    """
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()  # while tracing the mode is on for no reason


def gradients_with_graph(
    reference: Callable[..., Tensor], inputs: Sequence[Tensor | None], g: Tensor
) -> list[Tensor | None]:
    """Gradients of a PyTorch reference at the inputs, differentiable again; None for inputs that want none."""
    copies = [None if x is None else x.view_as(x) for x in inputs]  # else a tensor that came twice would count twice
    leaves = [x for x in copies if x is not None and x.requires_grad]
    found = iter(torch.autograd.grad(reference(*copies), leaves, g, create_graph=True))
    return [next(found) if x is not None and x.requires_grad else None for x in copies]


def transformed() -> bool:
    """Whether torch.func (grad, vmap, jacrev, ...) or forward-mode differentiation is at work.

    Ops without rules for these take their PyTorch reference then: right answers, per-sample gradients and higher
    derivatives instead of an error, or of the zeros that a registered op gives under ``jvp``.
    """
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
