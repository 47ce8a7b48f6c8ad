"""Random networks, with channels first or last, lowered from ONNX: as its reference evaluator."""

import numpy as np
import pytest
from onnx_models import OnnxModel, weights

SEEDS = 240
GROUPS = 8
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class Grower:
    """A model that grows node by node; ``x`` is the tensor at its end, of ``c`` x ``h`` x ``w``,
    ``older`` others of the same shape. With ``last`` all tensors have channels last, and transposes
    stand around what takes channels first, as tf2onnx writes it."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.last = bool(self.random.integers(2))
        self.c = self.number(1, 3)
        self.h, self.w = self.number(3, 7), self.number(3, 7)
        shape = (self.h, self.w, self.c) if self.last else (self.c, self.h, self.w)
        self.model = OnnxModel(1, *shape)
        self.x, self.older = "x", []

    def number(self, low, high):
        return int(self.random.integers(low, high + 1))

    def pick(self, *choices):
        return choices[self.number(0, len(choices) - 1)]

    def weights(self, *shape):
        return weights(*shape, seed=self.number(0, 1 << 30))

    def a_channel(self):
        """A constant with a value a channel."""
        return self.weights(self.c) if self.last else self.weights(self.c, 1, 1)

    def first(self, kind, *inputs, **attributes):
        """A node that takes channels first."""
        x = self.model("Transpose", self.x, perm=TO_FIRST) if self.last else self.x
        y = self.model(kind, x, *inputs, **attributes)
        return self.model("Transpose", y, perm=TO_LAST) if self.last else y

    def conv(self, depthwise=False):
        kernel = self.number(1, min(3, self.h)), self.number(1, min(3, self.w))
        pads = [self.number(0, 1) for _ in range(4)]
        strides = [self.number(1, 2), self.number(1, 2)]
        groups = self.c if depthwise else 1
        filters = min(self.number(1, 4) * groups, 4 * groups)
        each = self.weights(filters, self.c // groups, *kernel)
        bias = [self.weights(filters)] if self.number(0, 1) else []
        self.x = self.first("Conv", each, *bias, group=groups, pads=pads, strides=strides)
        self.h = (self.h + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
        self.w = (self.w + pads[1] + pads[3] - kernel[1]) // strides[1] + 1
        self.c, self.older = filters, []

    def depthwise(self):
        if self.c <= 6:
            self.conv(depthwise=True)

    def pool(self):
        if min(self.h, self.w) > 2:
            kernel, strides = ([self.number(1, 2), self.number(1, 2)] for _ in range(2))
            kind = self.pick("MaxPool", "AveragePool")
            self.x = self.first(kind, kernel_shape=kernel, strides=strides)
            self.h = (self.h - kernel[0]) // strides[0] + 1
            self.w = (self.w - kernel[1]) // strides[1] + 1
            self.older = []

    def pad(self):
        top, left, bottom, right = (self.number(0, 1) for _ in range(4))
        begin, end = ((top, left), (bottom, right))
        sides = [0, *begin, 0, 0, *end, 0] if self.last else [0, 0, *begin, 0, 0, *end]
        self.x = self.model("Pad", self.x, np.array(sides))
        self.h, self.w = self.h + top + bottom, self.w + left + right
        self.conv()

    def normalise(self):
        scale, shift, mean, deviation = (self.weights(self.c) for _ in range(4))
        variance = np.square(deviation) + np.float32(0.25)
        self.x = self.first("BatchNormalization", scale, shift, mean, variance)

    def activate(self):
        kind, more, options = self.pick(
            ("Relu", (), {}),
            ("Tanh", (), {}),
            ("LeakyRelu", (), {"alpha": 0.25}),
            ("Clip", (np.float32(-0.5), np.float32(1)), {}),
        )
        self.x = self.model(kind, self.x, *more, **options)

    def constant(self):
        pair = (self.x, self.a_channel())
        kind = self.pick("Add", "Sub", "Mul")
        self.x = self.model(kind, *(pair[::-1] if self.number(0, 1) else pair))

    def join(self):
        if self.older:
            other = self.pick(*self.older, self.x)
            if self.c <= 6 and self.number(0, 1):
                self.x = self.model("Concat", self.x, other, axis=3 if self.last else 1)
                self.c, self.older = 2 * self.c, []
            else:
                self.x = self.model(self.pick("Add", "Sub"), self.x, other)

    def grow(self):
        steps = (self.conv, self.depthwise, self.pool, self.pad, self.normalise, self.activate,
                 self.constant, self.join)  # fmt: skip
        for _ in range(self.number(2, 8)):
            self.pick(*steps)()
            self.older.append(self.x)
        return self

    def end(self):
        """A classifier behind it, or nothing."""
        inputs, kind = self.c * self.h * self.w, self.number(0, 4)
        if kind == 0:
            return self.x
        if kind == 1:
            y = self.model("Flatten", self.x)
        elif kind == 2:
            turned = self.model("Transpose", self.x, perm=[0, 1, 3, 2])
            y = self.model("Reshape", turned, np.array([1, -1]))
        else:
            axes, inputs = ([1, 2] if self.last else [2, 3]), self.c
            y = self.model(self.pick("ReduceMean", "ReduceMax"), self.x, axes=axes, keepdims=0)
        y = self.model("Add", self.model("MatMul", y, self.weights(inputs, 3)), self.weights(3))
        y = self.model("Sub", y, self.weights(3))
        return self.model("Gemm", y, self.weights(4, 3), transB=1)


@pytest.mark.parametrize("group", range(GROUPS))
def test_random_networks(tmp_path, group):
    for seed in range(group, SEEDS, GROUPS):
        grown = Grower(seed).grow()
        # The last node may be one that is no layer: a Transpose, or a sum with nothing.
        end = grown.model("Mul", grown.end(), np.float32(2))
        try:
            # A window that sees padding only, and x - x, give zeros.
            grown.model.check(tmp_path, end, zeros=True)
        except Exception as error:
            kinds = [node.op_type for node in grown.model.nodes]
            raise AssertionError(f"seed {seed}, {kinds}") from error
