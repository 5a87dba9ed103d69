"""Names of the papers' official state dicts in ours: one table a paper, one file a table."""

from snnkit.models._official import (
    delay_snn,
    delrec,
    max_former,
    max_resnet,
    meta_spikeformer,
    qsd_transformer,
    radlif,
    se_adlif,
    spike_driven_transformer,
    spikformer,
)
from snnkit.models._official.table import Table

TABLES: dict[str, Table] = {
    "DelRec": delrec.TABLE,
    "Meta-SpikeFormer": meta_spikeformer.TABLE,
    "Max-Former": max_former.MAX_FORMER,
    "Max-ResNet": max_resnet.TABLE,
    "MS-QKFormer": max_former.MS_QKFORMER,
    "QSD-Transformer": qsd_transformer.TABLE,
    "SE-adlif": se_adlif.TABLE,
    "SNN-delays": delay_snn.TABLE,
    "Spike-driven Transformer": spike_driven_transformer.TABLE,
    "Spikformer": spikformer.TABLE,
    "sparch": radlif.TABLE,
}
