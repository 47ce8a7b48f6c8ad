"""A host that asks a SumCore without end and counts: a process, so that it can be killed.

Prints a line of JSON after every few frames: results so far, how many were wrong, failed calls,
repeated requests, and the longest time in seconds that any attempt waited for bytes in vain.
"""

import json
import random
import sys

from gategrad.boards.host import Link
from gategrad.boards.serial_port import SerialPort
from gategrad.errors import GategradError


class Port(SerialPort):
    """A port that adds up the seconds: those that a busy machine takes are not among them."""

    waited = 0.0

    def read(self, count, timeout):
        data = super().read(count, timeout)
        if len(data) < count:
            self.waited += timeout
        return data


def expected(x, outputs):
    """What ``link_support.SumCore`` answers, without the imports that it needs."""
    row = [-sum(x) if k % 2 else sum(x) for k in range(outputs)]
    return row.index(max(row)), row


def main(port: str, baud: int, model: str, inputs: int, outputs: int, seed: int) -> None:
    rng = random.Random(seed)
    told = {"done": 0, "wrong": 0, "failed": [], "repeated": 0, "slowest": 0.0}
    line = Port(port, baud)

    def waited(last):
        """Since ``last``, and what is to be ``last`` next."""
        attempts = 1 + link.repeated - last[1]
        told["slowest"] = max(told["slowest"], (line.waited - last[0]) / attempts)
        return line.waited, link.repeated

    # Noise alone damages no attempt so often.
    with Link(line, baud, model, retries=5) as link:
        while True:
            xs = [[rng.randrange(-128, 128) for _ in range(inputs)] for _ in range(10)]
            last = line.waited, link.repeated
            try:
                if rng.random() < 0.1:
                    link.identify()
                frames = [bytes(v & 0xFF for v in x) for x in xs]
                results = link.infer_many(frames, window=rng.choice((1, 2, 2, 2)))
                for x, result in zip(xs, results, strict=True):
                    told["wrong"] += result != expected(x, outputs)
                    told["done"] += 1
                    last = waited(last)
            except GategradError as error:
                told["failed"].append(str(error))
                waited(last)
            told["repeated"] = link.repeated
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
