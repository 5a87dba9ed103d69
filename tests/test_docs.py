"""Every code block of the README and the docs runs, and so does every example of a docstring.

Blocks of one page run in order and share their names. A ``text`` block right after a ``python`` block is what the
latter prints. A block that cannot run has ``<!-- not run: reason -->`` on the line before it.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
from urllib.parse import unquote

import numpy as np
import pytest
import torch

import snnkit
from tests.shared import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?P<before>[^\n]*)\n```python\n(?P<code>.*?)^```\n(?:\n?```text\n(?P<printed>.*?)^```)?", re.S | re.M
)
EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "snnkit").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_code_block_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "page"}
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        if block["before"].startswith("<!-- not run: "):
            continue
        line = text[: block.start("code")].count("\n")
        code = "\n" * line + block["code"]  # so that a traceback has the page's own line numbers
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, str(page), "exec"), names)
        if block["printed"] is not None:
            assert printed.getvalue() == block["printed"], f"{relative(page)}, line {line}"


def test_the_readme_shows_an_example_with_its_output():
    blocks = [block for block in BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8")) if block["printed"]]
    assert blocks and 5 <= len(blocks[0]["code"].strip().splitlines()) <= 15


LINK = re.compile(r"\[[^]\n]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.S | re.M)
HEADING = re.compile(r"^#+ +(.+?) *$", re.M)


def anchors(text):
    """What GitHub makes of a page's headings: lower case, words joined by hyphens, no punctuation."""
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(FENCE.sub("", text)))
    return {each.replace(" ", "-") for each in words}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=relative)
def test_every_link_to_a_file_or_heading_of_ours_leads_there(page):
    for link in LINK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        target, _, anchor = link["target"].partition("#")
        if ":" in target:  # another site's
            continue
        path = (page.parent / unquote(target)).resolve() if target else page
        assert path.exists(), f"{relative(page)}: {link[0]} leads nowhere"
        assert path.is_relative_to(ROOT), f"{relative(page)}: {link[0]} leads out of the repository"
        if anchor:
            there = anchors(path.read_text(encoding="utf-8"))
            assert anchor in there, f"{relative(page)}: {link[0]} names no heading of {path.name}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_docstrings_run(name):
    torch.manual_seed(0)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False)
    tests = doctest.DocTestFinder(exclude_empty=True).find(
        module, extraglobs={"torch": torch, "np": np, "snnkit": snnkit}
    )
    report = io.StringIO()
    for test in tests:
        runner.run(test, out=report.write)
    assert runner.summarize(verbose=False).failed == 0, report.getvalue()
