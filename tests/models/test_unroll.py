"""Binary spikes over T x D steps answer as the integer network does, layer by layer, wherever neurons feed a layer."""

import pytest
import torch
from torch import Tensor, nn

import snnkit
from snnkit.models import fold, unroll
from snnkit.nn import (
    IELIF,
    LIF,
    SDSA1,
    SSA,
    ConvNormNeuron,
    PerStep,
    RepConv,
    SEWShortcut,
    UnrolledIELIF,
    UnrolledLayer,
)
from snnkit.nn.quantised_attention import integer_neuron
from snnkit.nn.unrolled import SummedIELIF
from tests.models.test_qsd_transformer import images, lively

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear, UnrolledLayer)


def inputs(model: nn.Module, kinds: tuple[type, ...], x: Tensor) -> dict[str, Tensor]:
    """What each layer of these kinds reads."""
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: seen.__setitem__(name, given[0]))
        for name, layer in model.named_modules() if isinstance(layer, kinds)
    ]  # fmt: skip
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen


def levels(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The answer of each integer neuron, or the sum of its binary spikes, with T rows."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, layer: nn.Module, y: Tensor) -> None:
        seen[name] = layer.summed(y) if type(layer) is UnrolledIELIF else y

    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, IELIF | UnrolledIELIF)}
    hooks = [
        layer.register_forward_hook(lambda layer, _, y, name=name: keep(name, layer, y))
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(("D", "steps", "frames"), [(4, 1, None), (4, 3, None), (3, 1, 2), (8, 1, 1)])
def test_answers_and_every_integer_level_stay(D, steps, frames):
    model = lively(D=D, steps=steps).eval()
    x = images() if frames is None else torch.stack([images(3) * (t + 1) for t in range(frames)])
    binary = unroll(model)
    torch.testing.assert_close(binary(x), model(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(binary.forward_features(x), model.forward_features(x), rtol=0, atol=1e-10)
    there, here = levels(model, x), levels(binary, x)
    assert there.keys() == here.keys() and len(there) == 35
    for name, y in there.items():
        assert torch.equal(here[name], y), name
        assert y.unique().numel() > 1, name


def test_all_that_neurons_feed_reads_binary_spikes_of_all_steps():
    binary, x = unroll(lively(steps=3).eval()), images()
    seen = inputs(binary, LAYERS, x)
    on_spikes = {name: s for name, s in seen.items() if isinstance(binary.get_submodule(name), UnrolledLayer)}
    # Stem, 4 x (4 in a ConvBlock), 4 downsamplings, 2 x (4 of attention, 2 of the MLP), head; the stem reads the image.
    assert len(on_spikes) == 4 * 4 + 4 + 2 * (4 + 2) + 1
    for name, s in on_spikes.items():
        assert len(s) == 3 * 4, name
        assert set(s.unique().tolist()) <= {0.0, 1.0}, name
        assert s.any(), name
    separable = [f"stages.{stage}.separable.conv.1.module.1" for stage in ("0.0", "1.1", "2.1", "2.2")]
    assert sorted(seen.keys() - on_spikes.keys()) == sorted(["stem.conv", *separable])


def test_attention_gets_the_sums_and_is_followed_by_binary_spikes():
    binary = unroll(lively().eval())
    for stage in (1, 3):
        mixer = binary.stages[3][stage].mixer
        assert all(type(getattr(mixer, name).neuron) is SummedIELIF for name in "qkv")
        assert type(mixer.neuron) is UnrolledIELIF and mixer.neuron.neuron.divisor == 2


def test_firing_rates_are_those_of_binary_spikes():
    model, x = lively().eval(), images()
    binary = unroll(model)
    with snnkit.firing_rates(model) as there, snnkit.firing_rates(binary) as here:
        model(x)
        binary(x)
    assert there.keys() == here.keys()
    for name, rate in there.items():
        neuron = model.get_submodule(name)
        assert here[name] == pytest.approx(rate * neuron.divisor / neuron.D, rel=1e-12), name


def test_any_network_of_these_parts_is_unrolled():
    torch.manual_seed(0)
    two = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 6, 1))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = ConvNormNeuron(nn.Conv2d(3, 4, 3, padding=1), IELIF())
            self.pool = PerStep(nn.MaxPool2d(2))
            self.second = ConvNormNeuron(RepConv(4, 4), IELIF(3, divisor=2), nn.BatchNorm2d(4))
            self.third = ConvNormNeuron(two, pool=nn.AvgPool2d(2))
            self.neuron = IELIF(5)
            self.last = PerStep(nn.Conv2d(6, 2, 2))

        def forward(self, x: Tensor) -> Tensor:
            s = self.second(self.pool(self.first(x)[1]))[1]
            return self.last(self.neuron(self.third(s)[0]))

    net, x = Net().double(), torch.randn(3, 2, 3, 8, 12, dtype=torch.float64)
    for _ in range(30):
        net.train()(x)
    binary = unroll(net.eval())
    y = net(x)
    assert y.std() > 0.01
    torch.testing.assert_close(binary(x), y, rtol=0, atol=1e-10)
    seen = inputs(binary, (UnrolledLayer,), x)
    assert [len(s) for s in seen.values()] == [3 * 4, 3 * 3, 3 * 5]
    assert all(set(s.unique().tolist()) <= {0.0, 1.0} for s in seen.values())


def test_only_the_first_of_two_layers_in_a_row_reads_spikes():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 4), IELIF(), nn.Linear(4, 5), nn.Linear(5, 2)), torch.randn(3, 2, 3)
    binary = unroll(net)
    assert [type(layer) for layer in binary] == [nn.Linear, UnrolledIELIF, UnrolledLayer, nn.Linear]
    torch.testing.assert_close(binary(x), net(x))


