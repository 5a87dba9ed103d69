"""The delay network against the numbers of the paper's official code, and what it does beyond that code."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import snnkit
from snnkit.models import DelaySNN, FixedDelays, LearntDelays
from snnkit.nn.losses import cross_entropy
from snnkit.nn.readout import SumOfSoftmax, SumOverTime
from snnkit.ops.delay import Gauss, Triangle
from tests.shared import Fixture, fixture, shared_path

TRAINED = ["train", "vmax", "lr0", "plif", "synfilter", "dropout_bias", "eval_discrete", "padding"]


class Mask(nn.Module):
    """Dropout with the mask that the official run drew."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mask if self.training else x


def build(reference: Fixture, **more) -> DelaySNN:
    """The network of a fixture, in float64, with its weights; answers with the membranes of all steps."""
    c = reference.config
    delays = LearntDelays(Gauss() if c["DCLSversion"] == "gauss" else Triangle(), width=float(c["sigInit"]))
    if c["model_type"] == "snn_delays_lr0":
        delays = FixedDelays()
    arguments = dict(
        in_features=c["n_inputs"],
        hidden=(c["n_hidden_neurons"],) * c["n_hidden_layers"],
        num_classes=c["n_outputs"],
        max_delay=c["max_delay"],
        kernel_count=c["kernel_count"],
        delays=delays,
        bias=c["bias"],
        tau=c["init_tau"],
        v_threshold=c["v_threshold"],
        detach_reset=c["detach_reset"],
        learn_tau=c["spiking_neuron_type"] == "plif",
        filter_tau=c["stateful_synapse_tau"] if c["stateful_synapse"] else None,
        learn_filter=c["stateful_synapse_learnable"],
        dropout=c["dropout_p"],
        readout=None,
    )
    model = DelaySNN(**{**arguments, **more}).double()
    state = {k.removeprefix("state/"): torch.from_numpy(reference[k]) for k in reference.names("state/")}
    assert snnkit.load_checkpoint(model, state).source == "SNN-delays"
    for i, name in enumerate(sorted(reference.names("input/dropout_mask/"))):
        model.blocks[i].dropout = Mask(torch.from_numpy(reference[name]))
    return model


def ours(model: DelaySNN, name: str) -> str:
    """Our name of an official tensor."""
    from snnkit.models._official import TABLES

    rows = TABLES["SNN-delays"].rows(model)
    return next(b + name.removeprefix(a) for a, b in rows if name.startswith(a))


def close(got: torch.Tensor, expected: np.ndarray, what: str, tolerance: float = 1e-9) -> None:
    """1e-9 of the tensor's norm; absolute where the exact value is zero (biases before a batch norm)."""
    difference = np.linalg.norm(got.detach().double().numpy() - expected)
    norm = np.linalg.norm(expected)
    assert difference <= tolerance * (norm if norm > 1e-6 else 1), f"{what}: {difference} of {norm}"


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_gives_the_official_numbers(name):
    reference = fixture(f"snn_delays_{name}")
    model = build(reference).train()
    x = torch.from_numpy(reference["input/x"]).double().requires_grad_()
    target = torch.from_numpy(reference["input/target_onehot"]).double()

    with snnkit.firing_rates(model) as rates:
        v = model(x)
    m = SumOfSoftmax()(v)
    loss = cross_entropy(m, target)
    loss.backward()

    close(v, reference["output/v_seq"], "membranes")
    close(m, reference["output/softmax_sum"], "answer")
    close(loss, reference["loss"], "loss")
    close(x.grad, reference["grad_input/x"], "gradient of x")
    parameters = dict(model.named_parameters())
    official = {ours(model, key.removeprefix("grad/")): reference[key] for key in reference.names("grad/")}
    assert set(official) == {key for key, p in parameters.items() if p.requires_grad}
    for key, expected in official.items():
        close(parameters[key].grad, expected, f"gradient of {key}")
    # The fixture's state_after was taken after the official evaluation had restored everything: it equals state.
    # Running statistics are compared in the test of four steps.
    assert int(model.blocks[0].norm.num_batches_tracked) == 1
    assert all(layer.startswith("blocks.") for layer in rates), "output membranes never fire and have no rate"
    neurons = [key for key in reference.names("rate/") if float(reference[key]) > 0]
    for key, block in zip(sorted(neurons, key=lambda k: int(k.split(".")[1])), range(len(neurons)), strict=True):
        assert rates[f"blocks.{block}.neuron"] == pytest.approx(float(reference[key]), abs=1e-12)


