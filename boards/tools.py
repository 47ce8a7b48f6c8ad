"""The build tools as separate processes: found, run quietly, and named when they are missing."""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from gategrad.errors import GategradError

#: What yowasp tools say on standard error while their WebAssembly is compiled, once.
_PREPARING = "Preparing to run"
COMPILING = "compiling the WebAssembly tool, once per machine: up to two minutes"

#: Called with the stage's name, the fraction that is done (None: unknown) and a note.
Progress = Callable[[str, float | None, str], None]


def find_tool(name: str) -> str:
    """The program for ``name`` (``yosys``, ``nextpnr-ice40``...).

    yowasp's from this Python environment first, then yowasp's and then the native one on PATH.
    Raises :class:`GategradError` that names what to install.
    """
    beside = Path(sys.executable).parent / f"yowasp-{name}"
    if beside.is_file():
        return str(beside)
    for candidate in (f"yowasp-{name}", name):
        if found := shutil.which(candidate):
            return found
    raise GategradError(f"the tool {name} is missing: pip install 'gategrad[build]' brings it")


def run_tool(
    name: str,
    arguments: Sequence[str],
    directory: Path,
    log: str,
    stage: str,
    progress: Progress,
    steps: dict[str, float],
) -> None:
    """Run tool ``name`` in ``directory``; what it prints goes to a file there, not to the screen.

    ``log`` is the file that the tool itself writes; ``steps`` maps beginnings of its lines to the
    fraction of the work that is then done. Raises :class:`GategradError` when the tool fails.
    """
    command = [find_tool(name), *arguments]
    progress(stage, 0.0, "")
    output = directory / f"{name}.out"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        ended = threading.Event()
        watcher = threading.Thread(
            target=_watch,
            args=(ended, output, directory / log, stage, progress, steps),
            daemon=True,
        )
        watcher.start()
        try:
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            ended.set()
            watcher.join()
    if status != 0:
        raise ToolFailed(name, _text(directory / log), _text(output))
    output.unlink()
    progress(stage, 1.0, "")


class ToolFailed(GategradError):
    """A build tool ended with an error; ``errors`` are its lines that say so."""

    def __init__(self, name: str, log: str, output: str):
        self.log = log + output
        lines = dict.fromkeys(re.findall(r"^ERROR:.*|^.*Assert .*failed.*", self.log, re.MULTILINE))
        self.errors = list(lines)
        reason = self.errors[0].removeprefix("ERROR: ") if self.errors else "no reason given"
        super().__init__(f"{name} failed: {reason}")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _watch(ended, output, log, stage, progress, steps):
    """Report the tool's progress, from what it has written, until it ends."""
    told: tuple[float | None, str] = (0.0, "")
    while not ended.wait(0.3):
        now: tuple[float | None, str] = (None, COMPILING) if _PREPARING in _text(output) else told
        text = _text(log)
        reached = [fraction for step, fraction in steps.items() if step in text]
        if reached:
            now = (max(reached), "")
        if now != told:
            told = now
            progress(stage, *now)
