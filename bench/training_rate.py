"""How fast a processor trains 784-32-10 with one sample a batch, and golden with eight."""

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.learning import SUBSET, data_of, network_of
from gategrad.learner import Learner
from gategrad.learning_formats import learning_model

SOURCE = Path("bench", "train_baseline.c")
FLAGS = ("-O3", "-march=native", "-ffast-math")
RATE = np.float32(1 / 32)
REPEATS = 7
#: Weights and biases of hidden and output layer.
SHAPES = ((32, 784), (32,), (10, 32), (10,))
Weights = list[np.ndarray]


def rates(folder: Path) -> dict[str, Any]:
    """Samples a second, the best of several runs over the same 4,000 images."""
    network = network_of("mnist")
    data = data_of("mnist-full", network)
    x, y = data.x_train[:SUBSET], data.y_train[:SUBSET]
    real = aligned(network.input.format.real(x.reshape(len(x), -1)))
    learning = learning_model(network, None, network.learning, data, (x, y))
    with tempfile.TemporaryDirectory() as scratch:
        compiled = c_program(Path(scratch))
        ends = [weights(), weights()]
        for train, w in zip((compiled, with_numpy), ends, strict=True):
            train(real, y, w)
        apart = max(float(np.abs(a - b).max()) for a, b in zip(*ends, strict=True))
        if apart > 1e-3:
            raise RuntimeError(f"{SOURCE} and NumPy end {apart} apart")
        return {
            "samples": SUBSET,
            "apart": apart,
            "flags": " ".join(FLAGS),
            "c": best(lambda: compiled(real, y, weights())),
            "numpy": best(lambda: with_numpy(real, y, weights())),
            "golden": best(lambda: Learner(learning).step(x, y)),
            "batch": network.learning.batch,
        }


def best(run: Callable[[], Any]) -> float:
    """Samples a second of the fastest of several runs."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return SUBSET / min(seconds)


def aligned(values: np.ndarray) -> np.ndarray:
    """As 32-bit floats from a multiple of 64 bytes on."""
    memory = np.zeros(values.size + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    found = memory[start : start + values.size].reshape(values.shape)
    found[...] = values
    return found


def weights() -> Weights:
    """The first weights, Glorot's; biases 0."""
    random = np.random.default_rng(1)
    return [
        aligned(random.uniform(-1, 1, shape) * (6 / sum(shape)) ** 0.5 * (len(shape) == 2))
        for shape in SHAPES
    ]


def c_program(folder: Path) -> Callable[[np.ndarray, np.ndarray, Weights], None]:
    """The compiled program, with the interface of :func:`with_numpy`."""
    target = folder / "train.so"
    command = [os.environ.get("CC", "gcc"), *FLAGS, "-shared", "-fPIC", "-o", target, SOURCE, "-lm"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    library = ctypes.CDLL(str(target))

    def address(array: np.ndarray) -> ctypes.c_void_p:
        return array.ctypes.data_as(ctypes.c_void_p)

    def train(x: np.ndarray, y: np.ndarray, w: Weights) -> None:
        labels = y.astype(np.int32)
        count, rate = ctypes.c_int(len(x)), ctypes.c_float(RATE)
        library.train(address(x), address(labels), count, rate, *map(address, w))

    return train


def with_numpy(x: np.ndarray, y: np.ndarray, w: Weights) -> None:
    """Stochastic gradient descent, written for speed."""
    w1, b1, w2, b2 = w
    for image, label in zip(x, y.tolist(), strict=True):
        h = w1 @ image
        h += b1
        np.maximum(h, 0, out=h)
        d2 = w2 @ h
        d2 += b2
        d2 -= d2.max()
        np.exp(d2, out=d2)
        d2 /= d2.sum()
        d2[label] -= 1
        d2 *= RATE
        d1 = d2 @ w2
        d1 *= h > 0
        w2 -= d2[:, None] * h
        b2 -= d2
        w1 -= d1[:, None] * image
        b1 -= d1