@pytest.mark.parametrize("name", TRAINED)
def test_evaluation_gives_the_official_numbers(name):
    reference = fixture(f"snn_delays_{name}")
    model = build(reference).eval()
    x = torch.from_numpy(reference["input/x"]).double()
    target = torch.from_numpy(reference["input/target_onehot"]).double()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    close(model(x), reference["output_eval/v_seq_continuous"], "continuous")
    discrete = model.discretize()
    v = discrete(x)
    close(v, reference["output_eval/v_seq_discrete"], "discrete")
    close(SumOfSoftmax()(v), reference["output_eval/softmax_sum_discrete"], "answer")
    close(cross_entropy(SumOfSoftmax()(v), target), reference["output_eval/loss_discrete"], "loss")
    for key in reference.names("output_eval/rounded/"):
        close(discrete.state_dict()[ours(model, key.removeprefix("output_eval/rounded/"))], reference[key], key)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "the model has changed"


def test_with_lengths_a_sample_answers_as_the_official_network_does_for_it_alone():
    reference = fixture("snn_delays_padding")
    x, lengths = torch.from_numpy(reference["input/x"]).double(), torch.from_numpy(reference["input/lengths"])
    model = build(reference, readout=SumOfSoftmax).eval().discretize()
    assert len(set(lengths.tolist())) > 1
    answers = model(x, lengths)
    for b, length in enumerate(lengths.tolist()):
        close(answers[b], reference[f"output_eval/alone_{b}_softmax_sum"], f"sample {b}")
        close(model(x[:length, b : b + 1])[0], reference[f"output_eval/alone_{b}_softmax_sum"], f"{b} alone")


def test_padding_of_any_content_and_length_changes_nothing_when_lengths_are_given():
    torch.manual_seed(0)
    model = DelaySNN(in_features=6, hidden=(8, 9), num_classes=3, max_delay=5, dropout=0.0).double().train()
    x, lengths = torch.rand(11, 4, 6, dtype=torch.float64) * 3, torch.tensor([11, 1, 7, 4])
    longer = torch.full((16, 4, 6), float("nan"), dtype=torch.float64)
    longer[:11] = x
    for b, length in enumerate(lengths):
        longer[length:, b] = float("nan")
    results = []
    for padded in (x, longer):
        model.zero_grad()
        start = {key: value.clone() for key, value in model.state_dict().items()}
        answer = model(padded, lengths)
        cross_entropy(answer, torch.tensor([0, 1, 2, 0])).backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        results.append([answer, *gradients, *(model.state_dict()[k] for k in start if "running" in k)])
        model.load_state_dict(start)
    # Sums over more (masked) steps may be taken in another order.
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [dict(), dict(bias=True, learn_tau=True, tau=2.0, filter_tau=2.5, learn_filter=True, kernel_count=2)],
    ids=["paper", "all options"],
)
def test_gradients_of_the_smoothed_network_agree_with_finite_differences(arguments, training):
    torch.manual_seed(0)
    delays = LearntDelays(width=1.0, learn_width=True)
    model = DelaySNN(4, (5,), 3, max_delay=5, delays=delays, dropout=0.0, **arguments).double().train(training)
    for norm in (block.norm for block in model.blocks):
        norm.momentum = 0.0  # finite differences call it often
    names, values = zip(*model.named_parameters(), strict=True)
    x = torch.rand(6, 3, 4, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([6, 2, 5])

    def answer(x, *values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x, lengths))

    with snnkit.relaxed(model):
        assert torch.autograd.gradcheck(answer, (x, *values), eps=1e-6, atol=1e-6, rtol=1e-4)


