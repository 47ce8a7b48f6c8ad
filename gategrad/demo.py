"""``make demo``: MNIST from training to an iCEBreaker bitstream, every bit checked."""

import sys
from pathlib import Path

from gategrad.backends import simulate
from gategrad.boards.board import find_board
from gategrad.console import Stages, out
from gategrad.data import load_data
from gategrad.errors import GategradError
from gategrad.generation import generate
from gategrad.graph import Network
from gategrad.verbs import build, plan_for, train

BOARD = "icebreaker"
OUTPUT = Path("demo")
EXAMPLE = Path("examples") / "mnist.toml"
SLOW_SAMPLES = 20  # Amaranth's simulator runs a few thousand cycles a second


def main() -> None:
    """Run the demonstration; exit status 1 if any bit differs."""
    data = load_data("mnist")
    x, y = data.x_test, data.y_test
    with Stages("784-32-10 on MNIST: ") as stages:
        model = train(Network.load(EXAMPLE), data, progress=stages)
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "mnist.npz"
    model.save(path)

    board = find_board(BOARD)
    plan = plan_for(model, board)
    with Stages() as stages:
        generate(model, board, OUTPUT / "core", progress=stages)
    results = []
    for backend, samples in (
        ("numpy", len(x)), ("amaranth", SLOW_SAMPLES), ("verilator", len(x))
    ):  # fmt: skip
        with Stages(f"{backend}: ") as stages:
            results.append(
                simulate(
                    model, x[:samples], y[:samples], backend=backend, plan=plan, progress=stages
                )
            )
    with Stages() as stages:
        built = build(model, board, OUTPUT / BOARD, progress=stages)

    golden, slow, fast = results
    table = built.table()
    used = ", ".join(
        f"{table['resources'][key]['used']} of {table['resources'][key]['available']} {title}"
        for key, title in (
            ("luts", "LUTs"), ("ffs", "FFs"), ("dsps", "DSPs"), ("brams", "RAMs"),
            ("sprams", "SPRAMs"),
        )
    )
    cycles = fast.cycles_per_sample
    differing = sum(result.mismatches for result in results)
    out.print(f"""
gategrad: 784-32-10 on {board.title}
  accuracy    float {model.info['float_accuracy']:.1%}, fixed point {fast.accuracy:.1%} \
on {len(x)} held-out images
  agreement   {len(x)} images in Verilator, {SLOW_SAMPLES} in Amaranth's simulator: \
{differing} differ from NumPy in any bit
  simulation  NumPy {golden.samples / (golden.seconds or 1):,.0f} images/s; Verilator \
{fast.cycles_per_second or 0:,.0f} cycles/s, Amaranth {slow.cycles_per_second or 0:,.0f}
  speed       {cycles:g} cycles an image; clock {table['clock_mhz']:g} MHz \
({table['fmax_mhz']:.1f} met): {built.report.frequency / cycles:,.0f} images/s
  multipliers {table['multipliers']} in use, {table['mac_efficiency']:.1%} of their cycles useful
  resources   {used}
  files       {path} (model), {OUTPUT / 'core' / 'core.v'} (Verilog),
              {OUTPUT / BOARD / built.report.bitstream} (bitstream)
  next        gategrad flash {OUTPUT / BOARD}; gategrad run {path} --build {OUTPUT / BOARD} \
--port PORT --data mnist""")
    for result in results:
        if result.difference:
            out.print(f"{result.backend}: {result.difference}")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    try:
        main()
    except (GategradError, OSError) as error:
        print(f"gategrad: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("gategrad: interrupted", file=sys.stderr)
        sys.exit(130)
