"""Tests of the scripts in examples/, which import each other by name, as python lets a script do."""

import sys

from tests.shared import ROOT

EXAMPLES = ROOT / "examples"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))
