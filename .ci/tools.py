"""Runs every build tool once, so that none compiles its WebAssembly in the middle of a test."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from gategrad.boards.tools import find_tool
from gategrad.errors import GategradError

TOOLS = ("yosys", "nextpnr-ice40", "nextpnr-ecp5", "icepack", "ecppack", "icepll", "ecppll")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def warm(tool: str) -> None:
    """Start ``tool``; raises :class:`GategradError` where it is missing."""
    start, compiled = time.monotonic(), False
    process = subprocess.Popen(
        [find_tool(tool), "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr or ():
        if "Preparing to run" in line and not compiled:
            compiled = True
            say(f"compiling the WebAssembly of {tool}, once on this machine ...")
    process.wait()  # its status says nothing: some tools call --version a mistake
    if compiled:
        say(f"compiled {tool} ({time.monotonic() - start:.0f} s)")


def main() -> None:
    try:
        with ThreadPoolExecutor(2) as pool:  # each compiles on one core
            list(pool.map(warm, TOOLS))
    except GategradError as error:
        sys.exit(f"gategrad: {error}")


if __name__ == "__main__":
    main()
