"""Names of the papers' official state dicts in ours: one table a paper, one file a table."""

from snnkit.models._official import delay_snn, meta_spikeformer, spike_driven_transformer, spikformer
from snnkit.models._official.table import Table

TABLES: dict[str, Table] = {
    "Meta-SpikeFormer": meta_spikeformer.TABLE,
    "SNN-delays": delay_snn.TABLE,
    "Spike-driven Transformer": spike_driven_transformer.TABLE,
    "Spikformer": spikformer.TABLE,
}
