"""Names of Spikformer (Zhou et al. 2023); its three folders name the 1 x 1 layers ``conv`` or ``linear``."""

from __future__ import annotations

from torch import nn

from snnkit.models._official.table import Rows, Table


def _rows(model: nn.Module) -> Rows:
    for i in range(4):
        theirs, ours = f"patch_embed.proj_{{}}{i or ''}", f"stem.convs.{i}."
        yield from unit(theirs, ours)
    yield from unit("patch_embed.rpe_{}", "stem.position.")
    for i in range(len(model.get_submodule("stages"))):  # type: ignore[arg-type]
        for part in ("q", "k", "v", "proj"):
            yield from unit(f"block.{i}.attn.{part}_{{}}", f"stages.{i}.0.mixer.{part}.")
        yield f"block.{i}.attn.attn_lif.", f"stages.{i}.0.mixer.neuron."
        for part in ("fc1", "fc2"):
            yield from unit(f"block.{i}.mlp.{part}_{{}}", f"stages.{i}.0.mlp.{part}.")


def unit(theirs: str, ours: str) -> Rows:
    """The names of a convolution (or linear layer), its norm and its neuron: ``unit("q_{}", "q.")``."""
    for kind, name in (("conv", "conv"), ("linear", "conv"), ("bn", "norm"), ("lif", "neuron")):
        yield f"{theirs.format(kind)}.", f"{ours}{name}."


TABLE = Table(
    "Spikformer",
    r"(patch_embed|block\.\d+|head|norm)\.|pos_embed$",
    _rows,
    dead=(r"block\.\d+\.norm[12]\.(weight|bias)", r"pos_embed", r"norm\.(weight|bias)"),
    mark=r"block\.\d+\.norm1\.",
)
