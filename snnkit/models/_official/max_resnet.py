"""Names of Max-ResNet (Fang et al. 2025), whose neurons stand in front of the convolutions, not behind."""

from __future__ import annotations

from typing import Any

from snnkit.models._official.table import Rows, Table


def _rows(model: Any) -> Rows:
    yield "conv1.", "stem.layer.conv."
    yield "bn1.", "stem.layer.norm."
    before = "stem.layer.neuron."
    for i, stage in enumerate(model.stages):
        for j in range(len(stage)):
            theirs, ours = f"layer{i + 1}.{j}.", f"stages.{i}.{j}."
            yield f"{theirs}spike1.", before
            for k in (1, 2):
                yield f"{theirs}conv{k}.", f"{ours}conv{k}.conv."
                yield f"{theirs}bn{k}.", f"{ours}conv{k}.norm."
            yield f"{theirs}spike2.", f"{ours}conv1.neuron."
            yield f"{theirs}downsample.1.", f"{ours}shortcut.conv."
            yield f"{theirs}downsample.2.", f"{ours}shortcut.norm."
            before = f"{ours}conv2.neuron."
    yield "spike.", "head_neuron."
    yield "fc1.", "head."


TABLE = Table("MaxResNet", r"(conv1|bn1|layer\d+|fc1)\.", _rows, mark=r"fc1\.")
