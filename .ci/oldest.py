"""Print the oldest versions that setup.cfg allows, one `name==version` a line: a constraints file for pip.

Usage: python .ci/oldest.py [extra ...]. The pins are the `>=` bounds themselves, so that they cannot drift from them.
Where an extra asks for more than the package itself does (spikingjelly for the tests), the package's bound is the one
that is tried: it is what a user may have.
"""

import configparser
import re
import sys
from pathlib import Path

config = configparser.ConfigParser()
config.read(Path(__file__).resolve().parents[1] / "setup.cfg")
texts = [config["options.extras_require"][extra] for extra in sys.argv[1:]]
pins: dict[str, str] = {}
for line in "\n".join([config["options"]["install_requires"], *texts]).split():
    bound = re.fullmatch(r"([\w.-]+)>=([\w.]+)", line)
    if bound:
        pins.setdefault(bound[1], bound[2])
print("\n".join(f"{name}=={version}" for name, version in pins.items()))
