"""Broken models by the thousand: bytes and protobufs of real files, changed at random.

``python tests/onnx_mutations.py FIRST COUNT`` takes mutations number FIRST and on through the whole
importer and prints a line before and one after each: its number; what became of it, as JSON.
Everything follows from the number. It runs on its own so that whoever starts it sees crashes of
onnx's C++, time and memory.
"""

import json
import math
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

FIXTURES = Path(__file__).parent / "fixtures"
SEEDS = sorted(FIXTURES.glob("*.onnx"))
SECONDS = 5  # of processor time, for one file
VALUES = 1 << 20  # of all layers for a sample; with more it is not run
MEMORY = 4 << 30  # of addresses, half of which Python, NumPy and onnx take
SIZES = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 5, 7, 64, 1000, 65536, (1 << 31) - 1, 1 << 40,
         (1 << 63) - 1)  # fmt: skip
REALS = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, 1e-30, -1.0, 0.5, 1.0, 3.0,
         1e9, 3e38)  # fmt: skip
TYPES = ("Add", "ArgMax", "AveragePool", "BatchNormalization", "BipolarQuant", "Cast", "Clip",
         "Concat", "Constant", "ConstantOfShape", "Conv", "DequantizeLinear", "Div", "Dropout",
         "Expand", "Flatten", "Gather", "Gemm", "GlobalAveragePool", "Identity", "If", "LSTM",
         "LeakyRelu", "Loop", "MatMul", "MaxPool", "Min", "Mul", "Normalizer", "PRelu", "Pad",
         "Pow", "QGemm", "QLinearConcat", "QLinearConv", "Quant", "QuantizeLinear", "Range",
         "ReduceMean", "ReduceSum", "Relu", "Reshape", "Scaler", "Shape", "Sigmoid", "Slice",
         "Softmax", "Split", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "TopK", "Transpose", "Trilu",
         "Unsqueeze", "Where", "ZipMap", "LinearClassifier", "NoSuchThing", "")  # fmt: skip
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "onnx.brevitas", "nobody",
           "qonnx.custom_op.general", "qonnx.custom_op.channels_last")  # fmt: skip


def pick(rng, choices):
    """One of them, as Python has it."""
    return choices[int(rng.integers(len(choices)))]


# Bytes.


def flip(rng, data: bytearray) -> None:
    """Bits, anywhere: weights most of all."""
    for at in rng.integers(len(data), size=int(rng.integers(1, 9))):
        data[at] ^= 1 << int(rng.integers(8))


def flip_ends(rng, data: bytearray) -> None:
    """Bits where fields of the protobuf begin."""
    near = min(len(data), 400)
    for at in rng.integers(near, size=int(rng.integers(1, 4))):
        at = int(at) if rng.random() < 0.5 else len(data) - 1 - int(at)
        data[at] = int(rng.integers(256))


def truncate(rng, data: bytearray) -> None:
    """The file ends early."""
    del data[int(rng.integers(len(data))) :]


def splice(rng, data: bytearray) -> None:
    """A piece of another file in place of one of this."""
    other = pick(rng, SEEDS).read_bytes()
    start, at = int(rng.integers(len(other))), int(rng.integers(len(data)))
    size = int(rng.integers(1, 200))
    data[at : at + size * int(rng.integers(2))] = other[start : start + size]


def repeat(rng, data: bytearray) -> None:
    """A piece twice, or not at all."""
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 200))
    data[at:at] = data[at : at + size]
    if rng.random() < 0.5:
        del data[at : at + 2 * size]


# Protobufs.


def _drop_node(rng, graph):
    del graph.node[int(rng.integers(len(graph.node)))]


def _repeat_node(rng, graph):
    copied = graph.node.add()
    copied.CopyFrom(pick(rng, graph.node))
    if rng.random() < 0.7:
        for index, name in enumerate(list(copied.output)):
            copied.output[index] = f"{name}_again"
        for _ in range(2):
            taker = pick(rng, graph.node)
            if taker.input and copied.output:
                taker.input[int(rng.integers(len(taker.input)))] = copied.output[0]


def _order(rng, graph):
    nodes = [n for n in map(onnx.NodeProto.FromString, [n.SerializeToString() for n in graph.node])]
    del graph.node[:]
    graph.node.extend(nodes[k] for k in rng.permutation(len(nodes)))


def _type(rng, graph):
    pick(rng, graph.node).op_type = pick(rng, TYPES)


def _domain(rng, graph):
    pick(rng, graph.node).domain = pick(rng, DOMAINS)


def _names(graph):
    found = [v.name for v in (*graph.input, *graph.initializer)] + ["", "nothing"]
    return found + [name for node in graph.node for name in node.output]


def _wire(rng, graph):
    """A node takes something else, less or more."""
    node = pick(rng, graph.node)
    ends = node.input if rng.random() < 0.85 else node.output
    change = rng.random()
    if change < 0.6 and ends:
        ends[int(rng.integers(len(ends)))] = pick(rng, _names(graph))
    elif change < 0.8 and ends:
        del ends[int(rng.integers(len(ends)))]
    else:
        ends.append(pick(rng, _names(graph)))


