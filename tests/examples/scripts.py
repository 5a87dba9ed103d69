"""The scripts of examples/ as processes."""

import os
import subprocess
import sys
from pathlib import Path

from tests.examples import EXAMPLES
from tests.shared import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

# A net that trains in a second: every kind of random draw is in use.
SMALL = (
    "--cpu --hidden 12 --steps 5 --max-delay 5 --epochs 2 --batch 32 --dropout 0.3 --time-mask 2 --cutmix 0.5".split()
)


def start(
    *arguments: object, cwd: Path, processes: int = 1, script: str = "train_shd.py"
) -> subprocess.Popen[str]:
    """A running script, by torchrun if it is to have several processes."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *(torchrun if processes > 1 else []), str(EXAMPLES / script), *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def run(*arguments: object, cwd: Path, processes: int = 1, script: str = "train_shd.py") -> str:
    """Output of a script that must succeed."""
    code, out, err = finish(start(*arguments, cwd=cwd, processes=processes, script=script))
    if code:
        raise RuntimeError(f"exit code {code}\n{out}\n{err}")
    return out
