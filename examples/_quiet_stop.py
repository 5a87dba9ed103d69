"""Ctrl-C ends a script in one line; imported before all else, since the imports take the first seconds.

Once training has begun, ``_run.py`` takes Ctrl-C for the wish to stop with a checkpoint.
"""

import sys
from types import TracebackType


def told(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that ends the program; of Ctrl-C one line."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, problem, trace)


sys.excepthook = told
