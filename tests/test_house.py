"""House rules that a test can keep: floors, import time, declared dependencies, docstrings, short files."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import snnkit
from tests.shared import ROOT, repository_files

PACKAGE = ROOT / "snnkit"
# Imports go downwards only; folders of one floor never import each other.
FLOORS = {
    "_suggest": 0, "equations": 1, "ops": 2, "nn": 3, "data": 4, "models": 4, "analysis": 5, "interop": 5, "doctor": 5,
}  # fmt: skip
LAZY = ["timm", "tonic", "cupy", "spikingjelly", "matplotlib", "h5py", "sklearn"]

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def imports(name: str, tree: ast.AST) -> Iterator[str]:
    """Yield modules that a module imports, wherever in the file; ``from a import b`` is a.b if that is a module."""
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES or base == "snnkit" else base


def top(name: str) -> str:
    """Folder or file right under snnkit, e.g. ``nn`` of ``snnkit.nn.delay``."""
    return (name.split(".") + [""])[1]


@pytest.mark.parametrize("name", [name for name in FILES if top(name) not in ("", "__main__")])
def test_a_module_imports_only_lower_floors_and_its_own_folder(name):
    assert top(name) in FLOORS, f"{name} stands on no floor: add it to FLOORS"
    ours = {target for target in imports(name, TREES[name]) if target.split(".")[0] == "snnkit"}
    wrong = {
        target
        for target in ours - {"snnkit.__version__"}
        if top(target) != top(name) and FLOORS.get(top(target), 9) >= FLOORS[top(name)]
    }
    assert not wrong, f"{name} imports {sorted(wrong)}"


def test_imports_make_no_circle():
    edges = {name: {t for t in imports(name, tree) if t in FILES and t != name} for name, tree in TREES.items()}
    edges["snnkit"] = set()  # names it fetches later, by __getattr__
    seen: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name not in seen:
            for target in sorted(edges[name]):
                walk(target, (*trail, name))
            seen.add(name)

    for name in edges:
        walk(name, ())


MEASURE = f"""
import sys, time
import torch
before = time.process_time()
import snnkit
seconds = time.process_time() - before
loaded = [name for name in {LAZY!r} if name in sys.modules]
try:
    ours = [line.split()[-1] for line in open("/proc/self/maps") if ".so" in line and "snnkit" in line]
except OSError:
    ours = []
print(seconds, loaded, ours, sep=";")
"""


def test_import_is_quick_and_loads_no_heavy_package_and_no_binary_of_ours(tmp_path):
    # Processor time, and the best of three: the wall time of a busy machine says nothing about us.
    cache = tmp_path / "snnkit-cache"
    # With bytecode, as pip installs it: an environment that forbids writing it would have Python compile us each time.
    bytecode = {"PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    seconds = []
    for _ in range(3):
        process = subprocess.run(
            [sys.executable, "-c", MEASURE],
            cwd=ROOT,
            env={**os.environ, **bytecode, "SNNKIT_CACHE": str(cache)},
            capture_output=True,
            text=True,
            check=True,
        )
        taken, loaded, ours = process.stdout.strip().split(";")
        assert (loaded, ours) == ("[]", "[]")
        seconds.append(float(taken))
        if seconds[-1] <= 0.2:
            break
    assert min(seconds) <= 0.2, f"import snnkit after torch: {seconds} s of processor time"
    assert not cache.exists(), "the import compiled something"


def declared() -> tuple[set[str], set[str]]:
    """Return what setup.cfg installs always, and with all extras, by import name."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    names = {"scikit-learn": "sklearn", "pyyaml": "yaml", "cupy-cuda12x": "cupy", "cupy-cuda13x": "cupy"}

    def modules(text: str) -> set[str]:
        words = [re.split(r"[><=!~\[; ]", line.strip())[0] for line in text.splitlines() if line.strip()]
        return {names.get(word, word.replace("-", "_")) for word in words}

    always = modules(config["options"]["install_requires"])
    extras = set().union(*(modules(text) for text in config["options.extras_require"].values()))
    return always, always | extras


