"""``python -m bench [CASE ...]``: run the cases, two at a time, and write docs/benchmarks.md.

What was measured with the same sources is kept in bench/.cache and not measured again.
"""

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.cases import CACHE, CASES, MODELS, model
from bench.page import page
from gategrad.console import bar

SOURCES = ("gategrad", "golden", "hdl", "boards", "sim", "bench", "examples")


def fingerprint() -> str:
    """A hash of everything that the figures depend on."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in (".py", ".toml", ".cpp", ".v") and path.name != "page.py":
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run(name: str, folder: Path) -> None:
    """One case in a process of its own, unless its result is there."""
    target = folder / f"{name.replace(' ', '_')}.json"
    if target.exists():
        return
    partial = target.with_suffix(".part")
    with (folder / f"{target.stem}.log").open("w") as log:
        command = [sys.executable, "-m", "bench.cases", name, str(partial)]
        if subprocess.run(command, stdout=log, stderr=log).returncode:
            sys.exit(f"bench: {name} failed, see {log.name}")
    partial.rename(target)


def main() -> None:
    """Run what is asked for (default: all) and write the page from all that is there."""
    names = sys.argv[1:] or list(CASES)
    if unknown := set(names) - set(CASES):
        sys.exit(f"bench: no case {', '.join(sorted(unknown))}; there are: {', '.join(CASES)}")
    folder = CACHE / fingerprint()
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODELS:  # before the processes, which share them
        model(name)
    done = 0
    with bar(f"{len(names)} cases, two at a time") as line, ThreadPoolExecutor(2) as pool:
        for name, _ in zip(names, pool.map(lambda n: run(n, folder), names), strict=True):
            done += 1
            line.update(done / len(names), f"{name} done")
    results = {
        name: json.loads(path.read_text())
        for name in CASES
        if (path := folder / f"{name.replace(' ', '_')}.json").exists()
    }
    Path("docs/benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
    Path("docs/benchmarks.md").write_text(page(results))
    print("wrote docs/benchmarks.md and docs/benchmarks.json")


if __name__ == "__main__":
    main()
