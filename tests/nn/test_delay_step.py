"""A stream that goes on as before is answered by the short way, and hears whatever changes in mid-stream."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snnkit.nn import carry
from snnkit.nn import delay as module
from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.delay import DelayConv1d, DelayLinear, _Delayed
from snnkit.nn.local_delay import LocalDelayLinear
from snnkit.ops import delay_events
from snnkit.ops.delay import Bilinear, Triangle

STEPS, CHANGE = 14, 6
Act = Callable[[_Delayed, carry, torch.Tensor], object]
pytestmark = pytest.mark.skipif(delay_events.refusal() is not None, reason="no compiler: no short way")


def linear() -> _Delayed:
    torch.manual_seed(0)
    return DelayLinear(18, 20, 9, bias=True, dtype=torch.float64).discretize()


def spikes(seed: int = 1, B: int = 2) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return (torch.rand(STEPS, B, 18, generator=random) < 0.2).double()


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each call that takes the general way."""
    calls: list[int] = []
    stream = module.stream

    def counted(layer: _Delayed, x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(len(x))
        return stream(layer, x, state)

    monkeypatch.setattr(module, "stream", counted)
    return calls


@torch.no_grad()
def streamed(layer: _Delayed, act: Act | None = None) -> list[torch.Tensor]:
    """Step by step, with an act of a parameter, a state or a call before step CHANGE."""
    y = []
    with carry(layer) as block:
        for t, x in enumerate(spikes().split(1)):
            if act is not None and t == CHANGE:
                made = act(layer, block, x)
                y += [made.detach().double()] if isinstance(made, torch.Tensor) else []
            y.append(layer(x.to(layer.weight.dtype)).double())
    return y


def same_without_the_short_way(make: Callable[[], _Delayed], act: Act | None = None) -> list[torch.Tensor]:
    """What a stream gives, after a look that the general way gives the same bits."""
    y = streamed(make(), act)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "next_step", lambda layer, x: None)
        expected = streamed(make(), act)
    assert len(y) == len(expected) and all(map(torch.equal, y, expected))
    return y


def test_the_first_two_calls_take_the_general_way_and_no_other(general: list[int]) -> None:
    streamed(linear())
    assert len(general) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["linear", "conv", "local"])
def test_every_layer_and_chunk_length_gives_the_whole(
    kind: str, batch: int, dtype: torch.dtype, general: list[int]
) -> None:
    options = {"profile": Bilinear(), "learn_delay": False, "dtype": dtype}
    x = spikes(B=batch).to(dtype)
    if kind == "local":
        layer: _Delayed = LocalDelayLinear(18, 4, window=5, stride=3, max_delay=9, **options)
    elif kind == "conv":
        layer, x = DelayConv1d(18, 20, 9, **options), x.permute(1, 2, 0)
    else:
        layer = DelayLinear(18, 20, 9, groups=2, bias=True, **options)
    time = 2 if kind == "conv" else 0
    with torch.no_grad(), carry(layer):
        y = torch.cat([layer(chunk) for chunk in x.split([1, 1, 1, 1, 3, 3, 1, 1, 2], time)], time)
    torch.testing.assert_close(y, layer(x))
    if kind == "linear":
        assert len(general) == 5  # the first two, the first of 3 steps, the next of one, and the last


def optimiser_step(layer: _Delayed, *_: object) -> None:
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.SGD([layer.weight], lr=0.5).step()


def loaded(layer: _Delayed, *_: object) -> None:
    layer.load_state_dict({name: -2 * p if name == "weight" else p for name, p in layer.state_dict().items()})


def assigned(layer: _Delayed, *_: object) -> None:
    state = {name: -2 * p if name == "weight" else p.clone() for name, p in layer.state_dict().items()}
    layer.load_state_dict(state, assign=True)


def assigned_in_inference_mode(layer: _Delayed, *_: object) -> None:
    with torch.inference_mode():
        layer.load_state_dict({n: 2.0 * v if n == "weight" else v for n, v in layer.state_dict().items()}, assign=True)


def data(layer: _Delayed, *_: object) -> None:
    layer.weight.data = layer.weight * 3.0


def same_memory(layer: _Delayed, *_: object) -> None:
    values = layer.weight.data
    values.mul_(3.0)
    layer.weight = torch.nn.Parameter(values.data)  # of the same version, too


def delays(layer: _Delayed, *_: object) -> None:
    layer.delay = 3


