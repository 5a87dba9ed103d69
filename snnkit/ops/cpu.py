"""C++ text to a loaded library, by the compiler of this machine, cached in memory and on disk.

No torch headers: a kernel is a plain C function on pointers, called through ctypes. That compiles in 0.2 s instead
of 26 s and does not depend on torch's version. Callers set ``argtypes``: without them pointers are cut to 32 bits.

A library is kept by the hash of text, command, flags, compiler version and CPU flags: machines that share a home may
differ in what ``-march=native`` means.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shlex
import shutil
import subprocess
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from snnkit.ops.cache import kept

# Without -ffp-contract=off g++ fuses multiply and add, and spikes differ from the reference: not to be dropped.
REQUIRED = ("-std=c++17", "-fPIC", "-shared", "-ffp-contract=off")
# These make kernels faster and change no bit of a spike or a state; each is left out where the compiler refuses it.
OPTIONAL = ("-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
REMEDY = "install g++ (apt install g++, conda install gxx) or name one in $CXX"
"""What to do where no compiler works."""

_PROBE = """extern "C" int probe(int n) {
    int sum = 0;
    #pragma omp parallel for reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += i;
    return sum;
}
"""


class NoCompiler(RuntimeError):
    """No C++ compiler works here; the message says what was tried and the remedy."""


class Compiler(NamedTuple):
    """A C++ compiler that works: its command, first line of ``--version``, and the flags it takes."""

    command: tuple[str, ...]
    version: str
    flags: tuple[str, ...]


def library(code: str, optimise: str = "-O3") -> ctypes.CDLL:
    """Compile C++ text, or take it from the cache, and load it.

    Args:
        code: C++17; functions to be called need ``extern "C"``. OpenMP pragmas are ignored where there is none.
        optimise: optimisation flag. Bits are the same at each level; tests take ``"-O1"``, it compiles faster.

    Raises:
        NoCompiler: ``refusal()`` says why.
        RuntimeError: the compiler refused the text; its first errors are shown.
    """
    key = (code, optimise)
    if key not in _loaded:
        # setdefault: two threads may come here at once, and both should hold the object whose argtypes are set.
        _loaded.setdefault(key, _load(code, compiler(), optimise))
    return _loaded[key]


def refusal() -> str | None:
    """Say in one line why nothing can be compiled here, with the remedy; None if a compiler works.

    The first refusal of a process is a warning, too.
    """
    try:
        compiler()
    except NoCompiler as error:
        return str(error)
    return None


def threads() -> int:
    """Threads that a kernel may use: torch's number, and 1 in a forked child.

    An OpenMP pool does not survive a fork: after the parent has run one parallel region, the child hangs in its own.
    """
    if _forked:
        return 1
    import torch  # here, so that compiling alone does not wait for torch's import

    return torch.get_num_threads()


def compiler() -> Compiler:
    """Return the compiler in use: the first that works of $CXX, g++, clang++ and c++.

    Raises:
        NoCompiler: none works.
    """
    found, reason = _search()
    if found is None:
        raise NoCompiler(reason)
    return found


def candidates() -> list[str]:
    """The commands that are tried, in order; they need not exist."""
    return list(dict.fromkeys(filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++"))))


_loaded: dict[tuple[str, str], ctypes.CDLL] = {}
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _search() -> tuple[Compiler | None, str]:
    """Return the first compiler that works, or None and the reason."""
    refusals: list[str] = []
    for text in candidates():
        try:
            found = _probed(shlex.split(text))
            if refusals and os.environ.get("CXX"):
                told = f"The compiler in $CXX does not work ({refusals[0]}): {text} is taken. Mend or unset $CXX."
                warnings.warn(told, RuntimeWarning, stacklevel=4)
            return found, ""
        except (OSError, ValueError, RuntimeError) as error:
            said = str(error).splitlines()
            refusals.append(f"{text}: {said[min(1, len(said) - 1)]}")  # of a failed compile its first error
    reason = f"no C++ compiler works ({'; '.join(refusals)}): {REMEDY}"
    warnings.warn(f"{reason}. Until then the slower PyTorch reference runs.", RuntimeWarning, stacklevel=4)
    return None, reason


def _probed(command: Sequence[str]) -> Compiler:
    """Ask a compiler for its version and try the optional flags, all at once and then one by one."""
    if shutil.which(command[0]) is None:
        raise RuntimeError("not found")
    version = (_run([*command, "--version"]).stdout.splitlines() or ["unknown version"])[0]

    def takes(flags: tuple[str, ...]) -> bool:
        with suppress(OSError, RuntimeError):  # loading fails too, where OpenMP's own library is missing
            return _load(_PROBE, Compiler(tuple(command), version, flags), "-O1").probe(4) == 6
        return False

    if takes(OPTIONAL):
        return Compiler(tuple(command), version, OPTIONAL)
    _load(_PROBE, Compiler(tuple(command), version, ()), "-O1")  # raises what the compiler says
    return Compiler(tuple(command), version, tuple(flag for flag in OPTIONAL if takes((flag,))))


def _load(code: str, by: Compiler, optimise: str) -> ctypes.CDLL:
    flags = (optimise, *by.flags, *REQUIRED)

    def build(text: Path, made: Path) -> None:
        answer = _run([*by.command, *flags, str(text), "-o", str(made)])
        if answer.returncode or not made.is_file():
            lines = answer.stderr.splitlines()
            errors = [line for line in lines if "error" in line] or lines or [f"exit status {answer.returncode}"]
            raise RuntimeError("\n".join([f"{by.command[0]} refused the text, kept in {text}:", *errors[:5]]))

    parts = (code, *flags, *by.command, by.version, _cpu_flags())
    return ctypes.CDLL(str(kept("cpu", parts, ".so", ("code.cpp", code), build)))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    english = {**os.environ, "LC_ALL": "C"}  # its errors are searched for the word
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, env=english
    )


@functools.cache
def _cpu_flags() -> str:
    """What this CPU can do, as the system names it (Linux), or the machine's type."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"
