"""Names of the Spike-driven Transformer (Yao et al. 2023), whose neurons stand one layer earlier here.

A neuron with tensors (PLIF's ``w``) moves with its layer's name.
"""

from __future__ import annotations

from torch import nn

from snnkit.models._official.spikformer import unit
from snnkit.models._official.table import Rows, Table


def _rows(model: nn.Module) -> Rows:
    depth = len(model.get_submodule("stages"))  # type: ignore[arg-type]
    yield from _moved_neurons(depth)
    for i in range(3):
        yield from unit(f"patch_embed.proj_{{}}{i or ''}", f"stem.convs.{i}.")
    yield from unit("patch_embed.proj_{}3", "stem.last.")
    yield from unit("patch_embed.rpe_{}", "stem.position.")
    for i in range(depth):
        for part in ("q", "k", "v", "proj"):
            yield from unit(f"block.{i}.attn.{part}_{{}}", f"stages.{i}.0.mixer.{part}.")
        for part in ("fc1", "fc2"):
            yield from unit(f"block.{i}.mlp.{part}_{{}}", f"stages.{i}.0.mlp.{part}.")


def _moved_neurons(depth: int) -> Rows:
    """Neurons that their code calls in front of a layer and that end the layer before it here."""
    before = "stem.position.neuron."
    for i in range(depth):
        yield f"block.{i}.attn.shortcut_lif.", before
        yield f"block.{i}.attn.talking_heads_lif.", f"stages.{i}.0.mixer.neuron."
        yield f"block.{i}.mlp.fc1_lif.", f"stages.{i}.0.mixer.proj.neuron."
        yield f"block.{i}.mlp.fc2_lif.", f"stages.{i}.0.mlp.fc1.neuron."
        before = f"stages.{i}.0.mlp.fc2.neuron."
    yield "head_lif.", "head_neuron."


TABLE = Table(
    "SpikeDrivenTransformer",
    r"(patch_embed|block\.\d+|head|head_lif)\.",
    _rows,
    dead=(r"block\.\d+\.attn\.(talking_heads\.weight|attn_lif\.w)", r"patch_embed\.rpe_lif\.w"),
    mark=r"block\.\d+\.attn\.talking_heads\.",
)
