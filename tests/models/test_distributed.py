"""Two processes, each with half of the batch, take the same training step as one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import snnkit
from snnkit.nn.losses import cross_entropy
from snnkit.nn.norm import BatchNorm

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
build = dict(in_features=6, hidden=(9, 8), num_classes=3, max_delay=5, dropout=0.0)
model = snnkit.create_model("delay_snn_shd", **build).double()
whole = snnkit.create_model("delay_snn_shd", **build).double()
whole.load_state_dict(model.state_dict())
for layer in model.modules():
    if isinstance(layer, BatchNorm):
        layer.sync = True
parallel = DistributedDataParallel(model, find_unused_parameters=False)
for step in range(2):
    x, y = torch.randint(0, 3, (11, 4, 6)).double(), torch.randint(0, 3, (4,))
    mine = slice(2 * rank, 2 * rank + 2)
    model.zero_grad(); whole.zero_grad()
    cross_entropy(parallel(x[:, mine]), y[mine]).backward()
    cross_entropy(whole(x), y).backward()
    for (name, a), b in zip(model.named_parameters(), whole.parameters()):
        if b.requires_grad:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=name)
for (name, a), b in zip(model.named_buffers(), whole.buffers()):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=name)
assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
print("equal")
dist.destroy_process_group()
"""

VISION = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from snnkit.nn.losses import cross_entropy
from tests.models.shrink import build, smallest

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
model, whole = (build("max_former_10_384", **smallest("max_former_10_384")).double() for _ in range(2))
parallel = DistributedDataParallel(model, find_unused_parameters=False)
mine = slice(2 * rank, 2 * rank + 2)
for training in (False, False, True, True):  # gloo has no SyncBatchNorm: norms by running statistics can be compared
    x, y = torch.randn(4, 3, 32, 32).double(), torch.randint(0, 5, (4,))
    parallel.train(training); whole.eval()
    model.zero_grad(); whole.zero_grad()
    cross_entropy(parallel(x[mine]), y[mine]).backward()
    cross_entropy(whole(x), y).backward()
    for (name, a), b in zip(model.named_parameters(), whole.parameters()):
        if not training:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=name)
        assert a.grad.abs().sum() > 0, name
        first = a.grad.clone()
        dist.broadcast(first, 0)
        assert torch.equal(first, a.grad), name
print("equal")
dist.destroy_process_group()
"""


@pytest.mark.parametrize("script", [SCRIPT, VISION], ids=["a DelaySNN", "a vision model, still images"])
def test_two_processes_take_the_step_of_one(tmp_path, script):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    try:
        for run in runs:
            text, _ = run.communicate(timeout=300)
            assert run.returncode == 0 and "equal" in text, text
    except subprocess.TimeoutExpired:
        pytest.fail("the processes wait for each other")
    finally:
        for run in runs:
            run.kill()
