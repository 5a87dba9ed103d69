"""RepConv equals the official unit, border included, and its folded form."""

import copy

import pytest
import torch
from torch import nn

from snnkit.nn.checkpoint import checkpoint
from snnkit.nn.folding import fold_norm
from snnkit.nn.quant import LSQConv2d
from snnkit.nn.repconv import RepConv
from snnkit.nn.time import PerStep
from tests.shared import fixture

OFFICIAL = {
    "body.0.": "mix.",
    "body.1.bn.": "mix_norm.",
    "body.2.0.": "depthwise.",
    "body.2.1.": "pointwise.",
    "body.2.2.": "norm.",
}


def ours(name):
    """Our name of an official tensor."""
    for theirs, our in OFFICIAL.items():
        name = name.replace(theirs, our)
    return name


def net(inputs=3, outputs=5, **keywords):
    """A unit in float64 whose norms have seen something."""
    layer = RepConv(inputs, outputs, **keywords).double()
    with torch.no_grad():
        for norm in (layer.mix_norm, layer.norm):
            for tensor in (norm.running_mean, norm.weight, norm.bias):
                tensor.normal_()
            norm.running_var.uniform_(0.2, 3.0)
    return layer


def pictures(*shape):
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture(params=["repconv", "repconv_bn"])
def official(request):
    """The fixture, the unit with its numbers (repconv_bn: and one more norm), and tensors by our names."""
    numbers = fixture(request.param)
    layer = RepConv(numbers.config["in_channel"], numbers.config["out_channel"])
    if request.param == "repconv_bn":
        layer = nn.Sequential(layer, nn.BatchNorm2d(numbers.config["out_channel"]))

    def tensors(prefix):
        return {ours(n.removeprefix(prefix)): torch.from_numpy(numbers[n]) for n in numbers.names(prefix)}

    layer.load_state_dict(tensors("state/"))
    return numbers, layer.double(), tensors


def test_outputs_gradients_and_statistics_are_the_official_ones(official):
    numbers, layer, tensors = official
    x = tensors("input/")["x"].double()
    torch.testing.assert_close(layer.eval()(x), tensors("output_eval/")["y"], rtol=1e-9, atol=1e-9)
    y = layer.train()(x.requires_grad_())
    torch.testing.assert_close(y, tensors("output/")["y"], rtol=1e-9, atol=1e-9)
    (y * tensors("input/")["loss_weight"]).sum().backward()
    torch.testing.assert_close(x.grad, tensors("grad_input/")["x"], rtol=1e-9, atol=1e-9)
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    torch.testing.assert_close(gradients, tensors("grad/"), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(dict(layer.named_buffers()), tensors("state_after/"), rtol=1e-9, atol=1e-9)


def test_the_folded_convolution_is_the_official_one(official):
    _, layer, tensors = official
    conv = (layer[0] if isinstance(layer, nn.Sequential) else layer).folded()
    weight, bias = conv.weight, conv.bias
    if isinstance(layer, nn.Sequential):
        weight, bias = fold_norm(weight, bias, layer[1])
    expected = tensors("output_folded/")
    torch.testing.assert_close({"weight": weight.detach(), "bias": bias.detach()}, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 7)])
def test_folded_and_unfolded_agree_to_the_border(size):
    layer, x = net().eval(), pictures(4, 3, *size)
    torch.testing.assert_close(layer.folded()(x), layer(x), rtol=1e-12, atol=1e-12)


def test_a_unit_of_four_bits_folds_with_its_quantised_weights():
    layer, x = net(conv=LSQConv2d), pictures(4, 3, 5, 6)
    layer(x)
    layer.eval()
    torch.testing.assert_close(layer.folded()(x), layer(x), rtol=1e-12, atol=1e-12)
    other = net()
    other.load_state_dict(layer.state_dict(), strict=False)
    assert not torch.allclose(other.eval()(x), layer(x))


def test_folding_draws_no_random_numbers_and_keeps_the_dtype():
    layer, before = RepConv(3, 5).bfloat16(), torch.get_rng_state()
    conv = layer.folded()
    assert conv.weight.dtype == conv.bias.dtype == torch.bfloat16
    assert torch.equal(torch.get_rng_state(), before)
    assert RepConv(3, 5).to("meta").folded().weight.is_meta


