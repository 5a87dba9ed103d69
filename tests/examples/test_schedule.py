"""The published recipe's tables and steps (fixtures of the official code)."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from train_shd import Settings, build_model, build_optimizers, load_data

from snnkit import load_checkpoint
from snnkit.models import DelaySNN
from tests.shared import fixture


def recipe(**changes):
    return Settings(**{"lr": 5e-3, "lr_delay": 0.1, "weight_decay": 1e-5} | changes)


@pytest.mark.parametrize("data", ["shd", "ssc", "gsc"])
def test_rates_momentum_and_width_of_every_epoch_are_the_published_ones(data):
    numbers = fixture("snn_delays_schedule")
    config = numbers.config[data]
    model = DelaySNN(in_features=3, hidden=(2,), num_classes=2, max_delay=config["max_delay"])
    (weights, delays), schedules = build_optimizers(model, recipe(epochs=config["epochs"]))
    rows = []
    for _ in range(config["epochs"]):
        first = weights.param_groups[0]
        assert all(group["lr"] == first["lr"] for group in weights.param_groups)
        rows.append((first["lr"], first["betas"][0], delays.param_groups[0]["lr"], model.sigma))
        weights.step()
        delays.step()
        for schedule in schedules:
            schedule.step()
    lr, beta, lr_delay, sigma = np.array(rows).T
    np.testing.assert_allclose(lr, numbers[f"output/{data}/lr_w"], rtol=1e-12, atol=0)
    np.testing.assert_allclose(beta, numbers[f"output/{data}/beta1_w"], rtol=1e-12, atol=0)
    np.testing.assert_allclose(lr_delay, numbers[f"output/{data}/lr_pos"], rtol=1e-12, atol=1e-18)
    np.testing.assert_array_equal(sigma, numbers[f"output/{data}/SIG_float32"])


@pytest.mark.parametrize(("sigma", "first"), [(None, 12.0), (7.0, 7.0)])
def test_a_wide_triangle_shrinks_to_one_tap_on_each_side_beyond_the_unit_triangle(sigma, first):
    settings = Settings(profile="wide_triangle", sigma=sigma, max_delay=25, hidden=(4,), epochs=8)
    model = build_model(settings, load_data(settings))
    _, schedules = build_optimizers(model, settings)
    widths = []
    for _ in range(settings.epochs):
        widths.append(model.sigma)
        schedules[-1].step()
    assert widths == pytest.approx([first, first**0.5] + [1.0] * 6, rel=1e-6)
    layer = model.blocks[0].synapse
    layer.delay = 12  # |u| of the taps beside it: 1 and 2, of which s = |SIG| + 1 = 2 reaches the first
    shares = layer.kernel()[0, 0] / layer.weight[0, 0]
    assert shares[10:15].tolist() == pytest.approx([0, 0.25, 0.5, 0.25, 0], abs=1e-6)


def test_four_steps_over_two_epochs_end_where_the_official_code_does():
    numbers = fixture("snn_delays_optim_steps")
    config = numbers.config

    def model_with(part):
        model = DelaySNN(12, (16, 16), 6, max_delay=config["max_delay"], tau=config["init_tau"], dropout=0.0).double()
        state = {name[len(part) :]: torch.from_numpy(numbers[name]) for name in numbers if name.startswith(part)}
        load_checkpoint(model, state)
        return model

    model, after = model_with("state/"), model_with("state_after/")
    optimizers, schedules = build_optimizers(model, recipe(epochs=config["epochs"], sigma=config["sigInit"]))
    losses = []
    for epoch in range(2):
        for step in range(2):
            x, y = (torch.from_numpy(numbers[f"input/{name}_{epoch}_{step}"]).double() for name in "xy")
            loss = cross_entropy(model(x), y)
            losses.append(loss.item())
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            model.clamp_()
        for schedule in schedules:
            schedule.step()
    np.testing.assert_allclose(losses, numbers["output/losses"], rtol=1e-9)
    expected = after.state_dict()
    for name, value in model.state_dict().items():
        error = (value - expected[name]).double().norm() / expected[name].double().norm()
        assert error < 1e-9, (name, error)


def test_a_cosine_with_warm_up_peaks_after_the_warm_up_and_ends_low():
    model = DelaySNN(in_features=3, hidden=(2,), num_classes=2, max_delay=5)
    settings = recipe(epochs=20, schedule="cosine", warmup=4, optimizer="adamw")
    (weights, _), (schedule, *_) = build_optimizers(model, settings)
    rates = []
    for epoch in range(20):
        rates.append(weights.param_groups[0]["lr"])
        schedule.step(epoch + 1)
    assert rates[0] == pytest.approx(5e-5) and np.argmax(rates) == 4 and rates[4] == pytest.approx(5e-3)
    assert sorted(rates[4:], reverse=True) == rates[4:] and rates[-1] < 0.02 * rates[4]
    assert [group["weight_decay"] for group in weights.param_groups] == [1e-5, 0.0]
