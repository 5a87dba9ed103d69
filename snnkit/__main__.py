"""What the package has to offer, and whether this machine is fit for it, on the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

_DOCTOR = """\
Print versions, places and paths, compare each compiled kernel with the reference, and give the line that mends what
is missing or broken. Exit status: 0 if all that is here works (no GPU, no compiler: still 0), 1 if something is
broken: a part is installed and fails, a kernel computes something else, or a GPU is here and cannot be used."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m snnkit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="print the names of the registered models")
    listing.add_argument("pattern", nargs="?", default="", help="only names that match, e.g. 'delay_*'")
    listing.add_argument("--markdown", action="store_true", help="print the table of all models, docs/models.md")
    listing.set_defaults(run=lambda options: _list(options.pattern, options.markdown))
    info = commands.add_parser("info", help="say what a model is: sizes, source, published accuracy, official weights")
    info.add_argument("name", help="one of python -m snnkit list")
    info.set_defaults(run=lambda options: _info(options.name))
    doctor = commands.add_parser("doctor", help="say what works on this machine, and mend it", description=_DOCTOR)
    doctor.set_defaults(run=lambda options: _doctor())
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `... list | head`: who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _list(pattern: str, markdown: bool) -> int:
    from snnkit.models import _info, list_models  # here: --help need not wait for timm

    if markdown:
        print(_info.markdown(), end="")
        return 0
    found = list_models(pattern)
    if not found:
        print(f"no model matches {pattern!r}", file=sys.stderr)
    for name in found:
        print(name)
    return 0 if found else 1


def _info(name: str) -> int:
    from snnkit.models import _info

    try:
        print(_info.text(name))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _doctor() -> int:
    from snnkit.doctor import report  # here: --help need not wait for torch

    return report()


if __name__ == "__main__":
    sys.exit(main())
