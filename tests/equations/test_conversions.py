"""The conversion table of docs/neurons.md: every row beside the other toolkit, or beside its formula."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from snnkit import equations, nn
from tests.equations.oracle import drive
from tests.equations_under_test import by_reference
from tests.shared import ROOT

TABLE = re.compile(r"^\| (.+?) \| `((?:LIF|LI|IF|CUBA)\(.*?\))` \| `(.+?)` \|$", re.MULTILINE)
ROWS = TABLE.findall((ROOT / "docs/neurons.md").read_text(encoding="utf-8"))
NUMBERS = {"beta": 0.75, "alpha": 0.9, "tau": 20.0, "dt": 4.0, "r": 1.5, "w_in": 3.0, "tau_syn": 8.0, "tau_mem": 16.0}


def euler(x, decay, gain=1.0, fires=True, v_reset=0.0, threshold=1.0):
    """v = decay v + gain x, hard reset: the loop on paper."""
    v, membranes, spikes = np.zeros(x.shape[1:]), [], []
    for row in x:
        v = decay * v + gain * row
        s = (v >= threshold) & fires
        v = np.where(s, v_reset, v)
        spikes.append(s), membranes.append(v)
    return np.stack(spikes), np.stack(membranes)


def spikingjelly(x, **keywords):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = neuron.LIFNode(tau=NUMBERS["tau"], step_mode="m", store_v_seq=True, **keywords)
    return node(torch.from_numpy(x)).numpy(), node.v_seq.numpy()


def snntorch(x):
    snn = pytest.importorskip("snntorch")
    leaky = snn.Leaky(beta=NUMBERS["beta"], reset_delay=False).double()
    mem, steps = leaky.init_leaky(), []
    for row in torch.from_numpy(x):
        spike, mem = leaky(row, mem)
        steps.append((spike.detach(), mem.detach()))
    return tuple(torch.stack(part).numpy() for part in zip(*steps, strict=True))


def norse(x):
    torch_ = pytest.importorskip("norse.torch")
    parameters = torch_.LIFBoxParameters(tau_mem_inv=torch.tensor(1 / NUMBERS["tau"], dtype=torch.float64))
    cell, state, steps = torch_.LIFBoxCell(parameters, dt=NUMBERS["dt"]), None, []
    for row in torch.from_numpy(x):
        spike, state = cell(row, state)
        steps.append((spike.detach(), state.v.detach()))
    return tuple(torch.stack(part).numpy() for part in zip(*steps, strict=True))


def nir_cuba(x):
    """tau_syn di/dt = -i + w_in x; tau_mem dv/dt = r i - v, as NIR defines it, by Euler."""
    n = NUMBERS
    i, v, membranes, spikes = np.zeros(x.shape[1:]), np.zeros(x.shape[1:]), [], []
    for row in x:
        i = i + n["dt"] / n["tau_syn"] * (n["w_in"] * row - i)
        v = v + n["dt"] / n["tau_mem"] * (n["r"] * i - v)
        s = v >= 1.0
        v = np.where(s, 0.0, v)
        spikes.append(s), membranes.append(v)
    return np.stack(spikes), np.stack(membranes)


def sparch(x):
    """u = alpha (u - s) + (1 - alpha) x, and u - s is our membrane after the reset."""
    u, s, membranes, spikes = np.zeros(x.shape[1:]), np.zeros(x.shape[1:]), [], []
    for row in x:
        u = NUMBERS["alpha"] * (u - s) + (1 - NUMBERS["alpha"]) * row
        s = (u > 1.0).astype(float)
        spikes.append(s), membranes.append(u - s)
    return np.stack(spikes), np.stack(membranes)


step = NUMBERS["dt"] / NUMBERS["tau"]
ELSEWHERE = {
    "`v = beta v + (1 - beta) x`": lambda x: euler(x, 0.75, 0.25),
    "`v = beta v + x`": lambda x: euler(x, 0.75),
    "`tau dv/dt = x - v`, Euler": lambda x: euler(x, 1 - step, step),
    "`tau dv/dt = x - v`, exact for a current that is constant over a step": lambda x: euler(
        x, math.exp(-step), 1 - math.exp(-step)
    ),
    "SpikingJelly `LIFNode(tau)`": spikingjelly,
    "SpikingJelly `LIFNode(tau, decay_input=False)`": lambda x: spikingjelly(x, decay_input=False),
    "snnTorch `Leaky(beta, reset_delay=False)`": snntorch,
    "Norse `LIFBoxCell(LIFBoxParameters(tau_mem_inv=1 / tau), dt=dt)`": norse,
    "NIR `LIF(tau, r, v_leak=0)`": lambda x: euler(x, 1 - step, 1.5 * step),
    "NIR `LI(tau, r, v_leak=0)`": lambda x: euler(x, 1 - step, 1.5 * step, fires=False),
    "NIR `IF(r)`": lambda x: euler(x, 1.0, 1.5 * 4.0),
    "NIR `CubaLIF(tau_syn, tau_mem, r, w_in, v_leak=0)`": nir_cuba,
    "sparch `LIF`, `alpha`": sparch,
}


def test_the_table_has_these_rows_and_no_others():
    assert [row[0] for row in ROWS] == list(ELSEWHERE)


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_a_row_of_the_table_is_true(elsewhere):
    here, current = next(row[1:] for row in ROWS if row[0] == elsewhere)
    # Strong enough to fire, and weak enough that one soft reset brings it below the threshold (snnTorch differs there).
    x = drive(-0.2, 1.0) * (0.8 if "decay_input" in here else 6.0)
    names = NUMBERS | {"exp": math.exp, "x": x}
    neuron, row = eval(here, {**vars(equations)}, names), eval(current, {}, names)
    s, _, traces = by_reference(neuron, row, record=("v",))
    spikes, membranes = ELSEWHERE[elsewhere](x.numpy())
    if neuron._fires:
        assert 0.02 < s.mean() < 0.98 and np.array_equal(s.numpy(), spikes)
    # some ten roundings; those of numbers that the other toolkit keeps as float32 would show
    assert np.abs(traces["v"].numpy() - membranes).max() < 1e-6


@pytest.mark.parametrize("name", ["IF", "LIF", "LI", "ALIF", "KLIF", "CUBA", "EIF", "QIF"])
def test_who_asks_a_neuron_for_its_time_constant_is_sent_to_the_table(name):
    assert "docs/neurons.md" in getattr(equations, name).__doc__
    assert "docs/neurons.md" in getattr(nn, name).__doc__


def test_the_first_neuron_of_the_page_on_your_own_is_snntorchs_default():
    snn = pytest.importorskip("snntorch")
    page = (ROOT / "docs/your_own_neuron.md").read_text(encoding="utf-8")
    names: dict[str, type] = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    x = drive(-0.2, 0.8)
    s, state, traces = by_reference(names["Leaky"](beta=0.75), x, record=("v",))
    leaky = snn.Leaky(beta=0.75).double()
    mem = leaky.init_leaky()
    for t, row in enumerate(x):
        spike, mem = leaky(row, mem)
        assert (s[t] == spike).all() and (traces["v"][t] - mem).abs().max() < 1e-6
    assert 0.1 < s.mean() < 0.9
