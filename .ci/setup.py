"""Creates the virtual environment with everything that `make` uses:   python3 .ci/setup.py FOLDER

Run by the system's Python, of any version, to say in a sentence what is missing.
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

LEAST = (3, 11)


def fail(message):
    sys.exit("gategrad: " + message)


def follow(state, done):
    """What pip is doing and for how long, on one line of a terminal, until ``done``."""
    start = time.monotonic()
    while not done.wait(0.5):
        line = f"  {time.monotonic() - start:4.0f} s  {state[0]}"
        sys.stderr.write("\r\033[K" + line[:78])
        sys.stderr.flush()
    sys.stderr.write("\r\033[K")


def install(python, log):
    """pip, its output in ``log``; returns the seconds it took."""
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    start, lines, state, done = time.monotonic(), [], [""], threading.Event()
    pip = subprocess.Popen(
        [*command, "-e", ".[all]"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watcher = threading.Thread(target=follow, args=(state, done), daemon=True)
    if sys.stderr.isatty():
        watcher.start()
    with log.open("w") as file:
        for line in pip.stdout:
            file.write(line)
            lines.append(line)
            if line.startswith(("Collecting", "  Downloading", "Installing", "  Preparing")):
                state[0] = " ".join(line.split())
    done.set()
    if watcher.is_alive():
        watcher.join()
    if pip.wait():
        sys.stderr.writelines(lines[-20:])
        fail(f"pip could not install the packages; all of what it said is in {log}")
    return time.monotonic() - start


def main():
    if sys.version_info < LEAST:
        found = ".".join(map(str, sys.version_info[:3]))
        fail(
            f"Python {LEAST[0]}.{LEAST[1]} or newer is needed, {sys.executable} is {found}; "
            "install one, or name it: make PYTHON=python3.12"
        )
    folder = Path(sys.argv[1])
    print("Setting up Python packages, once: about 300 MB to download", file=sys.stderr, flush=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True
    )
    python = folder / "bin" / "python"
    if made.returncode or not python.exists():
        sys.stderr.write(made.stdout + made.stderr)
        fail(f"{sys.executable} makes no virtual environment (Debian: apt install python3-venv)")
    (folder / "home").mkdir(exist_ok=True)
    seconds = install(str(python), folder / "install.log")
    (folder / ".ready").touch()
    print(f"Python packages are in {folder} ({seconds:.0f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
