"""A training step as a CUDA graph gives what the plain step gives."""

import copy
from types import SimpleNamespace

import pytest
import torch
from _cuda_graph import Replayed, replayed
from accelerate import Accelerator

import snnkit
from tests.on_gpu import gpus


def network(device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    made = snnkit.create_model(
        "max_former_cifar10", num_classes=3, img_size=16, dims=(4, 6, 8), depths=(1, 1, 1), heads=2, drop_path_rate=0.5
    )
    return made.to(device)


def trained(step: object, model: torch.nn.Module, device: str) -> dict[str, torch.Tensor]:
    """Weights and statistics after five steps, two with a batch of another size."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for size in (3, 4, 4, 3, 4):
        x = torch.rand(size, 3, 16, 16, device=device)
        loss = step(x).square().mean()  # type: ignore[operator]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.clone() for name, value in model.state_dict().items()}


@gpus()
def test_steps_replayed_equal_plain_steps_bit_for_bit() -> None:
    torch.backends.cudnn.deterministic = True
    plain = network("cuda")
    graphed = copy.deepcopy(plain)
    replay = Replayed(graphed, 4)
    found, expected = trained(replay, graphed, "cuda"), trained(plain, plain, "cuda")
    assert replay.graph is not None
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@gpus()
def test_evaluation_after_replay_uses_the_new_weights() -> None:
    model = network("cuda")
    trained(Replayed(model, 4), model, "cuda")
    fresh = network("cuda")
    fresh.load_state_dict(model.state_dict())
    x = torch.rand(2, 3, 16, 16, device="cuda")
    assert torch.equal(model.eval()(x), fresh.eval()(x))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_on_the_cpu_the_network_itself_is_called(accumulate: int) -> None:
    model = network("cpu")
    settings = SimpleNamespace(accumulate=accumulate, cuda_graph=True, batch=2)
    assert replayed(model, settings, Accelerator(cpu=True)) is model


def test_a_network_in_evaluation_is_never_recorded() -> None:
    model = network("cpu").eval()
    replay = Replayed(model, 2)
    x = torch.rand(2, 3, 16, 16)
    for _ in range(3):
        assert torch.equal(replay(x), model(x))
    assert replay.graph is None
