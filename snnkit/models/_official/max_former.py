"""Names of Max-Former and MS-QKFormer (Fang et al. 2025), whose neurons stand in front of the layers, not behind.

Rows stand in the order of the official state dict, all embeddings first: files with older names go by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from snnkit.models._official.table import Rows, Table
from snnkit.nn import max_embed

# Of each embedding: names of its layers and of its shortcut; its neurons, by the layer that reads their spikes.
EMBEDDINGS: dict[type, tuple[list[str], str, dict[str, int]]] = {
    max_embed.FlatStem: (
        ["proj_{}", "embed1.embed_{}"], "embed2.embed_{}", {"embed1.embed_lif": 1, "embed2.embed_lif": 1}
    ),
    max_embed.StridedStem: (
        ["embed1.embed_{}", "embed2.embed_{}", "embed3.embed_{}"], "embed4.embed_{}",
        {"embed2.embed_lif": 1, "embed3.embed_lif": 2},
    ),
    max_embed.PooledStem: (
        ["proj_{}", "proj_{}1", "proj_{}2"], "rpe_{}", {"proj_lif1": 1, "proj_lif2": 2}
    ),
    max_embed.MaxStem: (
        ["proj_{}", "max_embed1.embed_{}", "max_embed2.embed_{}", "max_embed3.embed_{}"], "embed1.embed_{}",
        {"max_embed1.embed_lif": 1, "max_embed2.embed_lif": 2, "max_embed3.embed_lif": 3},
    ),
    max_embed.MaxEmbedding: (
        ["max_embed1.embed_{}", "embed1.embed_{}"], "max_embed2.embed_{}",
        {"max_embed1.embed_lif": 0, "embed1.embed_lif": 1},
    ),
    max_embed.PoolFirstEmbedding: (
        ["proj3_{}", "proj4_{}"], "proj_res_{}", {"init_lif": 0, "proj3_lif": 1}
    ),
    max_embed.PoolLastEmbedding: (
        ["embed1.embed_{}", "max_embed1.embed_{}"], "embed2.embed_{}",
        {"embed1.embed_lif": 0, "max_embed1.embed_lif": 1},
    ),
}  # fmt: skip


def _rows(model: Any) -> Rows:
    """All embeddings, then all blocks; ``before`` is the neuron whose spikes a layer reads."""
    stages = list(model.stages)
    yield from _embedding(model.stem, "patch_embed1.", "stem.", "")
    for i, stage in enumerate(stages[1:], 1):
        before = f"stages.{i - 1}.{len(stages[i - 1]) - 1}.mlp.fc2.neuron."
        yield from _embedding(stage[0], f"patch_embed{i + 1}.", f"stages.{i}.0.", before)
    for i, stage in enumerate(stages):
        embedding = stage[0] if i else model.stem
        before = f"{f'stages.{i}.0' if i else 'stem'}.layers.{len(embedding.layers) - 1}.neuron."
        for number, j in enumerate(range(1 if i else 0, len(stage))):
            theirs, ours = f"stage{i + 1}.{number}.", f"stages.{i}.{j}."
            yield from _block(stage[j].mixer, theirs, ours, before)
            before = f"{ours}mlp.fc2.neuron."
    yield "head_lif.", "head_neuron."


def _embedding(embedding: Any, theirs: str, ours: str, before: str) -> Iterator[tuple[str, str]]:
    layers, shortcut, neurons = EMBEDDINGS[type(embedding)]
    for i, name in enumerate(layers):
        yield from _layer(theirs + name, f"{ours}layers.{i}.")
    yield from _layer(theirs + shortcut, f"{ours}shortcut.")
    for name, i in neurons.items():
        yield f"{theirs}{name}.", f"{ours}layers.{i - 1}.neuron." if i else before


def _layer(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield f"{theirs.format('conv')}.", f"{ours}conv."
    yield f"{theirs.format('bn')}.", f"{ours}norm."


def _block(mixer: Any, theirs: str, ours: str, before: str) -> Iterator[tuple[str, str]]:
    mixed = before  # the neuron behind the mixer: without one (CIFAR's first stage) that in front of it
    if hasattr(mixer, "projections"):
        for part in (*mixer.projections, "proj"):
            yield from _layer(f"{theirs}attn.{part}_{{}}", f"{ours}mixer.{part}.")
            if part != "proj":
                yield f"{theirs}attn.{part}_lif.", f"{ours}mixer.{part}.neuron."
        yield f"{theirs}attn.attn_lif.", f"{ours}mixer.neuron."
        first = "x_lif" if "v" in mixer.projections else "proj_lif"
        yield f"{theirs}attn.{first}.", before
        mixed = f"{ours}mixer.proj.neuron."
    elif hasattr(mixer, "layer"):
        conv = "conv5" if mixer.layer.conv.kernel_size == (7, 7) else "conv"  # so named there
        yield f"{theirs}mixer.{conv}.", f"{ours}mixer.layer.conv."
        yield f"{theirs}mixer.{conv}_bn.", f"{ours}mixer.layer.norm."
        yield f"{theirs}mixer.{conv}_neuron.", before
        mixed = f"{ours}mixer.layer.neuron."
    for part in ("fc1", "fc2"):
        yield from _layer(f"{theirs}mlp.{part}_{{}}", f"{ours}mlp.{part}.")
    yield f"{theirs}mlp.fc1_lif.", mixed
    yield f"{theirs}mlp.fc2_lif.", f"{ours}mlp.fc1.neuron."


PATTERN = r"(patch_embed\d+|stage\d+|head)\."

MAX_FORMER = Table("MaxFormer", PATTERN, _rows, by_order=True, mark=r"stage\d\.0\.mixer\.")
MS_QKFORMER = Table("MSQKFormer", PATTERN, _rows, by_order=True, mark=r"stage1\.0\.attn\.")
