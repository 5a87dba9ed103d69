"""Memory that an op must fill is NaN under test, so that a forgotten element cannot pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def nan_memory() -> Iterator[None]:
    """Have torch fill each fresh tensor (empty, empty_like, new_empty, in C++ too) with NaN or the largest integer."""
    # torch does this in its deterministic mode only; warn_only keeps that mode from refusing anything.
    torch.use_deterministic_algorithms(True, warn_only=True)
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.utils.deterministic.fill_uninitialized_memory = before
    torch.use_deterministic_algorithms(False)
