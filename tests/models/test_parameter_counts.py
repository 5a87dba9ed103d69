"""Parameters of every published size, on the meta device: those of the official code, less what it never uses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.models.keys import full_lines
from tests.models.shrink import NAMES, VISION, full_size
from tests.shared import shared_path

PUBLISHED = [name for name in VISION if name != "meta_spikeformer_15m_dist"]  # that size has no official one
ELSEWHERE = {
    "meta_spikeformer_15m": "metaspikformer_8_256_15m",
    "qsd_transformer_8_15m": "qsd_spikformer_8_15M_CAFormer",
}


def official(name: str) -> str:
    """What the file of counts calls a registered model."""
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    if name.startswith("qsd_transformer_"):
        return f"qsd_spikformer_{name.removeprefix('qsd_transformer_')}_CAFormer"
    if name.startswith("meta_spikeformer_"):
        return name.replace("meta_spikeformer", "metaspikformer").replace("_dist", "_kd")
    theirs = name.replace("max_former", "maxformer").replace("dvs128", "dvs128gesture")
    if name.startswith(("sdt_", "spikformer_")):
        theirs = theirs.replace("sdt_", "sdt_v1_")
        return theirs if "cifar" in name or "dvs" in name else f"{theirs}_imagenet"
    return theirs


def counts() -> dict[str, dict[str, Any]]:
    files = [shared_path(f"specs/param_counts_transformers_{part}.json") for part in "ab"]
    return {key: value for path in files for key, value in json.loads(path.read_text()).items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_the_parameters_of_the_official_one(name):
    theirs = counts()[official(name)]
    live = theirs["params"] - theirs.get("dead_params", 0) - theirs.get("dead_act_params", 0)
    assert sum(p.numel() for p in full_size(name).parameters()) == live


@pytest.mark.parametrize("name", NAMES)
def test_a_network_has_as_many_parameters_as_ever(name):
    kept = int(full_lines()[name].split()[1])
    assert sum(p.numel() for p in full_size(name).parameters()) == kept


def test_every_official_network_but_those_of_other_papers_is_registered():
    theirs = {key for key in counts() if not key.startswith("qkformer")}
    assert theirs == {official(name) for name in PUBLISHED}
