"""The lines for a shell that start and resume a run."""

import shlex
import sys
from collections.abc import Sequence


def command(arguments: Sequence[str], processes: int) -> str:
    """A line that runs this script with these arguments, by torchrun where several processes share each batch."""
    start = ["torchrun", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else ["python"]
    return shlex.join([*start, sys.argv[0], *arguments])
