# amaranth: UnusedElaboratable=no
"""Inference whose weights and biases can be changed: gateware, order, files, and other models."""

import dataclasses
import json
import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from small_models import noise

import gategrad
from gategrad import Dataset, GategradError, Input, Network, Quantisation, Training, layouts
from gategrad.core import Core, load_image
from gategrad.golden.format import Format
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE, Resources
from gategrad.image_layers import Conv2D, DepthwiseConv2D, GlobalAveragePool
from gategrad.layers import Dense, Flatten
from gategrad.loadable import WeightFile, for_any_weights, structure_hash
from gategrad.plan import Context
from gategrad.planner import plan
from gategrad.quantisers import Grid
from gategrad.verbs import plan_for

ROOM = Resources(luts=80_000, ffs=80_000, dsps=8, brams=30, sprams=4)


def other(model, seed=1):
    """``model`` with other weights and biases, any that its formats hold."""
    rng = np.random.default_rng(seed)
    params = {}
    for node in model.nodes:
        if node.name not in model.params:
            continue
        old, fmt = model.params[node.name], node.spec.weight
        bound = int(np.abs(old["bias"]).max()) * 2 + 5
        params[node.name] = {
            "weight": rng.integers(fmt.min, fmt.max + 1, old["weight"].shape),
            "bias": rng.integers(-bound, bound + 1, old["bias"].shape),
        }
    return model.replace(params=params)


def loadable_plan(model, technology, room=ROOM):
    return plan(for_any_weights(model), technology, room, loadable=True, most_lanes=16)


