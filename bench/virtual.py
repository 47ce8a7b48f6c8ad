"""Virtual boards: MNIST predicted and learned, the share of the line, the speed of simulation."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.models import data_of, model
from bench.network_page import Goal, table
from gategrad.boards.host import Link
from gategrad.core import load_image
from gategrad.data import load_data
from gategrad.device import pack_inputs
from gategrad.graph import Network
from gategrad.learner import Learner
from gategrad.virtual_board import VirtualBoard, top_of

PREDICTED, LEARNED = "virtual: mnist", "virtual: mnist learns"
IMAGES, LESSONS = 1000, 200
#: Images at the fast rate besides.
FAST_IMAGES = 100
#: Bits on the line for a byte.
BITS = 10


def predicted(folder: Path) -> dict:
    """MNIST through a virtual iCEBreaker's port, two images in flight, compared with golden."""
    net, data = model("mnist"), data_of("mnist")
    x = net.raw_inputs(data.x_test[:IMAGES])
    frames = pack_inputs(x, net.input.format.width)
    top = top_of(net, "icebreaker")
    with VirtualBoard(top) as board, Link(board.port, top.baud, top.model) as link:
        link.load(load_image(top.core))
        results, figures = _measured(board, link, x, lambda: list(link.infer_many(frames)))
        link.speed_up()
        few = frames[:FAST_IMAGES]
        again, fast = _measured(board, link, x[: len(few)], lambda: list(link.infer_many(few)))
    return figures | {
        "mismatches": _wrong(results, net.forward(x)),
        "fast": fast | {"mismatches": _wrong(again, net.forward(x[: len(few)]))},
    }


def learned(folder: Path) -> dict:
    """MNIST learned by a virtual ULX3S at a low clock: every output and weight as golden's."""
    network = Network.load("examples/mnist.toml")
    data = load_data("mnist", network)
    top = top_of(network, "ulx3s-45f", data, frequency=24e6, baud=3_000_000)
    image, learning = top.core.trainer.image, top.core.trainer.learning
    x = learning.model.raw_inputs(data.x_train[:LESSONS])
    labels = data.y_train[:LESSONS]
    frames = pack_inputs(x, learning.model.input.format.width)
    learner = Learner(learning)
    expected = learner.step(x, labels).outputs
    with VirtualBoard(top) as board, Link(board.port, top.baud, top.model) as link:
        link.load(image.to_bytes(learning.model))
        samples = zip(frames, labels.tolist(), strict=True)
        results, figures = _measured(board, link, x, lambda: list(link.train_many(samples)))
        weights = link.read()
    return figures | {
        "mismatches": _wrong(results, expected),
        "weights_equal": weights == image.to_bytes(learner.model),
    }


def _wrong(results: list, expected: np.ndarray) -> int:
    """Of how many samples any output is not ``expected``."""
    return int((np.array([outputs for _, outputs in results]) != expected).any(axis=1).sum())


def _measured(board: VirtualBoard, link: Link, x: np.ndarray, run: Callable) -> tuple:
    """What ``run`` gives, and the figures of the line and the simulation meanwhile."""
    start, cycle = time.perf_counter(), board.cycle
    answer = run()
    seconds, cycles = time.perf_counter() - start, board.cycle - cycle
    return answer, {
        "board": board.top.board.name,
        "images": len(x),
        "cycles": cycles,
        "cycles_per_second": cycles / seconds,
        "payload": x.size * BITS * board.top.frequency / link.baud / cycles,
        "baud": link.baud,
        "clock_mhz": board.top.frequency / 1e6,
        "repeated": link.repeated,
    }


CASES = {PREDICTED: predicted, LEARNED: learned}


def virtual_sections(results: dict) -> list[str]:
    """The section of docs/benchmarks.md."""
    found = {name.removeprefix("virtual: "): r for name in CASES if (r := results.get(name))}
    if fast := results.get(PREDICTED, {}).get("fast"):
        found["mnist, fast rate"] = fast
    rows = [
        [
            name, r["board"], f"{r['images']:,}", str(r["mismatches"]),
            {True: "equal", False: "**differ**", None: ""}[r.get("weights_equal")],
            str(r["repeated"]), f"{r['clock_mhz']:g} MHz", f"{r['baud']:,}",
            f"{r['payload']:.1%}", f"{r['cycles'] / r['images']:,.0f}",
            f"{r['cycles_per_second']:,.0f}",
        ]
        for name, r in found.items()
    ]  # fmt: skip
    if not rows:
        return []
    return [
        f'## Virtual boards\n\n`python -m bench "{PREDICTED}" "{LEARNED}"`: the complete top level '
        "of a board behind a pseudo-terminal, weights loaded over the link. Payload is the share "
        "of the line's time, counted in the board's cycles, that bytes of images take.\n\n"
        + table(["case", "board", "images", "outputs that differ", "weights", "repeated", "clock",
                 "baud", "payload", "cycles an image", "cycles/s"], rows)
    ]  # fmt: skip


def virtual_goals(results: dict) -> list[Goal]:
    """What was to be reached."""
    goals = []
    for name, verb, least in ((PREDICTED, "predicted", IMAGES), (LEARNED, "learned", LESSONS)):
        if r := results.get(name):
            right = (r["images"] - r["mismatches"]) * r.get("weights_equal", True)
            goals.append((f"MNIST {verb} over a virtual board, every bit golden's", f"{least:,}",
                          f"{right:,}", right >= least))  # fmt: skip
    if r := results.get(PREDICTED):
        goals.append(("payload of the link with 784-byte images", "at least 85 %",
                      f"{r['payload']:.1%}", r["payload"] >= 0.85))  # fmt: skip
    return goals
