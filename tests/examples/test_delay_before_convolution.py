"""The script with a delay a channel before its convolutions: delays are learnt, and it can be read off what they do."""

import re

import torch
from delay_before_convolution import Network

from tests.examples.scripts import run


def test_it_trains_and_its_delays_carry_what_it_knows(tmp_path):
    out = run("--epochs", 4, "--max-delay", 9, cwd=tmp_path, script="delay_before_convolution.py")
    with_delays, without = (float(share) for share in re.findall(r"test accuracy.* (\d+\.\d)%", out))
    assert with_delays > 75 and with_delays > without + 15, out  # 94 and 52; one in ten by chance
    delays = [int(d) for line in re.findall(r"delays before convolution \d: \[(.*)\]", out) for d in line.split(", ")]
    assert len(delays) == 8 + 24 and 0 <= min(delays) < max(delays) <= 8


def test_a_copy_of_the_picture_comes_as_late_as_its_delay_says():
    torch.manual_seed(0)
    model = Network(copies=3, channels=4, max_delay=6)
    first = model.blocks[0][0]
    first.delay = torch.tensor([0.0, 2.0, 5.0])
    maps = torch.zeros(8, 1, 3, 8, 8)
    maps[1] = 1
    late = model.evaluated().blocks[0][0](maps)
    assert late[:, 0, :, 0, 0].argmax(0).tolist() == [1, 3, 6] and late.unique().tolist() == [0, 1]
    assert (model.evaluated(delays=False).blocks[0][0](maps) == maps).all()
    assert first.delay.flatten().tolist() == [0, 2, 5], "the network itself is unchanged"
