"""``python -m snnkit list [PATTERN]``: what the package has to offer, on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m snnkit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="print the names of the registered models")
    listing.add_argument("pattern", nargs="?", default="", help="only names that match, e.g. 'delay_*'")
    options = parser.parse_args(arguments)

    from snnkit.models import list_models  # here: --help need not wait for timm

    found = list_models(options.pattern)
    if not found:
        print(f"no model matches {options.pattern!r}", file=sys.stderr)
    for name in found:
        print(name)
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
