"""The script that shows a neuron of one's own: it compares, trains, and draws."""

import subprocess
import sys
from pathlib import Path

from tests.examples import EXAMPLES
from tests.examples.scripts import ENVIRONMENT


def test_it_compares_trains_and_writes_its_picture(tmp_path: Path) -> None:
    script = EXAMPLES / "make_your_own_neuron.py"
    done = subprocess.run(
        [sys.executable, script, "--epochs", "2"], cwd=tmp_path, env=ENVIRONMENT, text=True, capture_output=True,
        timeout=300, check=True,
    )  # fmt: skip
    assert "0 of 1400 spikes differ" in done.stdout and "epoch  2" in done.stdout
    accuracy = float(done.stdout.split("test accuracy ")[1].split("%")[0])
    assert accuracy > 40  # one in ten by chance; two epochs reach 70
    assert (tmp_path / "membrane.png").read_bytes().startswith(b"\x89PNG")