def rounded(layer: _Delayed, *_: object) -> None:
    layer.P.add_(1.4).round_()
    layer.clamp_()


def narrower(layer: _Delayed, *_: object) -> None:
    layer.to(torch.float32)


def bias_in_place(layer: _Delayed, *_: object) -> None:
    layer.bias.add_(1.0)


def no_bias(layer: _Delayed, *_: object) -> None:
    layer.bias = None


def reset(_: _Delayed, block: carry, x: torch.Tensor) -> None:
    block.reset(torch.tensor([False, True]))


CHANGES = [
    optimiser_step, loaded, assigned, assigned_in_inference_mode, data, delays, rounded, narrower, same_memory,
    bias_in_place, no_bias, reset,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_steps_is_heard(change: Act) -> None:
    before, after = streamed(linear()), same_without_the_short_way(linear, change)
    assert all(map(torch.equal, before[:CHANGE], after[:CHANGE]))
    assert not torch.allclose(torch.cat(before[CHANGE:]), torch.cat(after[CHANGE:]), rtol=1e-10)


def test_memory_that_is_given_out_again_is_not_taken_for_the_old() -> None:
    def twice(layer: _Delayed, *_: object) -> None:
        values = layer.P.data - 1.0
        layer.P.data = layer.P.data + 1.0  # the memory of before is free now, if nobody holds it
        layer.P.data = values.clone()

    def once(layer: _Delayed, *_: object) -> None:
        layer.P.sub_(1.0)

    assert all(map(torch.equal, streamed(linear(), twice), streamed(linear(), once)))


def wider(layer: _Delayed, *_: object) -> None:
    layer.SIG.mul_(2.0)


def triangles(layer: _Delayed, *_: object) -> None:
    layer.profile = Triangle()


@pytest.mark.parametrize("change", [wider, triangles])
def test_another_width_or_profile_is_heard(change: Act) -> None:
    def make() -> _Delayed:
        torch.manual_seed(0)
        return DelayLinear(18, 20, 9, dtype=torch.float64)

    before, after = streamed(make()), same_without_the_short_way(make, change)
    assert not torch.allclose(torch.cat(before[CHANGE:]), torch.cat(after[CHANGE:]))


class Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def called(x_to: Callable[[torch.Tensor], torch.Tensor], around: Callable[[], AbstractContextManager[object]]) -> Act:
    def act(layer: _Delayed, _: carry, x: torch.Tensor) -> torch.Tensor:
        with around():
            return layer(x_to(x))

    return act


def strided(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x, x + 1], -1)[..., 0]


def twice(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, 1 - x])


