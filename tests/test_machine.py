"""The package on machines that lack something, and in processes that forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from snnkit.ops import cpu
from tests.shared import ROOT

TRAIN = """
import torch
from snnkit import nn, ops

torch.manual_seed(0)
x = torch.rand(7, 3, 5) * 4
model = torch.nn.Sequential(nn.DelayLinear(5, 6, max_delay=4), nn.LIF(), nn.DelayLinear(6, 2, max_delay=3))
optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(2):
    optimiser.zero_grad()
    model(x).square().sum().backward()
    optimiser.step()
assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
assert sum(p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad) >= 4
print(ops.path(nn.LIF(), x))
"""


def test_a_network_trains_without_a_compiler_and_says_so_once(tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path), "CXX": "", "SNNKIT_CACHE": str(tmp_path / "cache")}
    process = subprocess.run(
        [sys.executable, "-c", TRAIN], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("reference (cpu: no C++ compiler works (g++: not found")
    assert process.stderr.count("RuntimeWarning") == 1


FORK = """
import os, sys, warnings
import torch
from snnkit import equations, ops

warnings.simplefilter("ignore")  # Python 3.12 warns that a process with threads forks: that is the point here
torch.set_num_threads(2)
x = torch.linspace(0, 3, 98304).reshape(8, 3, 4096).requires_grad_()  # so large that the scan takes two threads
ones = torch.ones_like(x)  # made here: torch's own operations of this size hang in the child


def run():
    spikes = ops.scan(equations.LIF(), x).output
    (gradient,) = torch.autograd.grad(spikes, x, ones)
    return spikes.detach().numpy().tobytes() + gradient.numpy().tobytes()


here = run()
child = os.fork()
if child == 0:
    os._exit(0 if run() == here else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(cpu.refusal() is not None, reason=f"no compiler: {cpu.refusal()}")
def test_a_forked_worker_scans_after_its_parent_did_with_the_same_bits():
    process = subprocess.Popen([sys.executable, "-c", FORK], cwd=ROOT, start_new_session=True)
    try:
        assert process.wait(timeout=30) == 0  # 10 s for the fork, the rest is torch's import on a busy machine
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("the forked child hangs")
