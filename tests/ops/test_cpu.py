"""Compile and cache: hidden flags, no compiler, killed builds, damaged files, forked workers."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from snnkit.ops import cpu
from snnkit.ops.cache import digest
from tests.shared import ROOT

needs_compiler = pytest.mark.skipif(cpu.refusal() is not None, reason=f"no compiler: {cpu.refusal()}")

# cpu.py and cache.py alone, without torch: starts in 0.1 s, and eight processes at once are no burden.
ALONE = f"""
import importlib.util, json, sys
def alone(name):
    spec = importlib.util.spec_from_file_location(name, {str(ROOT / "snnkit/ops")!r} + "/" + name + ".py")
    module = sys.modules["snnkit.ops." + name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
folder = alone("cache").folder
cpu = alone("cpu")
ADD = 'extern "C" int add(int a, int b) {{ return a + b; }}'
"""


def start(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ALONE + code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code: str, **environment: str) -> tuple[str, str]:
    process = start(code, **environment)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out, error


def script(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def fake_compiler(folder: Path, refuse: str = "", log: str = "", wait: float = 0.0) -> str:
    """g++ behind a script that refuses flags, notes builds and takes its time."""
    refusal = f'for a in "$@"; do case "$a" in {refuse}) echo "error: bad flag $a" >&2; exit 1;; esac; done\n'
    noting = 'case "$*" in *code.cpp*) grep -q "int add" "$(echo "$*" | grep -o "[^ ]*code.cpp")" && '
    noting += f"{{ echo build >> {log}; sleep {wait}; }};; esac\n"
    real = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    return script(folder / "compiler", (refusal if refuse else "") + (noting if log else "") + f'exec {real} "$@"\n')


@needs_compiler
def test_library_runs_what_the_text_says_at_every_level():
    for level in ("-O0", "-O1", "-O3"):
        assert cpu.library('extern "C" int times(int a, int b) { return a * b; }', optimise=level).times(6, 7) == 42


@needs_compiler
def test_the_same_text_is_the_same_object_so_that_argtypes_are_set_once():
    code = 'extern "C" double half(double a) { return a / 2; }'
    cpu.library(code).half.restype = ctypes.c_double
    cpu.library(code).half.argtypes = [ctypes.c_double]
    assert cpu.library(code).half(3.0) == 1.5


@needs_compiler
def test_multiply_and_add_are_not_fused():
    # a * b = 1 - 2^-46 needs 47 bits and rounds to 1 in float32: unfused the sum is 0, fused it is not.
    code = (
        'extern "C" void f(const float* p, float* y, int n) { for (int i = 0; i < n; i++) y[i] = p[0] * p[1] + p[2]; }'
    )
    p = torch.tensor([1 + 2.0**-23, 1 - 2.0**-23, -1.0])
    y = torch.full((63,), float("nan"))
    cpu.library(code).f(ctypes.c_void_p(p.data_ptr()), ctypes.c_void_p(y.data_ptr()), 63)
    assert (y == 0).all()
    assert float(p[0].double() * p[1].double() + p[2].double()) != 0


@needs_compiler
def test_a_refused_text_shows_the_first_errors_of_the_compiler_and_where_the_text_lies():
    with pytest.raises(RuntimeError, match="(?s)refused the text.*code.cpp.*error.*nonsense") as caught:
        cpu.library('extern "C" int f() { return nonsense; }')
    assert not isinstance(caught.value, cpu.NoCompiler)
    assert len(str(caught.value).splitlines()) <= 6


@needs_compiler
@pytest.mark.parametrize(
    "refuse, left",
    [
        ("-fopenmp", ["-march=native", "-fno-math-errno", "-fno-trapping-math"]),
        ("-march=native", ["-fopenmp", "-fno-math-errno", "-fno-trapping-math"]),
        ("-fopenmp|-march=*|-fno-*", []),
    ],
    ids=["no-openmp", "no-native", "none"],
)
def test_a_flag_that_the_compiler_refuses_is_left_out(tmp_path, refuse, left):
    compiler = fake_compiler(tmp_path, refuse=refuse)
    code = "print(json.dumps([cpu.compiler().command, cpu.compiler().flags, cpu.library(ADD).add(2, 3)]))"
    out, error = run(code, CXX=compiler, SNNKIT_CACHE=str(tmp_path / "cache"))
    command, flags, answer = json.loads(out)
    assert (command, sorted(flags), answer, error) == ([compiler], sorted(left), 5, "")


@needs_compiler
def test_a_compiler_that_cannot_keep_multiply_and_add_apart_is_not_taken(tmp_path):
    compiler = fake_compiler(tmp_path, refuse="-ffp-contract=off")
    out, _ = run("print(cpu.compiler().command)", CXX=compiler, SNNKIT_CACHE=str(tmp_path / "cache"))
    assert compiler not in out


@needs_compiler
def test_a_compiler_that_was_named_and_does_not_work_is_said_once_where_another_does(tmp_path):
    code = "print(cpu.refusal(), cpu.compiler().command, cpu.library(ADD).add(2, 3))"
    out, error = run(code, CXX="nvc++ --odd", SNNKIT_CACHE=str(tmp_path / "cache"))
    assert out.startswith("None (") and out.endswith(" 5\n") and "nvc++" not in out
    assert error.count("RuntimeWarning") == 1
    assert "The compiler in $CXX does not work (nvc++ --odd: not found)" in error and "unset $CXX" in error


def test_without_a_compiler_the_reason_and_the_remedy_are_said_once(tmp_path):
    code = "print(cpu.refusal() == cpu.refusal()); print(cpu.refusal())\n"
    code += "try: cpu.library(ADD)\nexcept cpu.NoCompiler as error: print(str(error) == cpu.refusal())"
    out, error = run(code, CXX="nvc++ --odd", PATH=str(tmp_path), SNNKIT_CACHE=str(tmp_path / "cache"))
    same, reason, raised = out.splitlines()
    assert same == raised == "True"
    assert "nvc++ --odd: not found; g++: not found" in reason and "apt install g++" in reason and "$CXX" in reason
    assert error.count("RuntimeWarning") == 1


def test_a_compiler_that_fails_at_everything_is_a_refusal_with_its_own_words(tmp_path):
    broken = script(tmp_path / "broken", 'echo "cannot find crt1.o" >&2; exit 1\n')
    out, _ = run("print(cpu.refusal())", CXX=broken, PATH=str(tmp_path), SNNKIT_CACHE=str(tmp_path / "cache"))
    assert "cannot find crt1.o" in out


@needs_compiler
def test_a_second_process_takes_the_file_of_the_first(tmp_path):
    log = tmp_path / "log"
    log.touch()
    environment = dict(CXX=fake_compiler(tmp_path, log=str(log)), SNNKIT_CACHE=str(tmp_path / "cache"))
    for _ in range(3):
        assert run("print(cpu.library(ADD).add(1, 1))", **environment)[0] == "2\n"
    assert log.read_text().count("build") == 1


@needs_compiler
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_built_again(tmp_path, damage):
    cache = tmp_path / "cache"
    code = "print(cpu.library(ADD).add(1, 1))"
    run(code, SNNKIT_CACHE=str(cache))
    made = list(cache.rglob("*.so"))
    for path in made:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes({"cut": content[: len(content) // 2], "flipped": content, "empty": b""}[damage])
    assert made and run(code, SNNKIT_CACHE=str(cache)) == ("2\n", "")
    assert all(digest(path) == path.stem for path in cache.rglob("*.so"))


@needs_compiler
def test_a_build_killed_midway_holds_up_nobody_and_eight_processes_build_once(tmp_path):
    log = tmp_path / "log"
    log.touch()
    environment = dict(CXX=fake_compiler(tmp_path, log=str(log), wait=2.0), SNNKIT_CACHE=str(tmp_path / "cache"))
    killed = start("cpu.library(ADD)", **environment)
    deadline = time.monotonic() + 30
    while "build" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=10)
    assert killed.returncode == -signal.SIGKILL

    log.write_text("")
    eight = [start("print(cpu.library(ADD).add(20, 22))", **environment) for _ in range(8)]
    answers = [process.communicate(timeout=30) for process in eight]
    assert answers == [("42\n", "")] * 8
    assert log.read_text().count("build") == 1
    assert not list((tmp_path / "cache").rglob("build-*"))  # what the killed build left is gone


@needs_compiler
def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_folder(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    code = "print(cpu.library(ADD).add(1, 2), folder('cpu'))"
    out, error = run(code, SNNKIT_CACHE=str(blocked), TMPDIR=str(tmp_path))
    answer, folder = out.split()
    assert (answer, error) == ("3", "") and Path(folder).parent == tmp_path
    assert not Path(folder).exists()  # it goes with its process


@needs_compiler
def test_the_cache_lies_in_the_users_folder_unless_told_otherwise(tmp_path):
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    out, _ = run("import os; os.environ.pop('SNNKIT_CACHE', None); print(folder('cpu'))", **environment)
    assert Path(out.strip()).is_relative_to(tmp_path)


FORK = """
import ctypes, os, sys, warnings
import torch
from snnkit.ops import cpu
from snnkit.ops.cache import digest
warnings.simplefilter("ignore")  # Python 3.12 warns that a process with threads forks: that is the point here
torch.set_num_threads(2)
code = '''
extern "C" long total(const float* x, long n, int threads) {
    double sum = 0;
    #pragma omp parallel for num_threads(threads) reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += x[i];
    return sum;
}
'''
total = cpu.library(code).total
total.argtypes, total.restype = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int], ctypes.c_long
x = torch.ones(100_000)
assert cpu.threads() == 2 and total(x.data_ptr(), 100_000, cpu.threads()) == 100_000
child = os.fork()
if child == 0:
    right = cpu.threads() == 1 and total(x.data_ptr(), 100_000, cpu.threads()) == 100_000
    os._exit(0 if right else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_compiler
def test_a_forked_worker_ends_after_its_parent_ran_in_parallel():
    # One thread in the child; with two it hangs for ever in its first parallel region.
    process = subprocess.Popen([sys.executable, "-c", FORK], cwd=ROOT, start_new_session=True)
    try:
        assert process.wait(timeout=20) == 0  # 10 s for the fork, the rest is torch's import
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("the forked child hangs")


def test_memory_that_a_kernel_must_fill_is_nan_under_test():
    x = torch.zeros(3, 1, 63)
    assert all(fresh.isnan().all() for fresh in (torch.empty(3, 63), torch.empty_like(x), x.new_empty(63)))


def test_threads_are_torchs_own():
    assert cpu.threads() == torch.get_num_threads()
