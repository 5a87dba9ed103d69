"""Names of Meta-SpikeFormer (Yao et al. 2024), whose neurons stand one layer earlier here.

A neuron with tensors (PLIF's ``w``) moves with its layer's name. QSD-Transformer has the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from snnkit.models._meta_backbone import ConvBlock, Downsampling
from snnkit.models._official.spikformer import unit
from snnkit.models._official.table import Rows, Table

REPCONV = {"0": "mix", "1.bn": "mix_norm", "2.0": "depthwise", "2.1": "pointwise", "2.2": "norm"}


def rows(model: nn.Module) -> Rows:
    """Stem, the layers of all stages in order, head."""
    yield from _encode("downsample1_1.", "stem.")
    fires = "stem.neuron."  # what fires before the layer
    downs = iter(("downsample1_2.", "downsample2.", "downsample3.", "downsample4."))
    convs = iter(f"ConvBlock{name}.0." for name in ("1_1", "1_2", "2_1", "2_2"))
    blocks: Iterator[str] = iter(())
    for i, stage in enumerate(model.get_submodule("stages").children()):
        for j, layer in enumerate(stage.children()):
            ours = f"stages.{i}.{j}."
            if isinstance(layer, Downsampling):
                theirs = next(downs)
                blocks = iter(f"block{theirs[-2]}.{k}." for k in range(len(list(stage.children()))))
                yield f"{theirs}encode_lif.", fires
                yield from _encode(theirs, ours)
                fires = f"{ours}neuron."
            elif isinstance(layer, ConvBlock):
                yield from _conv_block(next(convs), ours, fires)
                fires = f"{ours}conv2.neuron."
            else:
                yield from _block(next(blocks), ours, fires)
                fires = f"{ours}mlp.fc2.neuron."
    yield "lif.", "head_neuron."
    yield "head_kd.", "head_dist."


def _encode(theirs: str, ours: str) -> Rows:
    yield f"{theirs}encode_conv.", f"{ours}conv."
    yield f"{theirs}encode_bn.", f"{ours}norm."


def _conv_block(theirs: str, ours: str, fires: str) -> Rows:
    yield f"{theirs}Conv.lif1.", fires
    for a, b in (
        ("Conv.pwconv1", "expand.conv"), ("Conv.bn1", "expand.norm"), ("Conv.lif2", "expand.neuron"),
        ("Conv.dwconv", "separable.conv.0"), ("Conv.pwconv2", "separable.conv.1"), ("Conv.bn2", "separable.norm"),
        ("lif1", "separable.neuron"), ("conv1", "conv1.conv"), ("bn1", "conv1.norm"), ("lif2", "conv1.neuron"),
        ("conv2", "conv2.conv"), ("bn2", "conv2.norm"),
    ):  # fmt: skip
        yield f"{theirs}{a}.", f"{ours}{b}."


def _block(theirs: str, ours: str, fires: str) -> Rows:
    yield f"{theirs}attn.head_lif.", fires
    yield f"{theirs}attn.attn_lif.", f"{ours}mixer.neuron."
    yield f"{theirs}mlp.fc1_lif.", f"{ours}mixer.proj.neuron."
    yield f"{theirs}mlp.fc2_lif.", f"{ours}mlp.fc1.neuron."
    for part in ("q", "k", "v", "proj"):
        for a, b in REPCONV.items():
            yield f"{theirs}attn.{part}_conv.0.body.{a}.", f"{ours}mixer.{part}.conv.{b}."
        yield f"{theirs}attn.{part}_conv.1.", f"{ours}mixer.{part}.norm."
        yield f"{theirs}attn.{part}_lif.", f"{ours}mixer.{part}.neuron."
    for part in ("fc1", "fc2"):
        yield from unit(f"{theirs}mlp.{part}_{{}}", f"{ours}mlp.{part}.")
    yield f"{theirs}layer_scale1", f"{ours}mixer.proj.scale"  # QSD-Transformer
    yield f"{theirs}layer_scale2", f"{ours}mlp.fc2.scale"


# A quantised layer's tensors are QSD-Transformer's.
PATTERN = r"(?!.*\.(alpha|init_state)$)(downsample\d(_\d)?|ConvBlock\d_\d|block[34]|head|head_kd|lif)\."
TABLE = Table("MetaSpikeFormer", PATTERN, rows, mark=r"ConvBlock1_1\.")
