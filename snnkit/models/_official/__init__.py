"""Names of the papers' official state dicts in ours: one table a paper, one file a table."""

from snnkit.models._official import delay_snn, spike_driven_transformer, spikformer
from snnkit.models._official.table import Table

TABLES: dict[str, Table] = {
    "SNN-delays": delay_snn.TABLE,
    "Spike-driven Transformer": spike_driven_transformer.TABLE,
    "Spikformer": spikformer.TABLE,
}
