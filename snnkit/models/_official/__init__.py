"""Names of the papers' official state dicts in ours: one table a paper, one file a table."""

from snnkit.models._official import delay_snn, spikformer
from snnkit.models._official.table import Table

TABLES: dict[str, Table] = {
    "SNN-delays": delay_snn.TABLE,
    "Spikformer": spikformer.TABLE,
}
