"""Names of QSD-Transformer (Qiu et al. 2025): those of Meta-SpikeFormer, and the tensors of quantised layers."""

from __future__ import annotations

import torch
from torch import nn

from snnkit.models._official.meta_spikeformer import rows
from snnkit.models._official.table import State, Table


def _mend(model: nn.Module, state: State, where: str) -> State:
    """Layer scales as ``[C, 1, 1]``; steps that were never set, which hold whatever was in memory, as 1: unread."""

    def mended(name: str, value: torch.Tensor) -> torch.Tensor:
        if name.endswith(".scale"):
            return value.reshape(-1, 1, 1)
        started = state.get(f"{name.removesuffix('alpha')}init_state") if name.endswith(".alpha") else None
        return torch.ones_like(value) if started is not None and not started.any() else value

    return {name: mended(name, value) for name, value in state.items()}


TABLE = Table(
    "QSDTransformer",
    r"(downsample\d(_\d)?|ConvBlock\d_\d|block[34]|head|lif)\.",
    rows,
    dead=(r".*\.act\.(alpha|zero_point|init_state|signed)",),
    mend=_mend,
    mark=r".*\.alpha$",
)
