"""A host that asks a SumCore without end and counts: a process, so that it can be killed.

Prints a line of JSON after every few frames: results so far, how many were wrong, failed calls,
repeated requests, and the longest time in seconds that any call took.
"""

import json
import random
import sys
import time

from gategrad.boards.host import Link
from gategrad.errors import GategradError


def expected(x, outputs):
    """What ``link_support.SumCore`` answers, without the imports that it needs."""
    row = [-sum(x) if k % 2 else sum(x) for k in range(outputs)]
    return row.index(max(row)), row


def main(port: str, baud: int, model: str, inputs: int, outputs: int, seed: int) -> None:
    rng = random.Random(seed)
    told = {"done": 0, "wrong": 0, "failed": [], "repeated": 0, "slowest": 0.0}
    with Link(port, baud, model) as link:
        while True:
            xs = [[rng.randrange(-128, 128) for _ in range(inputs)] for _ in range(10)]
            last = time.monotonic()
            try:
                if rng.random() < 0.1:
                    link.identify()
                frames = [bytes(v & 0xFF for v in x) for x in xs]
                results = link.infer_many(frames, window=rng.choice((1, 2, 2, 2)))
                for x, result in zip(xs, results, strict=True):
                    told["wrong"] += result != expected(x, outputs)
                    told["done"] += 1
                    now = time.monotonic()
                    told["slowest"], last = max(told["slowest"], now - last), now
            except GategradError as error:
                told["failed"].append(str(error))
                told["slowest"] = max(told["slowest"], time.monotonic() - last)
            told["repeated"] = link.repeated
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