def test_chunks_with_lengths_answer_as_the_whole():
    torch.manual_seed(0)
    model = DelaySNN(6, (8, 9), 3, max_delay=5).double().train()
    x, lengths = torch.rand(11, 4, 6, dtype=torch.float64) * 3, torch.tensor([11, 1, 7, 4])
    model(x)  # gives the norms statistics with which neurons fire
    model.eval()
    with snnkit.carry(model):
        whole = model(x, lengths)
    with snnkit.carry(model):
        for start in range(0, 11, 3):
            part = x[start : start + 3]
            y = model(part, (lengths - start).clamp(0, len(part)))
    torch.testing.assert_close(y, whole, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(y, model(x, lengths)), "without carry each layer adds its tail"


def test_four_optimiser_steps_with_schedules_give_the_official_weights():
    reference = fixture("snn_delays_optim_steps")
    c = reference.config
    model = build(reference, readout=SumOfSoftmax).train()
    groups = model.parameter_groups()
    weights = torch.optim.Adam(
        [{"params": groups.weights, "weight_decay": c["weight_decay"]}, {"params": groups.others, "weight_decay": 0}],
        lr=c["lr_w"],
    )
    positions = torch.optim.Adam(groups.positions, lr=c["lr_pos"])
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(weights, max_lr=c["max_lr_w"], total_steps=c["epochs"]),
        torch.optim.lr_scheduler.CosineAnnealingLR(positions, T_max=c["epochs"]),
    ]
    losses = []
    for epoch in range(2):
        for step in range(c["steps_per_epoch"]):
            x = torch.from_numpy(reference[f"input/x_{epoch}_{step}"]).double()
            y = torch.from_numpy(reference[f"input/y_{epoch}_{step}"]).double()
            weights.zero_grad()
            positions.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            weights.step()
            positions.step()
            model.clamp_()
            losses.append(loss.item())
        for schedule in schedules:
            schedule.step()
        model.set_sigma(model.sigma * (0.23 / c["sigInit"]) ** (1 / c["final_epoch"]))
    np.testing.assert_allclose(losses, reference["output/losses"], rtol=1e-9)
    for key in reference.names("state_after/"):
        close(model.state_dict()[ours(model, key.removeprefix("state_after/"))], reference[key], key)


def test_parameters_are_counted_as_published():
    path = shared_path("specs/param_counts_delays.json")
    for name, row in json.loads(path.read_text()).items():
        if not name.startswith("delay_snn"):
            continue
        a = row["args"]
        model = DelaySNN(
            a["n_inputs"],
            (a["n_hidden_neurons"],) * a["n_hidden_layers"],
            a["n_outputs"],
            a["max_delay"],
            a["kernel_count"],
        )
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == row["params"], name
        assert sum(p.numel() for p in model.parameters()) == row["params_incl_frozen_SIG"], name


def test_without_delays_it_is_a_plain_network_of_104960_parameters():
    model = snnkit.create_model("delay_snn_shd", num_classes=10, delays=None, readout=None)
    assert sum(p.numel() for p in model.parameters()) == 104_960
    assert model(torch.ones(7, 2, 140)).shape == (7, 2, 10), "no padding of time"


def test_the_official_key_list_is_read_whole():
    path = shared_path("specs/keys/delay_snn_shd_2l_1kc.txt")
    state = {}
    for line in path.read_text().splitlines():
        key, shape = line.split(" ", 1)
        size = [int(n) for n in shape.strip("()").split(",") if n.strip()]
        state[key] = torch.zeros(size, dtype=torch.long) if key.endswith("tracked") else torch.full(size, 0.5)
    model = snnkit.create_model("delay_snn_shd")
    snnkit.load_checkpoint(model, state)
    assert torch.equal(model.head.synapse.P, state["model.8.P"])


def test_initial_positions_and_weights_follow_the_paper():
    torch.manual_seed(0)
    model = snnkit.create_model("delay_snn_shd")
    first = model.blocks[0].synapse
    delay = first.delay.flatten()
    assert delay.min() >= 0 and delay.max() <= 24
    # U(-13, 12) clamped to -12: one in 25 starts on the longest delay; 4 sigma of 35840 draws
    assert abs((delay == 24).double().mean().item() - 1 / 25) < 4 * (0.04 * 0.96 / 35840) ** 0.5
    bound = (6 / 140) ** 0.5
    assert 0.99 * bound < first.weight.abs().max() <= bound
    assert model.sigma == 12.0
    assert not first.SIG.requires_grad


