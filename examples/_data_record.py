"""What a run was trained on: ``provenance.json``, written at its start and compared when it is resumed."""

from typing import Any

from _checkpoint import write_file
from _settings import read_json, refuse, write_json

from snnkit import data as snn_data

PARTS = ("train", "valid", "test")


def provenances(data: Any) -> dict[str, dict[str, Any]]:
    """Where each part comes from, see ``snnkit.data.provenance``; to be asked before a part moves to a device."""
    return {part: snn_data.provenance(getattr(data, part)) for part in PARTS}


def record_data(run: Any, provenance: dict[str, dict[str, Any]]) -> None:
    """Write ``provenance.json`` of a new run; end the program if a resumed one would go on with other samples."""
    path = run.folder / "provenance.json"
    if run.resumed and path.exists():
        then = read_json(path)
        changed = [part for part in PARTS if _samples(then.get(part, {})) != _samples(provenance[part])]
        if changed:
            refuse(
                f"the data changed since {run.folder} began: other samples in {', '.join(changed)}, see {path}. "
                "Put the old files back, or start a new run."
            )
    elif run.main:
        write_file(path, lambda aside: write_json(provenance, aside))


def _samples(record: dict[str, Any]) -> tuple[Any, ...]:
    """What must stay: the bytes where a reader has summed them, else what it tells its samples apart by; the split."""
    return record.get("sha256") or record.get("content"), record.get("rule"), record.get("per_class")