def test_every_imported_package_is_a_declared_dependency():
    always, all_of_them = declared()
    brought = {"cuda", "cupy_backends", "PIL", "torchvision", "triton"}  # torch, CuPy and timm bring these
    for name, tree in TREES.items():
        first = {node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
        needed = {target.split(".")[0] for node in first for target in imports(name, ast.Module([node], []))}
        used = {target.split(".")[0] for target in imports(name, tree)}
        known = {"snnkit", *sys.stdlib_module_names}
        assert not needed - always - known, f"{name} cannot be imported after a plain install"
        assert not used - all_of_them - known - brought, f"{name} imports what setup.cfg does not name"


def test_no_dependency_is_pinned():
    config = (ROOT / "setup.cfg").read_text()
    assert not re.search(r"^    [\w-]+(==|~=|<)", config, re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_the_package_has_no_assert_statement(name):
    lines = [node.lineno for node in ast.walk(TREES[name]) if isinstance(node, ast.Assert)]
    assert not lines, f"{FILES[name]}, lines {lines}: raise an error that says got, expected, remedy"


def test_files_are_short_and_named_by_their_subject():
    vague = {"utils", "util", "helpers", "helper", "misc", "common"}
    for path in repository_files():
        part = path.relative_to(ROOT).parts[0]
        if part in {"snnkit", "cuda", "examples", "benchmarks"} and path.suffix in {".py", ".cu", ".cuh", ".cpp", ".h"}:
            assert len(path.read_text(encoding="utf-8").splitlines()) < 400, f"{path} is long: two subjects in one?"
        assert path.stem not in vague, path


def test_no_file_knows_a_machine():
    place = re.compile(r"""(?:^|[\s"'`(=:])/(?:work|root|home|farm|Users|mnt)/\w""")
    for path in repository_files():
        if path.suffix in {".py", ".md", ".cfg", ".toml", ".yaml", ".cpp", ".cu", ".h", ".json", ""}:
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                assert not place.search(line), f"{path}, line {number}: {line.strip()}"


def modules() -> list[ModuleType]:
    found = [snnkit]
    for info in pkgutil.walk_packages(snnkit.__path__, "snnkit."):
        if info.name not in {"snnkit.__main__", "snnkit._sources"}:
            found.append(importlib.import_module(info.name))
    return found


def own_doc(thing: object, name: str) -> bool:
    doc = inspect.getdoc(thing)
    return bool(doc and doc.strip()) and not doc.startswith(f"{name}(")  # a dataclass writes its own, without words


def test_public_names_have_docstrings():
    missing = []
    for module in modules():
        if not own_doc(module, module.__name__):
            missing.append(module.__name__)
        for name, thing in vars(module).items():
            ours = getattr(thing, "__module__", None) == module.__name__
            if name.startswith("_") or not ours or not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            if not own_doc(thing, name):
                missing.append(f"{module.__name__}.{name}")
            for method, function in vars(thing).items() if inspect.isclass(thing) else ():
                public = inspect.isfunction(function) and not method.startswith("_")
                if public and not inspect.getdoc(getattr(thing, method)):  # inherited ones count
                    missing.append(f"{module.__name__}.{name}.{method}")
    assert not missing, missing


def test_an_unknown_attribute_names_the_nearest():
    with pytest.raises(AttributeError, match=r"no attribute 'list_model'\. Near: .*list_models"):
        snnkit.list_model  # noqa: B018
    assert not hasattr(snnkit, "anything_at_all")


def test_every_exported_name_is_there():
    for name in snnkit.__all__:
        assert getattr(snnkit, name) is not None
    assert set(snnkit.__all__) <= set(dir(snnkit))


def readme_commands() -> list[str]:
    return re.findall(r"^pip install -e .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_readme_installs_and_trains_in_one_line_and_tests_in_another():
    train, test = readme_commands()
    assert "&& python examples/train_shd.py" in train and "&& pytest" in test
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for command in (train, test):
        extras = re.search(r"\.\[([\w,]+)\]", command)
        assert extras and set(extras[1].split(",")) <= set(config["options.extras_require"])
    assert (ROOT / "examples/train_shd.py").is_file()


def test_every_test_folder_is_a_package_so_that_two_files_may_share_a_name():
    for path in Path(ROOT, "tests").rglob("test_*.py"):
        assert (path.parent / "__init__.py").is_file(), path.parent