def test_fixed_delays_are_whole_and_never_trained():
    model = DelaySNN(6, (8,), 3, max_delay=5, delays=FixedDelays())
    for layer in model.delay_layers():
        assert torch.equal(layer.P, layer.P.round())
        assert not layer.P.requires_grad
        assert len(set(layer.delay.flatten().tolist())) > 1
    assert not model.parameter_groups().positions
    assert model.sigma is None
    with pytest.raises(ValueError, match="no width to set"):
        model.set_sigma(1.0)


def test_learnt_widths_are_trained_with_the_positions():
    model = DelaySNN(6, (8,), 3, max_delay=5, delays=LearntDelays(learn_width=True))
    names = {id(p): name for name, p in model.named_parameters()}
    assert sorted(names[id(p)].split(".")[-1] for p in model.parameter_groups().positions) == ["P", "P", "SIG", "SIG"]


def test_every_trainable_parameter_is_in_one_group():
    model = DelaySNN(6, (8,), 3, max_delay=5, bias=True, learn_tau=True, filter_tau=2.0, learn_filter=True)
    groups = model.parameter_groups()
    listed = [id(p) for group in groups for p in group]
    assert sorted(listed) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert any(p is model.blocks[0].neuron.w for p in groups.weights)
    assert any(p is model.blocks[0].filter.w for p in groups.others)


def test_without_delays_every_synapse_acts_at_once():
    torch.manual_seed(0)
    model = DelaySNN(6, (8, 9), 3, max_delay=5, readout=None).eval()
    immediate = model.without_delays()
    assert all((layer.delay == 0).all() for layer in immediate.delay_layers())
    plain = DelaySNN(6, (8, 9), 3, delays=None, readout=None).eval()
    weights = {k: v[..., 0] if k.endswith("weight") and v.ndim == 3 else v for k, v in model.state_dict().items()}
    plain.load_state_dict({key: value for key, value in weights.items() if key in plain.state_dict()})
    x = torch.randint(0, 3, (7, 2, 6)).float()
    # the kernel's 1e-7 in the normalisation, and the float32 rounding
    torch.testing.assert_close(immediate(x)[:7], plain(x), rtol=1e-5, atol=1e-5)
    assert (model.delay_layers().__next__().delay != 0).any(), "the model itself keeps its delays"


def test_an_own_neuron_takes_the_place_of_the_lif():
    model = DelaySNN(6, (8,), 3, max_delay=5, neuron=lambda: snnkit.nn.LIF(tau=3.0))
    assert model(torch.ones(4, 2, 6)).shape == (2, 3)
    assert "tau=3" in repr(model.blocks[0].neuron)


def test_output_neurons_that_fire_are_counted_as_the_paper_s_spike_count_does():
    torch.manual_seed(0)
    model = DelaySNN(6, (8,), 3, max_delay=5, output_threshold=2.0, readout=SumOverTime).double()
    x, lengths = 3 * torch.rand(9, 2, 6, dtype=torch.float64), torch.tensor([9, 5])
    model(x)  # gives the norm statistics with which neurons fire
    model.eval()
    with torch.no_grad():
        model.head.synapse.weight.abs_().mul_(4)
        current = model.head.synapse(model.forward_features(x), tail=2)
    v, counts = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    for row in current:  # h = v - v / tau + x, a spike where h >= 2, then v = 0
        h = v - v / 1.005 + row
        v, counts = torch.where(h >= 2, 0.0, h), counts + (h >= 2)
    answer = model(x)
    assert torch.equal(answer, counts) and counts.min() < counts.max()
    assert torch.equal(model(x, lengths)[1], model(x[:5, 1:])[0])
    answer.sum().backward()
    assert model.head.synapse.weight.grad.abs().sum() > 0
    with snnkit.firing_rates(model) as rates:
        model(x)
    assert rates["head.membrane"] == pytest.approx(counts.mean().item() / len(current))


