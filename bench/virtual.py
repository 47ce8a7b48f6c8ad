"""A virtual board: how much of the line it fills, and how fast the simulation is."""

import time
from pathlib import Path

from bench.models import data_of, model
from bench.network_page import Goal, table
from gategrad.boards.host import Link
from gategrad.device import predict, weights_for
from gategrad.virtual_board import VirtualBoard, top_of

CASE = "virtual: mnist"
IMAGES = 1000
#: Bits on the line for a byte.
BITS = 10


def mnist(folder: Path) -> dict:
    """MNIST through a virtual iCEBreaker's port, two images in flight, compared with golden."""
    net, data = model("mnist"), data_of("mnist")
    x = net.raw_inputs(data.x_test[:IMAGES])
    top = top_of(net, "icebreaker")
    with VirtualBoard(top) as board, Link(board.port, top.baud, net.hash) as link:
        image, together = weights_for(net, top.board, link.identify().load_bytes)
        link.load(image)
        start, cycle = time.perf_counter(), board.cycle
        outputs = predict(net, link, x, together)
        seconds, cycles = time.perf_counter() - start, board.cycle - cycle
    return {
        "images": len(x),
        "mismatches": int((outputs != net.forward(x)).any(axis=1).sum()),
        "cycles": cycles,
        "cycles_per_second": cycles / seconds,
        "payload": x.size * BITS * top.cycles / cycles,
        "baud": top.baud,
        "clock_mhz": top.frequency / 1e6,
        "repeated": link.repeated,
    }


def virtual_sections(results: dict) -> list[str]:
    """The section of docs/benchmarks.md."""
    if not (r := results.get(CASE)):
        return []
    row = [
        f"{r['images']:,}", str(r["mismatches"]), str(r["repeated"]),
        f"{r['clock_mhz']:g} MHz", f"{r['baud']:,}", f"{r['payload']:.1%}",
        f"{r['cycles'] / r['images']:,.0f}", f"{r['cycles_per_second']:,.0f}",
    ]  # fmt: skip
    return [
        f'## A virtual board\n\n`python -m bench "{CASE}"`: the complete top level of an '
        "iCEBreaker behind a pseudo-terminal, weights loaded over the link. Payload is the share "
        "of the line's time, counted in the board's cycles, that bytes of images take.\n\n"
        + table(["images", "that differ", "repeated", "clock", "baud", "payload",
                 "cycles an image", "cycles/s"], [row])
    ]  # fmt: skip


def virtual_goals(results: dict) -> list[Goal]:
    """What was to be reached."""
    if not (r := results.get(CASE)):
        return []
    right = r["images"] - r["mismatches"]
    return [
        ("MNIST over a virtual board: images with every output as golden's", f"{IMAGES:,}",
         f"{right:,}", right >= IMAGES),
        ("its payload, of the baud rate", "at least 85 %", f"{r['payload']:.1%}",
         r["payload"] >= 0.85),
    ]  # fmt: skip