def _attribute(rng, graph):
    """An attribute of another value, length, type or name, or gone."""
    nodes = [node for node in graph.node if node.attribute]
    if not nodes:
        return
    node = pick(rng, nodes)
    at = int(rng.integers(len(node.attribute)))
    attribute, change = node.attribute[at], rng.random()
    if change < 0.1:
        del node.attribute[at]
    elif change < 0.2:
        attribute.type = int(rng.integers(15))
    elif change < 0.25:
        attribute.name = pick(rng, [a.name for n in nodes for a in n.attribute])
    elif attribute.type == AttributeProto.INT:
        attribute.i = pick(rng, SIZES)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = pick(rng, REALS)
    elif attribute.type == AttributeProto.INTS and attribute.ints and change < 0.8:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = pick(rng, SIZES)
    elif attribute.type == AttributeProto.INTS:
        attribute.ints.append(pick(rng, SIZES))
        del attribute.ints[: int(rng.integers(4))]
    elif attribute.type == AttributeProto.FLOATS and attribute.floats:
        attribute.floats[int(rng.integers(len(attribute.floats)))] = pick(rng, REALS)
        del attribute.floats[: int(rng.integers(3))]
    elif attribute.type == AttributeProto.TENSOR:
        _tensor(rng, attribute.t)
    else:
        attribute.s = pick(rng, (b"", b"VALID", b"SAME_UPPER", b"FLOOR", b"\xff\xfe", b"reflect"))


def _add_attribute(rng, graph):
    name = pick(rng, ("axis", "axes", "perm", "pads", "strides", "group", "alpha", "transA",
                      "transB", "kernel_shape", "dilations", "keepdims", "to", "ceil_mode",
                      "signed", "narrow", "rounding_mode", "value", "epsilon"))  # fmt: skip
    value = pick(rng, (pick(rng, SIZES), pick(rng, REALS), [1, 2], [pick(rng, SIZES)] * 4, "FLOOR"))
    pick(rng, graph.node).attribute.append(helper.make_attribute(name, value))


def _tensor(rng, tensor):
    """Dims, type, data or values of a tensor."""
    change = rng.random()
    if change < 0.2:
        if tensor.dims and rng.random() < 0.7:
            tensor.dims[int(rng.integers(len(tensor.dims)))] = pick(rng, SIZES)
        elif tensor.dims and rng.random() < 0.5:
            del tensor.dims[0]
        else:
            tensor.dims.append(pick(rng, SIZES))
    elif change < 0.3:
        tensor.dims[:] = list(tensor.dims)[::-1]
    elif change < 0.4:
        tensor.data_type = int(rng.integers(28))
    elif change < 0.5:
        size = int(rng.integers(len(tensor.raw_data) + 9))
        tensor.raw_data = (tensor.raw_data + bytes(8))[:size]
    elif change < 0.55:
        tensor.data_location = TensorProto.EXTERNAL
        place = pick(rng, ("../x", "/etc/passwd", "model.onnx", "", "nowhere", "."))
        for key, value in (("location", place), ("offset", pick(rng, ("0", "-1", "8", "x"))),
                           ("length", pick(rng, ("4", "-4", "99999999999", "")))):  # fmt: skip
            tensor.external_data.add(key=key, value=value)
    else:
        _values(rng, tensor)


