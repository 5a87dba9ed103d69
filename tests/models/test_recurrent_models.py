"""RadLIF, SE-adLIF and DelRec networks against the papers' code, their sizes, and what they do beyond that code."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import snnkit
from snnkit.models import DelaySNN, DelaySNNPlus, DelRecNet, RadLIFNet, SEAdLIFNet
from snnkit.models.se_adlif import FromStep
from snnkit.nn import MeanOverTime, SumOfSoftmax, SumOverTime, UniformDelays
from snnkit.nn.losses import cross_entropy
from tests.models.official import distance, load, names
from tests.models.shrink import full_size
from tests.shared import fixture, shared_path

COUNTS = {
    "radlif_shd": "sparch_shd_radlif_3x1024", "radlif_shd_512": "sparch_shd_radlif_3x512",
    "radlif_shd_128": "sparch_shd_radlif_3x128", "radlif_ssc": "sparch_ssc_radlif_3x1024",
    "adlif_shd": "sparch_shd_adlif_3x1024", "adlif_ssc": "sparch_ssc_adlif_3x1024",
    "rlif_shd": "sparch_shd_rlif_3x1024", "lif_shd": "sparch_shd_lif_3x1024",
    "delay_snn_gsc_2l_1kc": "delay_snn_ssc_2l_1kc", "delay_snn_gsc_2l_2kc": "delay_snn_ssc_2l_2kc",
    "delay_snn_gsc_3l_1kc": "delay_snn_ssc_3l_1kc", "delay_snn_gsc_3l_2kc": "delay_snn_ssc_3l_2kc",
    "lif_ssc_2l": "lif_ssc_2l_seadlif_repo",
}  # fmt: skip
SAME = """
delay_snn_ssc_2l_1kc delay_snn_ssc_2l_2kc delay_snn_ssc_3l_1kc delay_snn_ssc_3l_2kc delrec_shd_rec delrec_shd_recff
delrec_ssc_rec delrec_ssc_recff delrec_psmnist_rec se_adlif_shd_2l se_adlif_shd_1l se_adlif_ssc_2l ef_adlif_shd_2l
ef_adlif_ssc_2l delrec_shd_plain delrec_shd_ff delrec_ssc_plain delrec_ssc_ff delrec_equiparam_shd_plain
delrec_equiparam_shd_ff delrec_equiparam_shd_rec delrec_equiparam_shd_recff
""".split()
KEYS = {
    "radlif_shd": "sparch_shd_radlif_3x1024", "adlif_shd": "sparch_shd_adlif_3x1024",
    **{n: n for n in SAME if n.startswith("delay_snn") or n.endswith(("_rec", "_recff")) and "equiparam" not in n},
    **{n: n for n in ("se_adlif_shd_2l", "se_adlif_ssc_2l")},
}  # fmt: skip


@pytest.mark.parametrize("name", [*COUNTS, *SAME])
def test_the_number_of_parameters_is_the_official_one(name):
    counts = json.loads(shared_path("specs/param_counts_delays.json").read_text())
    trained = sum(p.numel() for p in full_size(name).parameters() if p.requires_grad)
    assert trained == counts[COUNTS.get(name, name)]["params"]


@pytest.mark.parametrize("name", KEYS)
def test_the_official_key_list_is_translated_without_rest(name):
    lines = shared_path(f"specs/keys/{KEYS[name]}.txt").read_text().splitlines()
    model = full_size(name)
    own = {key: tuple(value.shape) for key, value in model.state_dict().items() if not key.endswith(".sigma")}
    for line in lines:
        key, _, shape = line.partition(" ")
        if key.endswith(("tau_max", "tau_min")) or key.startswith("out_layer.tau"):
            continue
        ours = names(model, [key])[key]
        assert own.pop(ours) == tuple(int(n) for n in shape.strip("()").split(",") if n.strip()), key
    assert not own


def t(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).double()


def official_gradients(model: nn.Module, numbers) -> None:
    own = dict(model.named_parameters())
    theirs = [key.removeprefix("grad/") for key in numbers.names("grad/")]
    for key, ours in names(model, theirs).items():
        grad = own.pop(ours).grad
        grad = grad.T if key.endswith("V.weight") else grad
        assert distance(grad, numbers[f"grad/{key}"]) < 1e-9, (key, distance(grad, numbers[f"grad/{key}"]))
    assert not own, f"without an official gradient: {list(own)}"


class Start:
    """First states of the layers, in the order of the official draws."""

    def __init__(self, numbers) -> None:
        self.drawn = iter([t(numbers[f"input/rand_{i}"]) for i in range(len(numbers.names("input/rand_")))])

    def give(self, neuron: nn.Module) -> None:
        state = {name: next(self.drawn) for name in neuron.equation.states}
        neuron._first_state = lambda x: state


def test_a_radlif_network_gives_the_official_numbers():
    numbers = fixture("adlif_sparch_net")
    model = load(RadLIFNet(10, (12, 12), 5, dropout=0.0), numbers)
    start = Start(numbers)
    for block in model.blocks:
        start.give(block.neuron.neuron)
    start.give(model.head.membrane)
    x = t(numbers["input/x"]).requires_grad_()
    with snnkit.firing_rates(model) as rates:
        y = model.train()(x.transpose(0, 1))
    loss = cross_entropy(y, torch.from_numpy(numbers["input/target"]))
    loss.backward()
    assert distance(y, numbers["output/out"]) < 1e-9 and distance(loss, numbers["loss"]) < 1e-9
    assert distance(x.grad, numbers["grad_input/x"]) < 1e-9
    official_gradients(model, numbers)
    for i in range(2):
        assert rates[f"blocks.{i}.neuron.neuron"] == pytest.approx(float(numbers[f"rate/snn.{i}"]), abs=1e-12)
        after = numbers[f"state_after/snn.{i}.norm.running_var"]
        assert distance(model.blocks[i].norm.running_var, after) < 1e-9


def test_an_se_adlif_network_gives_the_official_numbers():
    numbers = fixture("se_adlif_net")
    model = load(SEAdLIFNet(10, (12, 12), 5, dropout=0.0, first_step=4), numbers)
    lengths = torch.from_numpy((numbers["input/block_idx"] == 1).sum(1) + 4)
    target = torch.from_numpy(numbers["input/target"])[:, 1]
    x = t(numbers["input/x"]).requires_grad_()
    y = model.train()(x.transpose(0, 1), lengths)
    loss = nn.functional.cross_entropy(y.float(), target)  # in float32 there, too
    loss.backward()
    assert distance(y, numbers["output/reduced"][1::2]) < 1e-9
    assert distance(loss, numbers["loss"]) < 1e-6
    official_gradients(model, numbers)
    assert distance(x.grad, numbers["grad_input/x"]) < 1e-9
    model.head.readout.readout = MeanOverTime()
    assert distance(model(x.transpose(0, 1), lengths), numbers["output/reduced_mean"][1::2]) < 1e-9
    model.head.readout = None
    assert distance(model(x.transpose(0, 1)).transpose(0, 1), numbers["output/out_seq"]) < 1e-9


def test_the_lif_baseline_of_baronig_et_al_gives_the_official_numbers():
    numbers = fixture("se_adlif_lif_cell")
    model = SEAdLIFNet(10, (12,), 5, adaptive=False, dropout=0.0).double()  # SLAYER(5, 1): c = 0.4
    state = {f"l1.{key[6:]}": torch.from_numpy(numbers[key]) for key in numbers.names("state/")}
    head = {f"out_layer.{key}": value for key, value in model.head.synapse.state_dict().items()}
    snnkit.load_checkpoint(model, state | head)
    x = t(numbers["input/x"]).requires_grad_()
    block = model.blocks[0]
    s, traces = block.neuron(block.synapse(x.transpose(0, 1)), record=("v",))
    s, u = s.transpose(0, 1), traces["v"].transpose(0, 1)
    loss = (s * t(numbers["input/loss_weight"])).sum() + (u * t(numbers["input/loss_weight_u"])).sum()
    loss.backward()
    assert np.array_equal(s.detach().numpy(), numbers["output/spike"])
    assert distance(u, numbers["output/u_after_reset"]) < 1e-9 and distance(loss, numbers["loss"]) < 1e-9
    assert distance(x.grad, numbers["grad_input/x"]) < 1e-9
    own = dict(block.named_parameters())
    for key in numbers.names("grad/"):
        ours = names(model, [f"l1.{key[5:]}"])[f"l1.{key[5:]}"].removeprefix("blocks.0.")
        assert distance(own.pop(ours).grad, numbers[key]) < 1e-9, key
    assert not own


def test_a_file_of_se_neurons_is_refused_by_a_network_of_ef_neurons(tmp_path):
    snnkit.save_checkpoint(SEAdLIFNet(6, (8,), 3), tmp_path / "se.safetensors")
    with pytest.raises(ValueError, match=r"saved with symplectic=True, this model has symplectic=False"):
        snnkit.load_checkpoint(SEAdLIFNet(6, (8,), 3, symplectic=False), tmp_path / "se.safetensors")
    with pytest.raises(ValueError, match=r"saved with symplectic=True, got symplectic=False"):
        snnkit.load_model(tmp_path / "se.safetensors", symplectic=False)


class Mask(nn.Module):
    """Dropout with the mask that the official run drew."""

    def __init__(self, mask: np.ndarray) -> None:
        super().__init__()
        self.mask = t(mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mask if self.training else x


@pytest.mark.parametrize("name", ["delrec_shd", "delrec_shd_dropout", "delrec_shd_recff"])
def test_a_delrec_network_gives_the_official_numbers(name):
    numbers = fixture(name)
    taps = numbers.config["max_feedforward_delay"] if name.endswith("recff") else None
    model = DelRecNet(10, (12, 12), 5, feedforward=taps, dropout=0.0, recurrent_dropout=0.0, sigma=1.0, readout=None)
    model = load(model, numbers)
    if "dropout" in name:
        masks = [numbers[f"input/dropout_mask/layers.{k}"] for k in ("4", "7.dropout", "9")]
        model.blocks[0].dropout, model.blocks[1].dropout = Mask(masks[0]), Mask(masks[2])
        model.blocks[1].neuron.dropout = Mask(masks[1])
    x = t(numbers["input/x"]).requires_grad_()
    with torch.no_grad():
        assert distance(model.eval()(x), numbers["output_eval/out_seq_continuous"]) < 1e-9
        assert distance(model.discretize()(x), numbers["output_eval/out_seq_rounded"]) < 1e-9
    with snnkit.firing_rates(model) as rates:
        v = model.train()(x)
    loss = cross_entropy(SumOfSoftmax()(v), torch.from_numpy(numbers["input/target"]))
    loss.backward()
    assert distance(v, numbers["output/out_seq"]) < 1e-9 and distance(loss, numbers["loss"]) < 1e-9
    assert distance(x.grad, numbers["grad_input/x"]) < 1e-9
    official_gradients(model, numbers)
    assert rates["blocks.0.neuron"] == pytest.approx(float(numbers["rate/layers.3"]), abs=1e-12)
    assert rates["blocks.1.neuron.neuron"] == pytest.approx(float(numbers["rate/layers.8"]), abs=1e-12)


def test_the_small_delrec_network_is_the_large_one_without_norms_and_biases():
    torch.manual_seed(0)
    sizes = dict(in_features=6, hidden=(8, 9), num_classes=3, max_delay=6, start=UniformDelays(0.0, 4.0), sigma=2.0)
    small = snnkit.create_model("delrec_equiparam_shd_recff", **sizes | dict(feedforward=5)).double().eval()
    large = DelRecNet(**sizes, feedforward=5, tail=0, tau=2.0).double().eval()
    assert not large.load_state_dict(small.state_dict(), strict=False).unexpected_keys
    for block in large.blocks:
        block.norm, block.synapse.bias = None, None
    large.head.synapse.bias = None
    x = 3 * speech(small)
    assert torch.equal(small(x), large(x)) and small(x).std() > 0.1
    assert small.blocks[0].synapse.weight.abs().max() <= 6**-0.5  # torch's start


def test_the_small_delrec_networks_read_files_of_their_code():
    model = snnkit.create_model("delrec_equiparam_shd_rec", in_features=6, hidden=(8, 9), num_classes=3)
    shapes = {"0.weight": (8, 6), "4.weight": (9, 8), "8.weight": (3, 9)}  # linear, neurons, recorder, dropout a block
    shapes |= {"5.recurrent_weights": (9, 9), "5.recurrent_delays": (9,)}
    state = {f"layers.{key}": torch.rand(shape) for key, shape in shapes.items()}
    assert snnkit.load_checkpoint(model, state).source == "DelRec"
    assert torch.equal(model.blocks[1].neuron.delay, state["layers.5.recurrent_delays"])
    assert names(model, ["layers.1.", "layers.2.", "layers.6."]) == {
        "layers.1.": "blocks.0.neuron.", "layers.2.": "blocks.0.neuron.", "layers.6.": "blocks.1.neuron."
    }  # fmt: skip
    raw = snnkit.create_model("delrec_ssc_rec", in_features=6, hidden=(8, 9), num_classes=3)
    assert names(raw, ["layers.3.", "layers.7."]) == {"layers.3.": "blocks.0.neuron.", "layers.7.": "blocks.1.neuron."}


def speech(model: nn.Module, steps: int = 14, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 4, (steps, batch, model.in_features), generator=generator).double()


MODELS = {
    "radlif": lambda: RadLIFNet(6, (8, 9), 3),
    "both ways": lambda: RadLIFNet(6, (8, 9), 3, bidirectional=True),
    "layer norm": lambda: RadLIFNet(6, (8, 9), 3, layer_norm=True, recurrent=False, adaptive=False),
    "se": lambda: SEAdLIFNet(6, (8, 9), 3, first_step=2),
    "baronig": lambda: SEAdLIFNet(6, (8, 9), 3, first_step=2, adaptive=False),
    "delrec": lambda: DelRecNet(6, (8, 9), 3, feedforward=5),
    "ff alone": lambda: DelRecNet(6, (8, 9), 3, recurrent=False, feedforward=5, batch_norm=False, bias=False),
    "delrec raw": lambda: snnkit.create_model(
        "delrec_ssc_recff", in_features=6, hidden=(8, 9), num_classes=3, feedforward=5
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_with_lengths_a_sample_answers_as_if_it_were_alone(name):
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    x, lengths = speech(model), torch.tensor([14, 6, 9])
    y = model(x, lengths)
    for b, steps in enumerate(lengths.tolist()):
        alone = model(x[:steps, b : b + 1])
        torch.testing.assert_close(y[b : b + 1], alone, rtol=1e-10, atol=1e-12)
    x[6:, 1] = 99.0
    assert torch.equal(model(x, lengths), y)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_script_finds_what_it_asks_for(name):
    torch.manual_seed(0)
    model = MODELS[name]().double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for twin in (model.discretize(), model.without_delays()):
        assert not twin.training and twin(speech(model)).shape == (3, 3)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    groups = model.parameter_groups()
    assert sum(map(len, groups)) == len(list(model.parameters()))
    positions = [key for key, p in model.named_parameters() if any(p is q for q in groups.positions)]
    assert all(key.endswith((".delay", ".spread", ".P")) for key in positions)
    assert bool(positions) == ("delrec" in name or "ff" in name)
    assert bool(model.schedules(10)) == ("delrec" in name) == bool(getattr(model, "sigma", 0.0))
    for parameter in model.parameters():
        parameter.data.fill_(-5.0)
    model.clamp_()
    for key, parameter in model.named_parameters():
        if key.endswith((".delay", "omega_u", "omega_w")) or (name == "se" and key.endswith("neuron.neuron.b")):
            assert (parameter == 0).all(), key
    model.reset_classifier(7)
    assert model.eval()(speech(model)).shape == (3, 7)


def test_the_published_start_of_sparch_is_random_on_request():
    torch.manual_seed(0)
    model = RadLIFNet(6, (8,), 3, random_start=True).double().eval()
    assert not torch.equal(model(speech(model)), model(speech(model)))


@pytest.mark.parametrize("recurrent", [True, False])
def test_a_random_start_of_neurons_without_adaptation_has_no_adaptation_current(recurrent):
    model = RadLIFNet(6, (8,), 3, adaptive=False, recurrent=recurrent, random_start=True).double()
    layer = model.blocks[0].neuron
    x = torch.zeros(5, 2, 8, dtype=torch.float64)
    torch.manual_seed(4)
    _, traces = layer(x, record=("u", "w"))
    assert not traces["w"].any()
    torch.manual_seed(4)
    u, s = torch.rand(2, 2, 8, dtype=torch.float64)  # sparch's LIF draws u, then s
    alpha = layer.get_parameter("neuron.alpha" if recurrent else "alpha")
    heard = s @ (layer.weight - layer.weight.diag().diag()).T if recurrent else 0.0
    torch.testing.assert_close(traces["u"][0], alpha * (u - s) + (1 - alpha) * heard, rtol=1e-12, atol=1e-12)


def test_what_only_counts_from_some_step_on_is_streamed_and_reset_alike():
    readout = FromStep(SumOverTime(), 3)
    x = torch.arange(1.0, 9.0).reshape(8, 1, 1).expand(8, 2, 1)
    assert readout(x).flatten().tolist() == [30.0, 30.0]  # 4 + ... + 8
    assert readout(x, torch.tensor([5, 2])).flatten().tolist() == [9.0, 0.0]
    assert FromStep(MeanOverTime(), 3)(x, torch.tensor([5, 2])).flatten().tolist() == [4.5, 0.0]
    with snnkit.carry(readout) as state:
        readout(x[:2]), readout(x[2:5])
        state.reset(torch.tensor([False, True]))
        assert readout(x[5:]).flatten().tolist() == [30.0, 0.0]


def test_official_files_with_other_ranges_are_refused():
    numbers = fixture("se_adlif_net")
    state = {key.removeprefix("state/"): torch.from_numpy(numbers[key]) for key in numbers.names("state/")}
    state["l1.tau_u_trainer.tau_max"] = torch.tensor(40)
    with pytest.raises(ValueError, match=r"l1.tau_u_trainer.tau_max is 40|tau_u_trainer.tau_max is 40, here 25"):
        snnkit.load_checkpoint(SEAdLIFNet(10, (12, 12), 5), state)


def test_official_delays_above_max_delay_are_refused_and_those_below_0_clamped_with_a_warning():
    numbers = fixture("delrec_shd")
    state = {key.removeprefix("state/"): torch.from_numpy(numbers[key]) for key in numbers.names("state/")}
    name = next(key for key in state if key.endswith("recurrent_delays"))
    model = DelRecNet(10, (12, 12), 5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"blocks.1.neuron.delay reaches 75.3 steps.*Build it with max_delay=76"):
        snnkit.load_checkpoint(model, state | {name: torch.full((12,), 75.3)})
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    longer = DelRecNet(10, (12, 12), 5, max_delay=76)
    snnkit.load_checkpoint(longer, state | {name: torch.full((12,), 75.3)})
    assert longer.discretize().blocks[1].neuron.delay.eq(75.0).all()
    with pytest.warns(UserWarning, match=r"1 positions .* or delays below 0.*\(blocks.1.neuron.delay\)"):
        loaded = snnkit.load_checkpoint(model, state | {name: torch.tensor([-2.0] + 11 * [3.0])})
    assert loaded.clamped == {"blocks.1.neuron.delay": 1}


@pytest.mark.parametrize("build", [DelaySNN, DelaySNNPlus, DelRecNet, RadLIFNet, SEAdLIFNet])
def test_sizes_of_layers_are_a_sequence_and_none_is_a_network_without_hidden_layers(build):
    with pytest.raises(TypeError, match=r"hidden must be a sequence of sizes, got 128. Write hidden=\(128,\)"):
        build(hidden=128)
    for hidden in ((8, 0), (8, True), (8, 2.0)):
        with pytest.raises(ValueError, match=rf"hidden\[1\] must be a whole number >= 1, got {hidden[1]}"):
            build(hidden=hidden)
    linear = build(in_features=20, hidden=(), num_classes=3)
    linear.reset_classifier(4)
    assert linear(torch.ones(12, 2, 20), torch.tensor([12, 5])).shape == (2, 4)
    assert linear.num_features == 20 or build is DelaySNNPlus  # whose first layer is a local one