CALLS = {
    "gradients": called(lambda x: x, torch.enable_grad),
    "strided": called(strided, nullcontext),
    "two steps": called(twice, nullcontext),
    "no step": called(lambda x: x[:0], nullcontext),
    "float16": called(torch.Tensor.half, nullcontext),
    "float32": called(torch.Tensor.float, nullcontext),
    "autocast": called(lambda x: x, lambda: torch.autocast("cpu", torch.bfloat16)),
    "mode": called(lambda x: x, Watch),
    "inference": called(lambda x: x, torch.inference_mode),
    "another device by default": called(lambda x: x, lambda: torch.device("meta")),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_unusual_call_in_mid_stream_gives_what_it_gives_and_the_stream_goes_on(
    call: str, general: list[int]
) -> None:
    taken = []

    def act(layer: _Delayed, block: carry, x: torch.Tensor) -> torch.Tensor:
        before = len(general)
        y = CALLS[call](layer, block, x)
        taken.append(len(general) - before)
        assert isinstance(y, torch.Tensor) and y.is_cpu and y.requires_grad == (call == "gradients")
        return y

    same_without_the_short_way(linear, act)
    assert taken == [call not in ("inference", "another device by default"), 1]


@pytest.mark.parametrize("transform", ["vmap", "jvp"])
def test_transforms_of_torch_func_in_mid_stream_take_the_general_way(transform: str, general: list[int]) -> None:
    layer, x = linear(), spikes()
    with torch.no_grad(), carry(layer):
        y = [layer(step) for step in x[:CHANGE].split(1)]
        if transform == "vmap":
            y.append(torch.func.vmap(layer)(x[None, CHANGE : CHANGE + 1])[0])
        else:
            y.append(torch.func.jvp(layer, (x[CHANGE : CHANGE + 1],), (x[:1],))[0])
    assert len(general) == 3
    torch.testing.assert_close(torch.cat(y), layer(x[: CHANGE + 1]), rtol=1e-12, atol=1e-12)


def test_a_mode_sees_the_operators_of_a_step() -> None:
    layer, watch = linear(), Watch()
    with torch.no_grad(), carry(layer):
        for _ in range(3):
            layer(spikes()[:1])
        with watch:
            layer(spikes()[:1])
    assert "snnkit.delay_kernel.default" in watch.seen


def test_errors_in_mid_stream_are_those_of_the_general_way_and_change_nothing() -> None:
    layer, x = linear(), spikes()
    with torch.no_grad(), carry(layer):
        y = [layer(step) for step in x[:CHANGE].split(1)]
        for wrong, kind, message in (
            (x[:1, :1], ValueError, "holds a state for 2 samples, got 1"),
            (x[:1, :, :17], ValueError, r"expects \[T, B, 18\]"),
            (x[:1].int(), TypeError, "expects a floating x"),
            (x[:1].numpy(), TypeError, "expects a tensor"),
        ):
            with pytest.raises(kind, match=message):
                layer(wrong)
        with pytest.raises(ValueError, match="tail must be 0 inside"):
            layer(x[:1], tail=2)
        y += [layer(step) for step in x[CHANGE:].split(1)]
    torch.testing.assert_close(torch.cat(y), layer(x), rtol=1e-12, atol=1e-12)


def test_two_uses_in_one_pass_are_refused_in_mid_stream() -> None:
    layer = DelayLinear(18, 18, 9, dtype=torch.float64).discretize()
    model, x = torch.nn.ModuleList([layer]), spikes()[:1]
    model.forward = lambda x, uses: [layer(x) for _ in range(uses)]
    with torch.no_grad(), carry(model):
        for _ in range(4):
            model(x, 1)
        with pytest.raises(RuntimeError, match="runs twice in one forward pass"):
            model(x, 2)


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "torch's"])
def test_a_recomputed_step_repeats_its_answer_or_is_refused(ours: bool) -> None:
    layer, x = linear(), spikes()
    answers = []

    def block(weight: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            answers.append(layer(x[CHANGE : CHANGE + 1]))
        return (weight * weight * answers[-1].sum()).sum()

    weight = torch.ones(2, requires_grad=True)
    with carry(layer):
        with torch.no_grad():
            y = [layer(step) for step in x[:CHANGE].split(1)]
        if ours:
            loss = checkpoint(block, weight)
        else:
            loss = torch.utils.checkpoint.checkpoint(block, weight, use_reentrant=False)
        with torch.no_grad():
            y += [answers[0], *(layer(step) for step in x[CHANGE + 1 : -1].split(1))]
        if ours:
            loss.backward()
            assert torch.equal(*answers)
        else:
            with pytest.raises(RuntimeError, match=r"run again in the backward pass.*snnkit\.nn\.checkpoint"):
                loss.backward()
        with torch.no_grad():
            y.append(layer(x[-1:]))
    torch.testing.assert_close(torch.cat(y), layer(x), rtol=1e-12, atol=1e-12)


def test_hooks_run_at_each_step_and_may_change_its_input() -> None:
    layer, x, seen = linear(), spikes(), []
    layer.register_forward_pre_hook(lambda _, args: (2 * args[0],))
    layer.register_forward_hook(lambda _, args, y: seen.append(y))
    with torch.no_grad(), carry(layer):
        y = [layer(step) for step in x.split(1)]
    assert len(seen) == STEPS
    torch.testing.assert_close(torch.cat(y), layer(x), rtol=1e-12, atol=1e-12)


def test_answers_are_memory_of_their_own() -> None:
    layer, x = linear(), spikes()
    with torch.no_grad(), carry(layer):
        y = [layer(step) for step in x.split(1)]
        copies = [each.clone() for each in y]
        y[-1].fill_(7.0)
        layer(x[:1])
    assert all(map(torch.equal, y[:-1], copies[:-1]))
    assert len({each.data_ptr() for each in y}) == STEPS


def test_the_end_of_a_block_frees_the_state_at_once_and_the_next_one_starts_from_silence() -> None:
    layer, x = linear(), spikes()
    first = streamed(layer)
    with torch.no_grad(), carry(layer):
        for step in x.split(1):
            layer(step)
        line = weakref.ref(layer._slot.state["line"])
    assert line() is None
    assert all(map(torch.equal, streamed(layer), first))
