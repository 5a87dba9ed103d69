"""The lines for a shell that start and resume a run, and the run's record of those that did: ``command.json``."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _checkpoint import write_file
from _settings import read_json, write_json


def command(arguments: Sequence[str], processes: int) -> str:
    """A line that runs this script with these arguments, by torchrun where several processes share each batch."""
    start = ["torchrun", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else ["python"]
    return shlex.join([*start, sys.argv[0], *arguments])


def record_start(folder: Path, processes: int, resumed: bool) -> None:
    """Write the line of this very start into the run's folder: its first one, or one more that resumed it."""
    line = command(sys.argv[1:], processes)
    record: dict[str, Any] = {"command": line, "resumed_by": []}
    if resumed:
        record = starts(folder)
        record["resumed_by"].append(line)
    write_file(folder / "command.json", lambda aside: write_json(record, aside))


def starts(folder: Path) -> dict[str, Any]:
    """``command``, the line that began a run (None: a run of a version that kept none), and the list ``resumed_by``."""
    path = folder / "command.json"
    return {"command": None, "resumed_by": []} | (read_json(path) if path.exists() else {})