def test_missing_weights_stay_zero_through_training_and_files(tmp_path):
    torch.manual_seed(0)
    model = DelaySNN(40, (50,), 10, max_delay=5, sparsity=0.7)
    missing = [layer.weight == 0 for layer in model.delay_layers()]
    # 4 sigma of 2,000 draws
    assert abs(missing[0].double().mean().item() - 0.7) < 4 * (0.7 * 0.3 / 2000) ** 0.5
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    cross_entropy(model(torch.rand(6, 4, 40)), torch.tensor([0, 1, 2, 9])).backward()
    optimizer.step()
    assert (model.head.synapse.weight[missing[1]] != 0).any(), "the optimiser moves them"
    model.clamp_()
    assert not any((name.endswith("exists")) for name in model.state_dict())
    snnkit.save_checkpoint(model, tmp_path / "a")
    for again in (snnkit.load_model(tmp_path / "a"), model.discretize()):
        for layer, zeros in zip(again.delay_layers(), missing, strict=True):
            assert torch.equal(layer.weight == 0, zeros) and torch.equal(layer.exists, ~zeros)
    model.reset_classifier(7)
    assert 0.5 < (model.head.synapse.weight == 0).double().mean() < 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(hidden=(8, 0)), r"hidden\[1\] must be a whole number >= 1, got 0"),
        (dict(num_classes=0), "num_classes must be a whole number >= 1"),
        (dict(max_delay=2.5), "max_delay must be a whole number >= 1, got 2.5"),
        (dict(tail=-1), "tail must be >= 0, got -1"),
        (dict(tail=1.5), r"tail must be >= 0, got 1.5: whole steps"),
        (dict(tail="1"), r"tail must be >= 0, got '1': whole steps"),
        (dict(tau=0.0), "tau must be > 0"),
        (dict(tau=float("nan")), "tau must be > 0"),
        (dict(dropout=1.5), r"dropout must be in \[0, 1\), got 1.5"),
        (dict(dropout="x"), r"dropout must be in \[0, 1\), got 'x'"),
        (dict(sparsity=1.0), r"sparsity must be in \[0, 1\), got 1.0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DelaySNN(**{**dict(in_features=6, hidden=(8,), num_classes=3, max_delay=5), **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(hidden=256), r"hidden must be a sequence of sizes, got 256. Write hidden=\(256,\)"),
        (dict(readout=SumOverTime()), r"readout must be .*, got an object SumOverTime. Give the class: readout=SumOve"),
        (dict(neuron=snnkit.nn.LIF(3.0)), r"an object LIF. Give the class: neuron=LIF, or neuron=lambda: LIF\(...\)"),
        (dict(readout="last"), r"readout must be a class, or a function without arguments, got 'last'\.$"),
    ],
)
def test_an_argument_of_another_kind_is_refused_with_what_to_write(arguments, message):
    with pytest.raises(TypeError, match=message):
        DelaySNN(**{**dict(in_features=6, hidden=(8,), num_classes=3, max_delay=5), **arguments})


def test_a_text_for_the_delays_is_refused():
    with pytest.raises(TypeError, match=r"delays must be LearntDelays\(...\), FixedDelays\(\) or None, got 'fixed'"):
        DelaySNN(delays="fixed")


def test_a_wrong_input_is_refused_with_the_layout():
    model = snnkit.create_model("delay_snn_shd")
    with pytest.raises(ValueError, match=r"delay_snn_shd expects \[T, B, 140\], time first, got \(5, 2, 700\)"):
        model(torch.ones(5, 2, 700))
    with pytest.raises(ValueError, match=r"expects \[T, B, 140\]"):
        model(torch.ones(5, 140))
    with pytest.raises(TypeError, match=r"torch.uint8: x.float\(\)"):
        model(torch.ones(5, 2, 140, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"x is torch.float64, the weights are torch.float32: x.to\(torch.float32\)"):
        model(torch.ones(5, 2, 140, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"lengths must be integers of shape \[B\]"):
        model(torch.ones(5, 2, 140), torch.ones(3, dtype=torch.long))