def _values(rng, tensor):
    """The same shape and type, and other numbers."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return
    try:
        value = np.array(numpy_helper.to_array(tensor))
        if value.dtype.kind not in "iuf" or not value.size:
            return
        flat = value.reshape(-1)
        choices = REALS if value.dtype.kind == "f" else SIZES[3:12]
        which = slice(None) if rng.random() < 0.3 else rng.integers(flat.size, size=2)
        with np.errstate(all="ignore"):
            if rng.random() < 0.3:
                flat[which] = flat[which] * np.array(pick(rng, (0, 2, 100))).astype(value.dtype)
            else:
                flat[which] = np.array(pick(rng, choices)).astype(value.dtype)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    except (TypeError, ValueError, KeyError, RuntimeError):
        tensor.raw_data = bytes(len(tensor.raw_data))


def _initialiser(rng, graph):
    if graph.initializer:
        _tensor(rng, pick(rng, graph.initializer))


def _small(rng, graph):
    """Scalars: scales, zero points, widths, bounds, shapes."""
    small = [t for t in graph.initializer if np.prod(t.dims, dtype=float) <= 8]
    if small:
        _values(rng, pick(rng, small))


def _lose(rng, graph):
    """An initialiser or an input is gone, there twice or called differently."""
    several = graph.initializer if graph.initializer and rng.random() < 0.7 else graph.input
    if not several:
        return
    at, change = int(rng.integers(len(several))), rng.random()
    if change < 0.3:
        del several[at]
    elif change < 0.5:
        several.add().CopyFrom(several[at])
    else:
        several[at].name = pick(rng, _names(graph))


def _input(rng, graph):
    """The shape of an input, or its type."""
    value = pick(rng, graph.input or graph.output).type.tensor_type
    change = rng.random()
    if change < 0.5 and value.shape.dim:
        value.shape.dim[int(rng.integers(len(value.shape.dim)))].dim_value = pick(rng, SIZES)
    elif change < 0.6 and value.shape.dim:
        pick(rng, value.shape.dim).dim_param = "n"
    elif change < 0.7 and value.shape.dim:
        del value.shape.dim[int(rng.integers(len(value.shape.dim)))]
    elif change < 0.85:
        value.shape.dim.add().dim_value = pick(rng, SIZES)
    else:
        value.elem_type = int(rng.integers(28))


def _output(rng, graph):
    change = rng.random()
    if change < 0.5 and graph.output:
        pick(rng, graph.output).name = pick(rng, _names(graph))
    elif change < 0.8:
        graph.output.add().name = pick(rng, _names(graph))
    else:
        del graph.output[:]


def _hostile(rng, graph):
    """A constant that grows beyond all memory, taken by some node."""
    size = numpy_helper.from_array(
        np.array([pick(rng, SIZES) for _ in range(int(rng.integers(1, 4)))]), "hostile_size"
    )
    one = numpy_helper.from_array(np.ones(1, np.int64), "hostile_one")
    graph.initializer.extend([size, one])
    kind = pick(rng, ("ConstantOfShape", "Expand", "Tile", "Range", "Gather", "Reshape", "Pow",
                      "Pad", "Trilu", "Split", "Slice", "Concat"))  # fmt: skip
    inputs = {"ConstantOfShape": ["hostile_size"], "Range": ["hostile_one", "hostile_size"]}
    given = inputs.get(kind, ["hostile_one", "hostile_size"])
    given = [*given, "hostile_one"] if kind in ("Range", "Slice") else given
    node = helper.make_node(kind, given, ["hostile"], axis=pick(rng, (0, 1, -1, 9)))
    taker = pick(rng, graph.node)
    if taker.input:
        taker.input[int(rng.integers(len(taker.input)))] = "hostile"
    graph.node.insert(0, node)


def _opset(rng, model):
    if model.opset_import:
        found = pick(rng, model.opset_import)
        if rng.random() < 0.8:
            found.version = pick(rng, (*range(1, 30), *SIZES))
        else:
            found.domain = pick(rng, DOMAINS)


BYTES = (flip, flip_ends, truncate, splice, repeat)
GRAPHS = (
    _drop_node, _repeat_node, _order, _type, _type, _domain, _wire, _wire, _attribute, _attribute,
    _attribute, _add_attribute, _initialiser, _initialiser, _initialiser, _small, _small, _lose,
    _input, _output, _hostile,
)  # fmt: skip


def mutated(number: int) -> tuple[str, bytes]:
    """What was done to which file, and the bytes it became."""
    rng = np.random.default_rng([number, 4])
    path = SEEDS[number % len(SEEDS)]
    if rng.random() < 0.3:
        data = bytearray(path.read_bytes())
        change = pick(rng, BYTES)
        change(rng, data)
        return f"{path.stem}: {change.__name__}", bytes(data)
    model = onnx.ModelProto.FromString(path.read_bytes())
    done = []
    for _ in range(pick(rng, (1, 1, 1, 2, 4))):
        if not model.graph.node:
            break
        change = pick(rng, (*GRAPHS, _opset))
        change(rng, model if change is _opset else model.graph)
        done.append(change.__name__.strip("_"))
    return f"{path.stem}: {' '.join(done)}", model.SerializeToString()


def take(path: Path) -> None:
    """From the file to integers that run; raises what the importer raises."""
    from gategrad.data import Dataset
    from gategrad.importer import load
    from gategrad.loading import quantised

    imported = load(path)
    if sum(math.prod(node.shape) for node in imported.network.nodes) > VALUES:
        return  # a greater image than there was, and nothing wrong with that
    rng = np.random.default_rng(1)
    x = np.floor(rng.random((8, *imported.network.input.shape)) * 17)
    labels = np.zeros(len(x), np.int64)
    data = None if imported.quantisers else Dataset("fuzz", x, labels, x, labels)
    model = quantised(imported, data)
    y = model.predict(x[:2])
    assert y.shape[0] == 2 and np.isfinite(y).all(), f"computes {y}"


def outcome(path: Path) -> tuple[str, str]:
    """``("taken" or "refused" or "failed", the message)``."""
    from gategrad.errors import GategradError

    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        take(path)
    except GategradError as error:
        return "refused", str(error)
    except BaseException:  # an exception of any other kind is what is looked for
        return "failed", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "taken", ""


def _late(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def main(first: int, count: int) -> None:
    """Print a line before and one after each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _late)
    with tempfile.TemporaryDirectory() as folder:
        for data in FIXTURES.glob("*.onnx.data"):
            shutil.copy(data, folder)
        path = Path(folder) / "model.onnx"
        for number in range(first, first + count):
            print(number, flush=True)
            what, data = mutated(number)
            path.write_bytes(data)
            print(json.dumps([what, *outcome(path)]), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