def test_spiking_self_attention_with_integer_neurons_is_unrolled():
    torch.manual_seed(0)
    block = SSA(6, heads=2, neuron=integer_neuron).double()
    u = torch.randn(3, 2, 6, 4, 5, dtype=torch.float64)
    s = IELIF()(u)
    block(u, s)
    before = ConvNormNeuron(nn.Conv2d(6, 6, 1), IELIF()).double()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.block = before, block

        def forward(self, x: Tensor) -> Tensor:
            return self.block(*self.before(x))[1]

    net = Net().eval()
    binary = unroll(net)
    s = binary(u)
    assert s.shape[0] == 12 and set(s.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(s.unflatten(0, (3, 4)).mean(1), net(u), rtol=0, atol=1e-12)


def test_the_model_stays_as_it_is_and_the_copy_is_for_inference(tmp_path):
    model, x = lively(), images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    binary = unroll(model)
    assert model.training and not binary.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(RuntimeError, match="is folded"):
        binary.train()
    with pytest.raises(TypeError, match=r"fold\(\)"):
        snnkit.save_checkpoint(binary, tmp_path / "a.safetensors")
    assert torch.equal(unroll(fold(model))(x), binary(x))


def test_what_cannot_be_unrolled_is_refused():
    with pytest.raises(TypeError, match="Only IELIF can be unrolled, got LIF"):
        unroll(lively(neuron=LIF))
    with pytest.raises(TypeError, match="Only IELIF can be unrolled, got LIF"):
        unroll(nn.Sequential(nn.Linear(3, 2), LIF()))
    with pytest.raises(TypeError, match="Only IELIF can be unrolled, got UnrolledIELIF"):
        unroll(unroll(lively()))
    with pytest.raises(TypeError, match=r"whose mix ends in a neuron, got SDSA1"):
        unroll(nn.Sequential(SDSA1(4, heads=2, neuron=integer_neuron)))
    with pytest.raises(TypeError, match="unroll needs membrane shortcuts"):
        unroll(nn.Sequential(ConvNormNeuron(nn.Conv2d(3, 4, 1), IELIF(), shortcut=SEWShortcut())))
