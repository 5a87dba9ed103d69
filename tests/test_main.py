"""``python -m snnkit``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import snnkit
from snnkit.__main__ import main
from tests.shared import ROOT


def test_list_prints_every_model(capsys):
    assert main(["list"]) == 0
    assert capsys.readouterr().out.split() == snnkit.list_models()


def test_list_takes_a_pattern(capsys):
    assert main(["list", "*_shd"]) == 0
    assert "delay_snn_shd" in (listed := capsys.readouterr().out.split())
    assert all(name.endswith("_shd") for name in listed)


def test_a_pattern_without_a_model_says_so_and_fails(capsys):
    assert main(["list", "no_such_model"]) == 1
    out, error = capsys.readouterr()
    assert out == "" and "no_such_model" in error


def test_info_says_what_a_model_is(capsys):
    assert main(["info", "max_former_10_384"]) == 0
    said = capsys.readouterr().out
    for words in ("16,237,240", "layers of LIF", "[B, 3, 224, 224]", "arXiv 2505.18608", "77.78 % (published)",
                  "10-384-T4.pth.tar", "snnkit.load_checkpoint"):  # fmt: skip
        assert words in said, said
    assert main(["info", "delay_snn_shd"]) == 0
    assert "none for this model: the authors of SNN-delays released none." in capsys.readouterr().out


def test_info_of_an_unknown_model_names_the_nearest(capsys):
    assert main(["info", "spikformer_8_521"]) == 1
    assert "Near: spikformer_8_512" in capsys.readouterr().err


def test_the_page_of_models_is_up_to_date(capsys):
    assert main(["list", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert printed == (ROOT / "docs/models.md").read_text(encoding="utf-8"), (
        "python -m snnkit list --markdown > docs/models.md"
    )
    assert all(f"`{name}`" in printed for name in snnkit.list_models())
    assert "| `delay_snn_ssc_2l_1kc` | 705,536 |" in printed, "the paper's number, without widths that nobody trains"


def test_an_unknown_command_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        main(["lisst"])
    assert "list" in capsys.readouterr().err


def test_it_runs_as_a_module():
    process = subprocess.run([sys.executable, "-m", "snnkit", "list"], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0 and "delay_snn_shd" in process.stdout.split()


def test_a_reader_that_has_enough_ends_the_list_without_a_traceback():
    listing = f"{sys.executable} -m snnkit list"
    found = subprocess.run(["sh", "-c", f"{listing} | head -1"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == f"{snnkit.list_models()[0]}\n" and found.stderr == ""
