"""Batch norm over time and batch: torch's numbers, padding, several processes."""

import copy
import os
import socket

import pytest
import torch
from torch import multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from snnkit.nn.norm import BatchNorm

CASES = [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 0.1, "momentum": 0.05}]
cases = pytest.mark.parametrize("options", CASES, ids=str)


def pair(options):
    """Our norm and torch's with the same random parameters."""
    theirs, ours = nn.BatchNorm1d(5, **options).double(), BatchNorm(5, **options).double()
    for p in theirs.parameters():
        nn.init.normal_(p)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def agree(theirs, ours, exact):
    """Same keys, same values."""
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(
            ours.state_dict()[name], value, rtol=0 if exact else 1e-12, atol=0 if exact else 1e-14
        )


@cases
def test_without_padding_it_is_torchs_over_all_steps(options):
    theirs, ours = pair(options)
    for seed in range(3):
        x = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert torch.equal(ours(x), theirs(x.flatten(0, 1)).unflatten(0, (7, 3)))
    agree(theirs, ours, exact=True)
    assert torch.equal(ours.eval()(x), theirs.eval()(x.flatten(0, 1)).unflatten(0, (7, 3)))


@cases
@pytest.mark.parametrize("garbage", [0.0, 100.0, float("nan")])
def test_padded_steps_touch_neither_answer_nor_statistics_nor_gradients(options, garbage):
    theirs, ours = pair(options)
    lengths = torch.tensor([7, 2, 4])
    valid = torch.arange(7)[:, None] < lengths
    for seed in range(2):
        x = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x[~valid] = garbage
        x1, x2 = x[valid].requires_grad_(), x.clone().requires_grad_()
        expected, y = theirs(x1), ours(x2, lengths)
        torch.testing.assert_close(y[valid], expected, rtol=1e-12, atol=1e-13)
        assert (y[~valid] == 0).all()
        weight = torch.randn(7, 3, 5, dtype=torch.float64)
        (expected * weight[valid]).sum().backward()
        (y * weight).sum().backward()
        torch.testing.assert_close(x2.grad[valid], x1.grad, rtol=1e-11, atol=1e-12)
        assert (x2.grad[~valid] == 0).all()
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-11, atol=1e-12)
    agree(theirs, ours, exact=False)
    torch.testing.assert_close(ours.eval()(x, lengths)[valid], theirs.eval()(x[valid]), rtol=1e-12, atol=1e-13)
    assert (ours(x, lengths)[~valid] == 0).all()


def test_a_samples_answer_in_eval_mode_does_not_depend_on_its_batch_mates():
    norm = BatchNorm(5).eval()
    x = torch.randn(7, 3, 5)
    assert torch.equal(norm(x, torch.tensor([7, 2, 4]))[:2, 1], norm(x[:2, 1:2])[:, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_statistics_in_float32(dtype):
    norm, x = BatchNorm(5), (torch.randn(63, 3, 5) + 8).to(dtype)
    full = copy.deepcopy(norm)
    lengths = torch.full((3,), 63)
    y = norm(x, lengths)
    assert y.dtype == dtype
    torch.testing.assert_close(y, full(x.float()).to(dtype), rtol=2**-7, atol=2**-7)
    torch.testing.assert_close(norm.running_var, full.running_var)


@pytest.mark.parametrize("shape", [(0, 3, 5), (4, 0, 5)])
@pytest.mark.parametrize("training", [True, False])
def test_nothing_in_nothing_out_and_nothing_learnt(shape, training):
    norm = BatchNorm(5).train(training)
    before = copy.deepcopy(norm.state_dict())
    x = torch.zeros(shape, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad.shape == shape
    norm(x, torch.zeros(shape[1], dtype=torch.long))
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_of_padding_only_leaves_the_running_statistics(momentum):
    norm = BatchNorm(5, momentum=momentum)
    norm(torch.randn(7, 3, 5))
    before = copy.deepcopy(norm.state_dict())
    y = norm(torch.full((4, 3, 5), float("nan")), torch.tensor([0, 0, 0]))
    assert (y == 0).all()
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_transposed_input_and_more_axes():
    norm, x = BatchNorm(5), torch.randn(3, 7, 5)
    torch.testing.assert_close(norm(x.transpose(0, 1)), norm(x).transpose(0, 1))
    tokens = torch.randn(4, 3, 2, 5)
    torch.testing.assert_close(norm(tokens), norm(tokens.flatten(1, 2)).view(tokens.shape))
    lengths = torch.tensor([1, 4, 2])
    by_steps = norm(tokens, lengths)
    torch.testing.assert_close(by_steps.flatten(1, 2), norm(tokens.flatten(1, 2), lengths.repeat_interleave(2)))


@pytest.mark.parametrize("shape", [(3, 5), (4, 5, 3)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"BatchNorm expects"):
        BatchNorm(5)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"the last axis, got .* Of images .*: nn.PerStep\(torch.nn.BatchNorm2d\(5"):
        BatchNorm(5)(torch.zeros(3, 2, 5, 4, 4))
    with pytest.raises(ValueError, match=r"which axis has the channels\? Of images .*nn.PerStep"):
        BatchNorm(5)(torch.zeros(3, 2, 5, 5, 5))  # it would norm the columns
    assert BatchNorm(5)(torch.zeros(3, 2, 5, 4, 5)).shape == (3, 2, 5, 4, 5)


def test_a_single_row_is_refused_in_training_as_in_torch():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm(5)(torch.zeros(1, 1, 5))


@pytest.mark.parametrize("padded", [False, True])
def test_it_compiles_without_a_break(padded):
    torch._dynamo.reset()
    norm, x = BatchNorm(5), torch.randn(7, 3, 5)
    other = copy.deepcopy(norm)
    lengths = torch.tensor([7, 1, 4]) if padded else None
    torch.testing.assert_close(torch.compile(norm, backend="aot_eager", fullgraph=True)(x, lengths), other(x, lengths))
    torch.testing.assert_close(norm.running_var, other.running_var)


X = torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
LENGTHS = torch.tensor([7, 1, 2, 5])
WEIGHT = torch.randn(7, 4, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 6), BatchNorm(6, sync=True), nn.Linear(6, 2)

    def forward(self, x, lengths):
        return self.last(self.norm(self.first(x), lengths).tanh())


def net() -> Net:
    torch.manual_seed(0)
    return Net().double()


def process(rank: int, port: int, folder: str) -> None:
    """One of two processes, with one and three of the four samples; without padding, then with it."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    part, results = slice(0, 1) if rank == 0 else slice(1, 4), []
    for lengths in (None, LENGTHS):
        model = DistributedDataParallel(net(), find_unused_parameters=False)
        y = model(X[:, part], lengths if lengths is None else lengths[part])
        (2 * (y * WEIGHT[:, part]).sum()).backward()  # DDP takes the mean over the processes
        results.append([y.detach(), [p.grad for p in model.parameters()], model.module.state_dict()])
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_gradients_and_statistics_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(process, (port, str(tmp_path)), nprocs=2)
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for lengths, *results in zip((None, LENGTHS), *both, strict=True):
        one = net()
        y = one(X, lengths)
        (y * WEIGHT).sum().backward()
        torch.testing.assert_close(torch.cat([r[0] for r in results], 1), y, rtol=1e-12, atol=1e-13)
        for _, grads, state in results:
            for got, p in zip(grads, one.parameters(), strict=True):
                torch.testing.assert_close(got, p.grad, rtol=1e-11, atol=1e-12)
            for name, value in one.state_dict().items():
                torch.testing.assert_close(state[name], value, rtol=1e-12, atol=1e-13)
