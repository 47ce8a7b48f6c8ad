"""Run testbench.v in Verilator on real samples:   python examples/axi/check.py MODEL DATA CORE

CORE is the output of `gategrad generate --axi`; samples.hex, classes.hex and vectors.vh are written
into it, then the simulation is compiled and run.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import gategrad
from gategrad.sim.toolchain import find_verilator

HERE = Path(__file__).resolve().parent


def write_vectors(model: gategrad.Model, data: gategrad.Dataset, core: Path, count: int) -> None:
    """``count`` held-out samples, packed as core.json says, and golden's classes."""
    description = json.loads((core / "core.json").read_text())
    i, o = description["streams"]["i"], description["streams"]["o"]
    stride, lanes = i["bits_from_lane_to_lane"], i["lanes"]
    x = model.raw_inputs(data.x_test[:count])
    beats = []
    for sample in x.tolist():
        for start in range(0, len(sample), lanes):
            values = enumerate(sample[start : start + lanes])
            beats.append(sum((value % (1 << stride)) << lane * stride for lane, value in values))
    (core / "samples.hex").write_text("".join(f"{beat:x}\n" for beat in beats))
    (core / "classes.hex").write_text("".join(f"{c:x}\n" for c in model.classify(x).tolist()))
    macros = {
        "SAMPLES": len(x),
        "BEATS": i["beats"],
        "IN_BITS": stride * lanes,
        "LANES": o["lanes"],
        "STRIDE": o["bits_from_lane_to_lane"],
        "OUTPUTS": o["elements"],
        "CYCLES": math.ceil(description["cycles_per_sample"]),
    }
    (core / "vectors.vh").write_text("".join(f"`define {k} {v}\n" for k, v in macros.items()))


def compiled(core: Path, folder: str) -> Path:
    """The testbench around the core in ``core`` as a program in ``folder``."""
    verilator = find_verilator()
    sources = [str(HERE / name) for name in ("testbench.v", "classifier.v", "main.cpp")]
    command = [*verilator.command, "--cc", "--exe", "--build", "--no-timing", "-Wno-fatal",
               "-Wno-lint", "--top-module", "testbench", "--Mdir", folder]  # fmt: skip
    subprocess.run(
        [*command, *sources, "core.v"],
        cwd=core,
        env={**os.environ, **verilator.environment},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return Path(folder, "Vtestbench")


def passes(program: Path, core: Path) -> bool:
    """Whether the program finds golden's classes for the samples in ``core``."""
    return subprocess.run([str(program)], cwd=core).returncode == 0


if __name__ == "__main__":
    model, data, folder = sys.argv[1:]
    write_vectors(gategrad.load(model), gategrad.load_data(data), Path(folder), 50)
    with tempfile.TemporaryDirectory() as objects:
        sys.exit(not passes(compiled(Path(folder), objects), Path(folder)))
