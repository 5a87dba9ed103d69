"""The small networks for spoken digits: sizes, lengths, what a layer hears, and the readout of their own."""

import pytest
import torch

import snnkit
from snnkit.models.delay_snn_plus import AdLIFNeurons, DelaySNNPlus, LIFNeurons, Local, LogMeanExp
from tests.models.shrink import NAMES, full_size


def small(**keywords):
    torch.manual_seed(0)
    sizes = dict(in_features=14, hidden=(8, 9), num_classes=4, max_delay=5, local=Local(3, 4, 3, 3), tail=2)
    model = DelaySNNPlus(**sizes | keywords)
    for block in model.blocks:  # so that all layers fire
        torch.nn.init.constant_(block.norm.weight, 2.0)
        torch.nn.init.constant_(block.norm.bias, 0.5)
    return model


@pytest.mark.parametrize("name", [name for name in NAMES if "_plus" in name])
def test_a_plus_network_has_less_than_300_000_parameters(name):
    assert sum(p.numel() for p in full_size(name).parameters()) < 300_000  # the frozen widths, too


def counts(steps=12, batch=3):
    return torch.randint(0, 4, (steps, batch, 14), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_padded_sample_answers_as_if_it_were_alone(recurrent):
    model = small(recurrent=recurrent, neuron=AdLIFNeurons()).eval().double()
    x, lengths = counts().double(), torch.tensor([12, 7, 9])
    x[9:, 2] = 5.0  # noise behind its end
    together = model(x, lengths)
    for b, steps in enumerate(lengths.tolist()):
        torch.testing.assert_close(model(x[:steps, b : b + 1])[0], together[b], rtol=1e-12, atol=1e-12)


def test_later_steps_change_no_earlier_answer():
    model, x = small(readout=None).eval().double(), counts().double()
    y = model(x)
    x[7:] = 0.0
    assert torch.equal(model(x)[:7], y[:7]) and not torch.equal(model(x)[7:], y[7:])


def test_the_layers_behind_skips_hear_two_layers():
    model = small(hidden=(8, 9, 10), skip=True)
    heard = [block.synapse.in_features for block in model.blocks[1:]]
    assert heard == [15, 8, 8 + 9] and model.head.synapse.in_features == 9 + 10
    assert small(hidden=(8, 9), skip=True, local=None)(counts()).shape == (3, 4)


def test_pooling_joins_neighbouring_places():
    model, pooled = small(), small(local=Local(3, 4, 3, 3, pool=2, dropout=0.0)).eval()
    assert (model.blocks[0].features, pooled.blocks[0].features) == (15, 9)  # 5 places; 3 of them
    spikes = pooled.blocks[0](counts())
    assert set(spikes.unique().tolist()) <= {0.0, 1.0}


def test_inputs_are_logarithms_of_counts():
    model, plain = small().eval(), small(log_input=False).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(counts()), plain(counts().log1p()))
    assert torch.equal(model(-counts()), model(torch.zeros_like(counts())))


def test_delays_to_the_answer_are_rounded_and_saved_with_the_rest(tmp_path):
    model = small(head_delay=5, kernel_count=2, local_neuron=LIFNeurons(tau=3.0)).eval()
    twin = model.discretize()
    assert ((twin.head.synapse.kernel() != 0).sum(-1) <= 2).all()
    snnkit.save_checkpoint(model, tmp_path / "model.safetensors")
    torch.testing.assert_close(snnkit.load_model(tmp_path / "model.safetensors")(counts()), model(counts()))


def test_log_mean_exp_lies_between_mean_and_maximum_and_joins_chunks():
    readout, x = LogMeanExp(), torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(2))
    y = readout(x, torch.tensor([7, 4]))
    torch.testing.assert_close(y[1], x[:4, 1].exp().mean(0).log())
    assert (y[0] > x[:, 0].mean(0)).all() and (y[0] < x[:, 0].max(0).values).all()
    with snnkit.carry(readout):
        for part in x.split((2, 5)):
            last = readout(part)
    torch.testing.assert_close(last, readout(x))


def test_what_cannot_be_is_refused():
    with pytest.raises(TypeError, match=r"Write hidden=\(8,\)"):
        small(hidden=8)
    with pytest.raises(ValueError, match="tail must be >= 0, got -1"):
        small(tail=-1)
    with pytest.raises(ValueError, match=r"DelaySNNPlus expects \[T, B, 14\]"):
        small()(torch.zeros(3, 2, 9))


def test_the_registered_network_is_the_one_of_the_results():
    sizes = {True: 0, False: 0}  # trained, frozen
    for p in snnkit.create_model("delay_snn_plus").parameters():
        sizes[p.requires_grad] += p.numel()
    assert sizes == {True: 197_466, False: 97_424}