class Host:
    """What drives a core in Amaranth's simulator, without a link."""

    def __init__(self, ctx, core, seed=1):
        self.ctx, self.core, self.source = ctx, core, random.Random(seed)

    async def load(self, image, gaps=0):
        """``gaps``: cycles between two bytes, at most."""
        ctx, port = self.ctx, self.core.load
        for byte in image:
            for _ in range(self.source.randint(0, gaps)):
                await ctx.tick()
            ctx.set(port.payload[0], byte)
            ctx.set(port.valid, 1)
            ready = 0
            while not ready:
                *_, ready = await ctx.tick().sample(port.ready)
            ctx.set(port.valid, 0)
        await ctx.tick().repeat(32)

    async def dump(self, size, piece=0):
        ctx, port, got = self.ctx, self.core.dump, []
        ctx.set(self.core.piece, piece)
        ctx.set(self.core.dumping, 1)
        while len(got) < size:
            ready = self.source.random() < 0.7
            ctx.set(port.ready, ready)
            *_, valid, byte = await ctx.tick().sample(port.valid, port.payload[0])
            got += [int(byte)] * (valid and ready)
        ctx.set(self.core.dumping, 0)
        ctx.set(port.ready, 0)
        while not (await ctx.tick().sample(self.core.idle))[-1]:
            pass
        await ctx.tick().repeat(32)
        return bytes(got)

    async def run(self, x):
        ctx, core = self.ctx, self.core
        lanes_in, lanes_out = (len(port.payload) for port in (core.i, core.o))
        beats = [row[k : k + lanes_in] for row in x.tolist() for k in range(0, len(row), lanes_in)]
        got, sent = [], 0
        each = -(-core.outputs // lanes_out)
        while len(got) < len(x) * each:
            if sent < len(beats):
                for lane, value in enumerate(beats[sent]):
                    ctx.set(core.i.payload[lane], value)
            ctx.set(core.i.valid, sent < len(beats))
            ready = self.source.random() < 0.9
            ctx.set(core.o.ready, ready)
            *_, taken, valid, out = await ctx.tick().sample(
                core.i.ready, core.o.valid, core.o.payload
            )
            sent += bool(taken and sent < len(beats))
            if valid and ready:
                got.append([int(out[lane]) for lane in range(lanes_out)])
        ctx.set(core.i.valid, 0)
        ctx.set(core.o.ready, 0)
        return np.array(got).reshape(len(x), -1)[:, : core.outputs]


def with_first(model, technology, bram_bits=10**6, **folding):
    """A plan whose first layer has that folding."""
    planned = loadable_plan(model, technology)
    first = planned.nodes[0]
    context = Context(
        technology, planned.model.params[first.name], model.input.size, first=True, chain=True,
        hardware=99, soft=0, most=99, least=0, bram_bits=bram_bits, loadable=True,
    )  # fmt: skip
    options = layouts.dense(first.node, context)
    layout = next(
        option for option in options if folding.items() <= vars(option.folding).items()
    )
    nodes = (dataclasses.replace(first, layout=layout), *planned.nodes[1:])
    return dataclasses.replace(planned, nodes=nodes)


PLANS = {
    "portable": lambda model: loadable_plan(model, PORTABLE),
    "ecp5": lambda model: loadable_plan(model, ECP5),
    "ecp5 logic": lambda model: loadable_plan(model, ECP5, dataclasses.replace(ROOM, brams=0)),
    "ice40": lambda model: loadable_plan(model, ICE40),
    "ice40up": lambda model: loadable_plan(model, ICE40UP),
    "spram": lambda model: with_first(model, ICE40UP, 0, vectors=1),
    "spram, pairs": lambda model: with_first(model, ICE40UP, 0, vectors=2),
} | {
    # As many rows of weights as are read ahead, and one more or less.
    f"{t.name}, {6 // pe} rows": lambda model, t=t, pe=pe: with_first(model, t, pe=pe, simd=12)
    for t in (ECP5, ICE40UP) for pe in (6, 3, 2)
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANS)
def test_core(kind):
    model, _ = noise(12, 6)
    as_built_and_with_others(PLANS[kind](model), "spram" not in kind)


@pytest.mark.parametrize("technology", [ECP5, ICE40], ids=lambda t: t.name)
def test_convolutions(technology):
    """Depthwise too, and scales of their own: biases in a table in front of the multiplier."""
    random = np.random.default_rng(1)
    x, y = random.integers(0, 256, (40, 4, 4, 1)), np.arange(40) % 3
    data = Dataset("noise", x.astype(np.uint8), y, x[:9].astype(np.uint8), y[:9])
    layers = [
        Conv2D(2, 3, activation="relu", name="first", padding="same"),
        DepthwiseConv2D(3, activation="relu", name="each"),
        Flatten(),
        Dense(3, name="output"),
    ]
    network = Network(
        layers, Input((4, 4, 1), Format.parse("UQ0.8")), "pictures", Training(epochs=1),
        Quantisation(finetune=0, scale="free"),
    )  # fmt: skip
    as_built_and_with_others(loadable_plan(gategrad.train(network, data), technology), True)


def as_built_and_with_others(planned, known):
    """Run, read, run, and the same with other weights: golden's bits every time."""
    technology, model = planned.technology, planned.model
    file, core = WeightFile.of(planned), Core(planned, technology=technology.simulated())
    x = np.random.default_rng(3).integers(0, 256, (2, model.input.size))
    own, new = file.to_bytes(file.model), other(file.model)
    assert core.known == known
    assert own == load_image(core) and len(own) == core.load_bytes

    async def host(ctx):
        there = Host(ctx, core)
        for now in (file.model, new):
            if now is new or not core.known:
                await there.load(file.to_bytes(now))
            assert (await there.run(x) == now.forward(x)).all()
            assert await there.dump(core.load_bytes) == file.to_bytes(now)
            assert (await there.run(x) == now.forward(x)).all()
        # And at the pace of a line, with nothing read afterwards.
        await there.load(own, gaps=9)
        assert (await there.run(x) == file.model.forward(x)).all()

    sim = Simulator(core)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.run()


def test_for_any_weights_computes_the_same():
    model, data = noise(16, 4)
    wide, x = for_any_weights(model), model.raw_inputs(data.x_test)
    for run in ("forward", "predict"):
        assert (getattr(wide, run)(x) == getattr(model, run)(x)).all()
    assert for_any_weights(wide).hash == wide.hash
    assert structure_hash(wide) == structure_hash(other(wide)) != structure_hash(model)
    # The very worst: every product at its extreme, and a bias as great as their sum.
    spec = wide.node("hidden").spec
    worst = {"weight": np.full((4, 16), spec.weight.min), "bias": np.full(4, -16 * 128 * 255)}
    wide.replace(params={**wide.params, "hidden": worst})


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_outputs_that_are_sums(activation):
    """Of whatever accumulator: another training's may be narrower or wider."""
    x = np.random.default_rng(1).integers(0, 256, (60, 4)).astype(np.uint8)
    data = Dataset("noise", x, np.arange(60) % 3, x[:9], np.arange(9) % 3)
    found = []
    for seed in range(8):
        layers = [Dense(6, activation="relu", name="a"), Dense(3, activation=activation, name="b")]
        training = Training(epochs=1 + 20 * (seed % 2), seed=seed, rate=0.3)
        network = Network(layers, Input((4,), Format.parse("UQ0.8")), "sums", training)
        found.append(gategrad.train(network, data, like=found[0] if found else None))
    assert len({model.out for model in found}) > 1
    file = WeightFile(for_any_weights(found[0]), {})
    for model in found:
        assert (file.adapted(model).forward(x) == model.forward(x)).all()


def test_an_output_that_saturates_stays_as_it_is():
    model, _ = noise(12, 6)
    output = model.output
    requantise = dataclasses.replace(output.spec.requantise, zero_point=3)
    spec = dataclasses.replace(output.spec, requantise=requantise)
    odd = model.replace(nodes=(model.nodes[0], dataclasses.replace(output, spec=spec)))
    assert for_any_weights(odd).out == odd.out
    assert for_any_weights(model).out.width > model.out.width


def test_what_is_read_is_a_model_of_its_own():
    model, _ = noise(12, 6)
    file = WeightFile.of(loadable_plan(model, ECP5))
    new = other(file.model)
    read = file.from_bytes(file.to_bytes(new))
    assert read.hash == new.hash and not read.info
    for name, params in new.params.items():
        spec = read.node(name).spec
        assert (read.float_params[name]["weight"] == spec.weight.real(params["weight"])).all()
        assert (read.float_params[name]["bias"] == spec.requantise.acc.real(params["bias"])).all()


def test_without_weights_there_is_nothing_to_load():
    layers = [GlobalAveragePool(name="mean")]
    network = Network(layers, Input((4, 4, 2), Format.parse("UQ0.8")), "means")
    x, y = np.zeros((20, 4, 4, 2), np.uint8), np.arange(20) % 2
    model = gategrad.train(network, Dataset("zeros", x, y, x[:2], y[:2]))
    with pytest.raises(GategradError, match="means has no weights that could be loaded"):
        plan_for(model, "ulx3s-25f", loadable=True)


def test_files(tmp_path):
    model, _ = noise(12, 6)
    file = WeightFile.of(loadable_plan(model, ECP5))
    model.save(tmp_path / "model.npz")
    file.write(tmp_path)
    again = WeightFile.read(tmp_path)
    assert again.hash == file.hash and again.model.hash == file.model.hash
    new = other(file.model)
    assert again.from_bytes(again.to_bytes(new)).hash == new.hash
    assert len(again.to_bytes(new)) == again.size
    said = json.loads((tmp_path / "weights.json").read_text())
    for broken in (
        "{}", "[", "[" * 100_000, json.dumps(said | {"hash": "00"}),
        json.dumps(said | {"layers": {"hidden": said["layers"]["hidden"]}}),
        json.dumps(said | {"layers": {k: v | {"pe": 0} for k, v in said["layers"].items()}}),
        json.dumps(said | {"layers": {k: v | {"pe": 7} for k, v in said["layers"].items()}}),
    ):  # fmt: skip
        (tmp_path / "weights.json").write_text(broken)
        with pytest.raises(GategradError, match=r"weights\.json is damaged .* build again"):
            WeightFile.read(tmp_path)
    (tmp_path / "weights.json").unlink()
    with pytest.raises(GategradError, match=r"has no weights\.json: was it built with --loadable"):
        WeightFile.read(tmp_path)


@pytest.mark.parametrize("sizes", [(4, 8, 3), (5, 7, 2), (2, 8, 3)])
@pytest.mark.parametrize("board", ["ulx3s-25f", "hx8k"])
def test_files_of_small_networks(tmp_path, sizes, board):
    """Whose buffers are of logic."""
    inputs, *units = sizes
    x = np.random.default_rng(1).integers(0, 256, (40, inputs)).astype(np.uint8)
    y = np.arange(40) % units[-1]
    layers = [Dense(n, name=f"layer{k}") for k, n in enumerate(units)]
    network = Network(layers, Input((inputs,), Format.parse("UQ0.8")), "small", Training(epochs=1))
    model = gategrad.train(network, Dataset("noise", x, y, x[:9], y[:9]))
    file = WeightFile.of(plan_for(model, board, loadable=True))
    model.save(tmp_path / "model.npz")
    file.write(tmp_path)
    new = other(file.model)
    assert WeightFile.read(tmp_path).from_bytes(file.to_bytes(new)).hash == new.hash


def test_models_that_do_not_fit():
    model, _ = noise(12, 6)
    file = WeightFile.of(loadable_plan(model, ECP5))
    assert file.adapted(model).hash == file.model.hash
    output = model.node("output")
    spec = output.spec

    def changed(**changes):
        node = dataclasses.replace(output, spec=dataclasses.replace(spec, **changes))
        return model.replace(nodes=(model.nodes[0], node))

    wider = dataclasses.replace(spec.weight, width=9)
    hidden = dataclasses.replace(model.nodes[0], name="covert")
    params = {"covert": model.params["hidden"], "output": model.params["output"]}
    renamed = model.replace(
        nodes=(hidden, dataclasses.replace(output, inputs=("covert",))), params=params
    )
    for odd, message in (
        (changed(weight=wider), "layer 'output' differs, .*weight Q2.7 and not Q1.7: only weights"),
        (model.replace(grids={"output": Grid(model.out, 0.3)}), "stand for other numbers"),
        (renamed, "the model has no layer 'hidden'; the board has"),
    ):
        with pytest.raises(GategradError, match=message):
            file.adapted(odd)
