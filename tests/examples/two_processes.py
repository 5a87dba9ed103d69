"""What one process and what two processes, one after the other, find out about the same model."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def scores(evaluate: Callable[[Any], Any]) -> tuple[Any, Any]:
    """``evaluate(accelerator)`` of the only process, and of the first of two that share the batches."""
    said: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        said.append(tensor)
        return tensor

    def accelerator(rank: int, world: int, reduce: Callable[[Tensor], Tensor]) -> SimpleNamespace:
        cpu = torch.device("cpu")
        return SimpleNamespace(
            process_index=rank, num_processes=world, device=cpu, reduce=reduce, autocast=contextlib.nullcontext
        )

    evaluate(accelerator(1, 2, keep))
    first = evaluate(accelerator(0, 2, lambda tensor: tensor + said.pop(0)))
    assert not said
    return evaluate(accelerator(0, 1, lambda tensor: tensor)), first