def test_the_frame_is_of_the_running_statistics_after_the_update():
    layer, x = net(), pictures(4, 3, 5, 6)
    seen = []
    layer.depthwise.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layer(x)
    norm = layer.mix_norm
    value = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
    frame = seen[0].clone()
    torch.testing.assert_close(frame[:, :, 0, 0], value.expand(4, 3))
    frame[:, :, 1:-1, 1:-1] = value[:, None, None]
    assert torch.equal(frame, frame[:1, :, :1, :1].expand(4, 3, 7, 8))


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_are_those_of_the_formula(frozen):
    layer = net(2, 3)
    if frozen:
        layer.mix_norm.eval(), layer.norm.eval()
    else:
        layer.mix_norm.momentum = layer.norm.momentum = 0.0  # else each of the many calls has another frame
    assert torch.autograd.gradcheck(layer, pictures(2, 2, 2, 3).requires_grad_(), atol=1e-6)


def train(layer, x, run, at_once=1):
    """Output, gradients and statistics of two training steps with so many forward passes before each backward."""
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
    running, loss = run(layer), torch.linspace(-1, 1, 480, dtype=x.dtype).view(4, 4, 5, 6)
    for _ in range(2):
        y = [running(x) for _ in range(at_once)]
        sum((k * y_k.sin() * loss).sum() for k, y_k in enumerate(y, 1)).backward()
    return [*y, x.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]


def two():
    return nn.Sequential(net(), nn.Tanh(), net(5, 4))


def checkpointed(layer):
    return lambda x: checkpoint(layer, x)


def nested(layer):
    return lambda x: checkpoint(lambda x: checkpoint(layer[1:], checkpoint(layer[0], x)), x)


@pytest.mark.parametrize("run", [checkpointed, nested])
def test_a_checkpointed_unit_has_the_same_numbers_bit_for_bit(run):
    layer, x = two(), pictures(4, 3, 5, 6)
    for got, expected in zip(train(layer, x, run, 2), train(layer, x, lambda layer: layer, 2), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("run", [lambda layer: layer, checkpointed], ids=["plain", "checkpointed"])
def test_compiled_it_has_the_same_gradients_and_statistics(run):
    layer, x = two(), pictures(4, 3, 5, 6)
    got = train(layer, x, lambda layer: torch.compile(run(layer), backend="aot_eager", fullgraph=True))
    for a, b in zip(got, train(layer, x, lambda layer: layer), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_an_exported_unit_has_torchs_operators_only():
    layer, x = net().eval(), pictures(4, 3, 5, 6)
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(program.module()(x), layer(x))
    assert not [node for node in program.graph.nodes if "snnkit" in str(node.target)]


def test_the_converter_to_synchronised_norms_keeps_the_unit():
    layer, x = net(), pictures(4, 3, 5, 6)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(layer))
    assert isinstance(converted.mix_norm, nn.SyncBatchNorm) and isinstance(converted, RepConv)
    torch.testing.assert_close(converted(x), layer(x))
    torch.testing.assert_close(converted.state_dict(), layer.state_dict())
    torch.testing.assert_close(converted.eval().folded()(x), layer.eval()(x))


def test_channels_last_and_autocast_go_through():
    layer, x = RepConv(4, 6), torch.randn(2, 4, 5, 6).to(memory_format=torch.channels_last)
    assert layer.to(memory_format=torch.channels_last)(x).is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and layer.mix.weight.grad.isfinite().all()


def test_a_sequence_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"expects \[N, C, H, W\], got \(2, 4, 3, 5, 6\).* PerStep\(RepConv"):
        RepConv(3, 5)(torch.zeros(2, 4, 3, 5, 6))
    assert PerStep(RepConv(3, 5))(torch.zeros(2, 4, 3, 5, 6)).shape == (2, 4, 5, 5, 6)
    with pytest.raises(TypeError, match="RepConv has no 'output'. Near: outputs"):
        RepConv(3, output=5)
